"""The report says which index was chosen, from what, and what it finds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from retrieval.report import page as report
from retrieval.report.page import index_for_page
from retrieval.runs.run import Run
from retrieval.runs.stages import STAGES


def point(kind: str, p50_us: float, recall: float) -> dict[str, Any]:
    """Return a measured point as `index/params.json` has it."""
    recalls = {f"recall@{k}": recall for k in (1, 10, 100)}
    times = {"p50_us": p50_us, "p99_us": 2 * p50_us, "mean_us": p50_us}
    return {"kind": kind, "search": {"nprobe": round(p50_us)}, **recalls, **times, "memory_mb": 1.5, "build_s": 2.0}


PARAMETERS = {
    "kind": "ivf_sq8",
    "metric": "inner_product",
    "is_exact": False,
    "items": 50_000,
    "recall_target": 0.95,
    "target_met": True,
    "search": {"nprobe": 300},
    "frontier": [point("flat", 900, 1.0), point("ivf_sq8", 300, 0.96), point("ivf_sq8", 200, 0.91)],
    "measured": {"queries": 500, "index_recall@1": 0.99, "index_recall@10": 0.97, "index_recall@100": 0.9612},
}


def test_the_chosen_point_is_marked_and_exact_search_is_no_line() -> None:
    page = index_for_page(PARAMETERS)
    assert [point["chosen"] for point in page["points"]] == [False, True, False]
    assert [(line.name, list(line.x), list(line.y)) for line in page["lines"]] == [
        ("ivf_sq8", [200, 300], [0.91, 0.96])
    ]


def test_the_page_shows_what_an_approximate_index_finds(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run.open(run_dir, STAGES)
    assert "exact." in report.render(run)
    monkeypatch.setattr(report, "index_for_page", lambda _: index_for_page(PARAMETERS))
    page = report.render(run)
    assert "ivf_sq8 (chosen)" in page
    assert "on 500 test queries it finds 0.9900, 0.9700, 0.9612" in page
    assert "recall@100 over median, microseconds" in page
