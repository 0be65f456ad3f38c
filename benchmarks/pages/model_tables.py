"""The tables of docs/models.md, from `benchmarks/results/`; benchmarks/pages/readme.py puts them there."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness import RESULTS
from retrieval.report.tables import read_json

Entry = Mapping[str, Any]
UNSEEN = {"recall@10, unseen": "unseen.recall@10", "recall@100, unseen": "unseen.recall@100"}
STUDIES: dict[str, tuple[str, int, dict[str, str]]] = {
    "ratings": ("multi-task: rating, ", 3, {**UNSEEN, "RMSE of the rating": "head.rmse", "of biases": "biases.rmse"}),
    "stars": ("multi-task: stars, ", 3, UNSEEN),
    "shop": (
        "multi-task: shop, ",
        3,
        {
            "recall@10 of purchases, all items": "all.recall@10",
            "recall@10 of views, by the vector served for purchases": "view.served",
            "by their own head": "view.own",
        },
    ),
    "warm_start": ("warm start: ", 4, UNSEEN),
    "ranked": ("ranker, ", 4, {"ndcg@10, unseen": "unseen.ndcg@10", "recall@10, unseen": "unseen.recall@10"}),
}
"""How the names of a study's choices begin, the digits of its figures, and these by their headings."""


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
    entries = read_json(RESULTS / "family.json")
    return {"family": _family(entries), **{name: _study(entries, *study) for name, study in STUDIES.items()}}


def _family(entries: Sequence[Entry]) -> str:
    """Return every choice beside the plain towers of its recipe and protocol, whose entry comes first."""
    rows = [
        [
            entry["choice"],
            entry["source"],
            f"`{Path(entry['recipe']).stem}`",
            str(len(entry["seeds"])),
            f"{entry['parameters'] / 1000:,.0f} k",
            _seconds(entry),
            _milliseconds(entry),
            *(_beside(entry, plain, name) for name in UNSEEN.values()),
        ]
        for plain, group in _groups(entries)
        for entry in group
    ]
    lead = (
        "Every choice on the test rows, mean and standard deviation of its seeds; in brackets the difference from the "
        "plain towers of that recipe, seed by seed. Training in CPU seconds, of rankers in seconds on a core; a "
        "request in ms, in process, which leaves out what the network and Triton take."
    )
    headings = ["choice", "from", "recipe", "seeds", "parameters", "training, s", "request, ms", *UNSEEN]
    return f"{lead}\n\n" + table(headings, rows)


def _study(entries: Sequence[Entry], prefix: str, digits: int, figures: Mapping[str, str]) -> str:
    """Return the choices of one study, beside the plain one."""
    plain, group = next(
        (plain, group) for plain, group in _groups(entries) if any(one["choice"].startswith(prefix) for one in group)
    )
    shown = [entry for entry in group if entry is plain or entry["choice"].startswith(prefix)]
    timed = shown[-1]["serve_p50_ms"] is not None
    rows = [
        [
            entry["choice"].removeprefix(prefix),
            *(_beside(entry, plain, name, digits) for name in figures.values()),
            _seconds(entry),
            *([_milliseconds(entry)] if timed else []),
        ]
        for entry in shown
    ]
    headings = ["", *figures, "training, s", *(["request, ms"] if timed else [])]
    lead = f"{len(plain['seeds'])} seeds; in brackets the difference from plain towers, seed by seed:"
    return f"{lead}\n\n" + table(headings, rows)


def _groups(entries: Sequence[Entry]) -> list[tuple[Entry, list[Entry]]]:
    """Return the plain entry of each recipe and protocol, and all entries of these, the plain one first."""
    groups: dict[tuple[str, str], list[Entry]] = {}
    for entry in sorted(entries, key=lambda entry: (entry["choice"] != "plain", entry["choice"])):
        groups.setdefault((entry["recipe"], entry["protocol"]), []).append(entry)
    return [(group[0], group) for _, group in sorted(groups.items())]


def _beside(entry: Entry, plain: Entry, name: str, digits: int = 3) -> str:
    """Return a figure and its difference from the plain towers', where both have it."""
    if name not in entry["metrics"]:
        return ""
    metric, base = entry["metrics"][name], plain["metrics"].get(name)
    text = spread(metric, digits)
    if entry is plain or base is None or entry["seeds"] != plain["seeds"]:
        return text
    differences = [own - other for own, other in zip(metric["values"], base["values"], strict=True)]
    around = f" ± {statistics.stdev(differences):.{digits}f}" if len(differences) > 1 else ""
    return f"{text} ({statistics.fmean(differences):+.{digits}f}{around})"


def _seconds(entry: Entry) -> str:
    return "" if entry["train_s"] is None else f"{entry['train_s']:,.0f}"


def _milliseconds(entry: Entry) -> str:
    return "" if entry["serve_p50_ms"] is None else f"{entry['serve_p50_ms']:.3f}"
