"""The table of public data sets, from the results; readme.py puts it into pages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.harness import RESULTS
from benchmarks.pages.model_tables import table
from retrieval.report.tables import read_json

FIGURES = ("recall@10", "ndcg@10", "recall@20", "ndcg@20")
FIRST = "default"


def rendered() -> str:
    """Return the table: the default recipe, simple models and papers, each data set's best figures in bold."""
    entries = read_json(RESULTS / "datasets.json")
    rows = [_row(entry, _best(entries, entry["data"])) for entry in sorted(entries, key=_place)]
    seconds = {
        str(entry["data"]): (
            f"{entry['data']} {entry['run_s']:.0f} s ({entry['cpu_s']:.0f} of CPU), {entry['peak_rss_mb']:,.0f} MB"
        )
        for entry in entries
        if entry["model"] == FIRST and "run_s" in entry  # not of a run that was interrupted and went on
    }
    lead = (
        "What `retrieval init` writes, unedited, beside simple models tuned on the same validation rows; per user, of "
        "unseen items. A whole run on a shared machine, mean over seeds, of which the first has the simple models: "
        + "; ".join(seconds.values())
        + "."
    )
    return f"{lead}\n\n" + table(["data", "model", *FIGURES, "seeds"], rows)


def _place(entry: Mapping[str, Any]) -> tuple[str, int, float]:
    return entry["data"], entry["model"] != FIRST, -entry["recall@20"]


def _best(entries: list[dict[str, Any]], data: str) -> dict[str, float]:
    own = [entry for entry in entries if entry["data"] == data]
    return {name: max(entry.get(name, 0.0) for entry in own) for name in FIGURES}


def _row(entry: Mapping[str, Any], best: Mapping[str, float]) -> list[str]:
    figures = [f"{entry[name]:.3f}" if name in entry else "" for name in FIGURES]
    shown = [
        f"**{text}**" if entry.get(name) == best[name] else text for name, text in zip(FIGURES, figures, strict=True)
    ]
    return [entry["data"], entry["model"], *shown, str(len(entry.get("seeds", []))) or ""]
