"""The tables of docs/models.md, from `benchmarks/results/`; benchmarks/pages/readme.py puts them there."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness import RESULTS
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


def spread(figure: Entry, digits: int = 3) -> str:
    """Return mean and standard deviation; the mean alone of what was measured once."""
    once = figure["sd"] == 0 or len(figure.get("values", "..")) == 1
    return f"{figure['mean']:.{digits}f}" + ("" if once else f" ± {figure['sd']:.{digits}f}")


def rendered() -> dict[str, str]:
    """Return every table, by the name that the page's marks give."""
    tasks, ranking = read_json(RESULTS / "multitask.json"), read_json(RESULTS / "ranking.json")
    return {
        "family": _family(read_json(RESULTS / "family.json")),
        "ratings": _ratings([entry for entry in tasks if entry["experiment"] == "rating"]),
        "shop": _events([entry for entry in tasks if entry["experiment"] == "shop"], SHOP),
        "stars": _events([entry for entry in tasks if entry["experiment"] == "stars"], STARS),
        "warm_start": _warm_start(read_json(RESULTS / "warm_start.json")),
        "rated": _rated([entry for entry in ranking if entry["measured"] == "rated"]),
        "ranked": _ranked(ranking),
    }


def _family(entries: list[dict[str, Any]]) -> str:
    """Return every choice beside the plain towers of its recipe and protocol, whose entry comes first."""
    plain = {(entry["recipe"], entry["protocol"]): entry for entry in entries if entry["choice"] == "plain"}
    order = sorted(entries, key=lambda entry: (entry["recipe"], entry["protocol"], entry["choice"] != "plain"))
    rows = [
        [
            entry["choice"],
            entry["source"],
            f"`{Path(entry['recipe']).stem}`",
            str(len(entry["seeds"])),
            "" if entry["parameters"] is None else f"{entry['parameters'] / 1000:,.0f} k",
            "" if entry["train_s"] is None else f"{entry['train_s']:,.0f}",
            "" if entry["serve_p50_ms"] is None else f"{entry['serve_p50_ms']:.3f}",
            "; ".join(
                _gain(entry, plain.get((entry["recipe"], entry["protocol"])), name)
                for name in list(entry["metrics"])[:2]
            ),
        ]
        for entry in order
    ]
    lead = (
        "Every choice on the test rows, mean of its seeds; in brackets the difference from the plain towers of that "
        "recipe, seed by seed, with its standard deviation. Training in CPU seconds, of rankers in seconds on a core; "
        "a request in ms, in process, which leaves out what the network and Triton take."
    )
    headings = ["choice", "from", "recipe", "seeds", "parameters", "training, s", "request, ms", "measured"]
    return f"{lead}\n\n" + table(headings, rows)


def _gain(entry: Entry, plain: Entry | None, name: str) -> str:
    metric = entry["metrics"][name]
    text = f"{name} {metric['mean']:.3f}"
    if plain is None or plain is entry or name not in plain["metrics"] or plain["seeds"] != entry["seeds"]:
        return text
    return f"{text} ({_difference(metric['values'], plain['metrics'][name]['values'])})"


def _beside(figure: Entry, base: Entry) -> str:
    return spread(figure, 4) + ("" if figure is base else f" ({_difference(figure['values'], base['values'], 4)})")


def _difference(ours: Sequence[float], theirs: Sequence[float], digits: int = 3) -> str:
    differences = [own - other for own, other in zip(ours, theirs, strict=True)]
    around = f" ± {statistics.stdev(differences):.{digits}f}" if len(differences) > 1 else ""
    return f"{statistics.fmean(differences):+.{digits}f}{around}"


def _over_weights(entries: Sequence[Entry], line: str, metric: str, weights: Sequence[float | None]) -> list[str]:
    by_weight = {entry["weight"]: entry["metrics"] for entry in entries if entry["line"] in (line, "learned")}
    return [spread(by_weight[weight][metric]) if metric in by_weight.get(weight, {}) else "" for weight in weights]


def _weights(entries: Sequence[Entry]) -> list[float | None]:
    known = {entry["weight"] for entry in entries}
    return [*sorted(weight for weight in known if weight is not None), *([None] if None in known else [])]


def _named(weights: Sequence[float | None]) -> list[str]:
    return ["learned" if weight is None else f"{weight:g}" for weight in weights]


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


def _warm_start(results: dict[str, Any]) -> str:
    rows = [
        [
            choice,
            spread(choice_figures["metrics"]["unseen.recall@10"], 4),
            spread(choice_figures["metrics"]["unseen.recall@100"], 4),
            spread(choice_figures["cpu_s"], 0),
        ]
        for choice, choice_figures in results["choices"].items()
    ]
    return f"{len(results['seeds'])} seeds:\n\n" + table(
        ["", "recall@10, unseen", "recall@100, unseen", "CPU seconds"], rows
    )


def _rated(entries: list[dict[str, Any]]) -> str:
    by_model: dict[str, dict[str, dict[str, Any]]] = {}
    for entry in entries:
        if entry["recipe"] == "recipes/rated-100k.toml":
            by_model.setdefault(entry["model"], {})[entry["means"]] = entry
    first = next(iter(MEANS))
    rows = [
        [
            model,
            f"{by_kind[first]['parameters'] / 1000:,.0f} k",
            f"{by_kind[first]['train_s']:,.0f}",
            *(_beside(by_kind[means][name], by_model["two-tower"][means][name]) for means in MEANS for name in FIGURES),
        ]
        for model, by_kind in sorted(by_model.items(), key=lambda pair: pair[1][first]["auc"]["mean"])
    ]
    figures = [f"{name}{more}" for more in MEANS.values() for name in ("AUC", "log loss")]
    return table(["MovieLens-100K", "parameters", "training, CPU s", *figures], rows)


def _ranked(entries: list[dict[str, Any]]) -> str:
    served = [entry for entry in entries if entry["measured"] == "served"]
    spent: dict[str, float] = next((entry["p50_ms"] for entry in entries if entry["measured"] == "latency"), {})
    names, alone = ("unseen.ndcg@10", "unseen.recall@10"), max(served, key=lambda entry: len(entry["seeds"]))
    figures = [spread(alone["retrieval"][name], 4) for name in names]
    rows = [["retrieval alone", str(len(alone["seeds"])), "", "", *figures, _milliseconds(spent, "retrieval")]]
    for entry in served:
        gains = [_difference(entry["values"]["ranked"][name], entry["values"]["retrieval"][name]) for name in names]
        figures = [f"{spread(entry['ranked'][name], 4)} ({gain})" for name, gain in zip(names, gains, strict=True)]
        size, seconds = f"{entry['parameters'] / 1000:,.0f} k", f"{entry['train_s']:,.0f}"
        rows.append(
            [entry["model"], str(len(entry["seeds"])), size, seconds, *figures, _milliseconds(spent, entry["model"])]
        )
    lead = (
        f"{served[0]['rows']:,} test rows, unseen films, {served[0]['candidates']} candidates; in brackets the "
        "difference from retrieval alone, seed by seed:"
    )
    headings = ["", "seeds", "parameters", "training, s", "ndcg@10", "recall@10", "request, ms"]
    return f"{lead}\n\n" + table(headings, rows)


def _milliseconds(spent: Mapping[str, float], model: str) -> str:
    return f"{spent[model]:.2f}" if model in spent else ""
