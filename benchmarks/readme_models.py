"""The tables of docs/models.md, from `benchmarks/results/`; benchmarks/readme.py puts them there."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness import RESULTS

from retrieval.report.tables import read_json

Entry = Mapping[str, Any]
MEANS = {"means of the training rows": "", "means of each part itself": ", own means"}
FIGURES = ("auc", "log_loss")
SHOP = {
    "recall@10 of purchases, all items": ("heads", "all.recall@10"),
    "the same, one vector for all kinds": ("no heads", "all.recall@10"),
    "recall@10 of views, by the vector served for purchases": ("heads", "view.served"),
    "recall@10 of views, by their own head": ("heads", "view.own"),
}
"""Lines of a table: title, line of the results, figure."""
STARS = {
    "recall@10, unseen films, a head for each kind": ("heads", "unseen.recall@10"),
    "recall@10, unseen films, one vector for all": ("no heads", "unseen.recall@10"),
    "recall@100, unseen films, a head for each kind": ("heads", "unseen.recall@100"),
    "recall@100, unseen films, one vector for all": ("no heads", "unseen.recall@100"),
}


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def spread(found: Entry, digits: int = 3) -> str:
    """Return mean and standard deviation; the mean alone of what was measured once."""
    once = found["sd"] == 0 or len(found.get("values", "..")) == 1
    return f"{found['mean']:.{digits}f}" + ("" if once else f" ± {found['sd']:.{digits}f}")


def rendered() -> dict[str, str]:
    """Return every table, by the name that the page's marks give."""
    tasks, ranking = read_json(RESULTS / "multitask.json"), read_json(RESULTS / "ranking.json")
    return {
        "family": _family(read_json(RESULTS / "family.json")),
        "ratings": _ratings([one for one in tasks if one["experiment"] == "rating"]),
        "shop": _events([one for one in tasks if one["experiment"] == "shop"], SHOP),
        "stars": _events([one for one in tasks if one["experiment"] == "stars"], STARS),
        "growing": _growing(read_json(RESULTS / "growing.json")),
        "rated": _rated([one for one in ranking if one["measured"] == "rated"]),
        "ranked": _ranked(ranking),
    }


def _family(entries: list[dict[str, Any]]) -> str:
    """Return every choice beside the plain towers of its recipe and protocol, whose entry comes first."""
    plain = {(one["recipe"], one["protocol"]): one for one in entries if one["choice"] == "plain"}
    order = sorted(entries, key=lambda one: (one["recipe"], one["protocol"], one["choice"] != "plain"))
    rows = [
        [
            one["choice"],
            one["source"],
            f"`{Path(one['recipe']).stem}`",
            str(len(one["seeds"])),
            "" if one["parameters"] is None else f"{one['parameters'] / 1000:,.0f} k",
            "" if one["train_s"] is None else f"{one['train_s']:,.0f}",
            "" if one["serve_p50_ms"] is None else f"{one['serve_p50_ms']:.3f}",
            "; ".join(
                _gain(one, plain.get((one["recipe"], one["protocol"])), name) for name in list(one["metrics"])[:2]
            ),
        ]
        for one in order
    ]
    lead = (
        "Every choice on the test rows, mean of its seeds; in brackets the difference from the plain towers of that "
        "recipe, seed by seed, with its standard deviation. Training in CPU seconds, of rankers in seconds on a core; "
        "a request in ms, in process, which leaves out what the network and Triton take."
    )
    headings = ["choice", "from", "recipe", "seeds", "parameters", "training, s", "request, ms", "measured"]
    return f"{lead}\n\n" + table(headings, rows)


def _gain(one: Entry, plain: Entry | None, name: str) -> str:
    found = one["metrics"][name]
    text = f"{name} {found['mean']:.3f}"
    if plain is None or plain is one or name not in plain["metrics"] or plain["seeds"] != one["seeds"]:
        return text
    return f"{text} ({_difference(found['values'], plain['metrics'][name]['values'])})"


def _beside(found: Entry, base: Entry) -> str:
    return spread(found, 4) + ("" if found is base else f" ({_difference(found['values'], base['values'], 4)})")


def _difference(ours: Sequence[float], theirs: Sequence[float], digits: int = 3) -> str:
    differences = [one - other for one, other in zip(ours, theirs, strict=True)]
    around = f" ± {statistics.stdev(differences):.{digits}f}" if len(differences) > 1 else ""
    return f"{statistics.fmean(differences):+.{digits}f}{around}"


def _over_weights(entries: Sequence[Entry], line: str, metric: str, weights: Sequence[float | None]) -> list[str]:
    found = {one["weight"]: one["metrics"] for one in entries if one["line"] in (line, "learned")}
    return [spread(found[one][metric]) if metric in found.get(one, {}) else "" for one in weights]


def _weights(entries: Sequence[Entry]) -> list[float | None]:
    found = {one["weight"] for one in entries}
    return [*sorted(one for one in found if one is not None), *([None] if None in found else [])]


def _named(weights: Sequence[float | None]) -> list[str]:
    return ["learned" if one is None else f"{one:g}" for one in weights]


def _ratings(entries: list[dict[str, Any]]) -> str:
    weights = _weights(entries)
    lines = {
        "recall@10, unseen films": "unseen.recall@10",
        "recall@100, unseen films": "unseen.recall@100",
        "RMSE of the rating": "head.rmse",
    }
    rows = [[what, *_over_weights(entries, "joint", metric, weights)] for what, metric in lines.items()]
    biases = spread(entries[0]["metrics"]["biases.rmse"])
    lead = f"{len(entries[0]['seeds'])} seeds; biases of user and film alone have an RMSE of {biases}:"
    return f"{lead}\n\n" + table(["share of the loss", *_named(weights)], rows)


def _events(entries: list[dict[str, Any]], what: Mapping[str, tuple[str, str]]) -> str:
    weights = _weights(entries)
    rows = [[name, *_over_weights(entries, *which, weights)] for name, which in what.items()]
    return f"{len(entries[0]['seeds'])} seeds:\n\n" + table(["weight of the others", *_named(weights)], rows)


def _growing(found: dict[str, Any]) -> str:
    rows = [
        [
            choice,
            spread(one["metrics"]["unseen.recall@10"], 4),
            spread(one["metrics"]["unseen.recall@100"], 4),
            spread(one["cpu_s"], 0),
        ]
        for choice, one in found["choices"].items()
    ]
    return f"{len(found['seeds'])} seeds:\n\n" + table(
        ["", "recall@10, unseen", "recall@100, unseen", "CPU seconds"], rows
    )


def _rated(entries: list[dict[str, Any]]) -> str:
    by_model: dict[str, dict[str, dict[str, Any]]] = {}
    for one in entries:
        if one["recipe"] == "recipes/rated-100k.toml":
            by_model.setdefault(one["model"], {})[one["means"]] = one
    first = next(iter(MEANS))
    rows = [
        [
            model,
            f"{found[first]['parameters'] / 1000:,.0f} k",
            f"{found[first]['train_s']:,.0f}",
            *(_beside(found[means][name], by_model["two-tower"][means][name]) for means in MEANS for name in FIGURES),
        ]
        for model, found in sorted(by_model.items(), key=lambda pair: pair[1][first]["auc"]["mean"])
    ]
    figures = [f"{name}{more}" for more in MEANS.values() for name in ("AUC", "log loss")]
    return table(["MovieLens-100K", "parameters", "training, CPU s", *figures], rows)


def _ranked(entries: list[dict[str, Any]]) -> str:
    served = [one for one in entries if one["measured"] == "served"]
    spent: dict[str, float] = next((one["p50_ms"] for one in entries if one["measured"] == "latency"), {})
    names, alone = ("unseen.ndcg@10", "unseen.recall@10"), max(served, key=lambda one: len(one["seeds"]))
    figures = [spread(alone["retrieval"][name], 4) for name in names]
    rows = [["retrieval alone", str(len(alone["seeds"])), "", "", *figures, _milliseconds(spent, "retrieval")]]
    for one in served:
        gains = [_difference(one["values"]["ranked"][name], one["values"]["retrieval"][name]) for name in names]
        figures = [f"{spread(one['ranked'][name], 4)} ({gain})" for name, gain in zip(names, gains, strict=True)]
        size, seconds = f"{one['parameters'] / 1000:,.0f} k", f"{one['train_s']:,.0f}"
        rows.append([one["model"], str(len(one["seeds"])), size, seconds, *figures, _milliseconds(spent, one["model"])])
    lead = (
        f"{served[0]['rows']:,} test rows, unseen films, {served[0]['candidates']} candidates; in brackets the "
        "difference from retrieval alone, seed by seed:"
    )
    headings = ["", "seeds", "parameters", "training, s", "ndcg@10", "recall@10", "request, ms"]
    return f"{lead}\n\n" + table(headings, rows)


def _milliseconds(spent: Mapping[str, float], model: str) -> str:
    return f"{spent[model]:.2f}" if model in spent else ""
