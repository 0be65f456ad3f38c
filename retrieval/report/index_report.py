"""The report's part about the index: what was chosen, beside what it was chosen from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from retrieval.report.charts import Series, line_chart

AT = (1, 10, 100)


def index_for_page(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the page shows of a release's `index/params.json`."""
    frontier: Sequence[Mapping[str, Any]] = parameters.get("frontier", [])
    lines = frontier_lines(frontier)
    return {
        "kind": parameters["kind"],
        "exact": parameters["is_exact"],
        "metric": parameters["metric"].replace("_", " "),
        "size": parameters["items"],
        "search": ", ".join(f"{name} {value}" for name, value in parameters.get("search", {}).items()),
        "target": parameters.get("recall_target"),
        "target_met": parameters.get("target_met", True),
        "recall": [parameters.get("measured", {}).get(f"index_recall@{k}") for k in AT],
        "queries": parameters.get("measured", {}).get("queries", 0),
        "points": [{**point, "chosen": _is_chosen(point, parameters)} for point in frontier],
        "lines": lines,
        "chart": line_chart(lines, "median, microseconds", "recall@100") if lines else "",
    }


def frontier_lines(frontier: Sequence[Mapping[str, Any]]) -> list[Series]:
    """Return recall@100 over the median latency, one line per approximate kind."""
    kinds = dict.fromkeys(point["kind"] for point in frontier if point["kind"] != "flat")
    lines = []
    for kind in kinds:
        points = sorted((point["p50_us"], point["recall@100"]) for point in frontier if point["kind"] == kind)
        lines.append(Series(kind, [x for x, _ in points], [y for _, y in points]))
    return lines


def _is_chosen(point: Mapping[str, Any], parameters: Mapping[str, Any]) -> bool:
    return point["kind"] == parameters["kind"] and point["search"] == parameters["search"]
