"""Runs side by side, and the peers' table, from what the runs have on disk."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from rich.console import Console
from rich.table import Table

from retrieval.recipes.recipe import load_recipe
from retrieval.report.compare import charts, compare, compare_table, write_page
from retrieval.report.peers import peers_table, rows_for_page
from retrieval.report.tables import CUTOFFS
from retrieval.runs.run import Job, Run, Stage
from retrieval.runs.stages import STAGES
from workflows.errors import StageError

ROOT = Path(__file__).parents[3]


def finished(runs: Path, recall: float, epochs: int, protocol: str = "random split") -> Path:
    """A run whose stages wrote only what a comparison reads."""

    def work(stage: Stage) -> Any:
        def write(job: Job) -> None:
            for output in stage.outputs:
                (job.run.directory / output).mkdir(parents=True) if "." not in output else None
            if stage.name == "train":
                history = [
                    {
                        "epoch": e + 1,
                        "loss": 1.0,
                        "valid_unseen.recall@10": recall * e,
                        "valid_unseen.recall@100": recall,
                    }
                    for e in range(epochs)
                ]
                (job.run.directory / "towers" / "history.json").write_text(json.dumps(history))
                (job.run.directory / "towers" / "towers.json").write_text(json.dumps({"epochs": epochs}))
            if stage.name == "evaluate":
                figures = {"mrr": recall / 2, **{f"recall@{k}": recall * k / 100 for k in CUTOFFS}}
                metrics = {"rows": 20, "items": 9, "protocol": protocol, "all": figures, "unseen": figures}
                (job.run.directory / "metrics.json").write_text(json.dumps(metrics))

        return write

    run = Run.create(load_recipe(ROOT / "recipes" / "movielens-100k.toml"), runs, STAGES)
    for stage in list(run.stages.values())[:5]:
        with run.lock():
            run.execute(replace(stage, work=work(stage)), runs, str)
    return run.directory


@pytest.fixture
def two(tmp_path: Path) -> list[Path]:
    return [finished(tmp_path / "one", 0.25, epochs=3), finished(tmp_path / "two", 0.5, epochs=5)]


def printed(table: Table) -> str:
    console = Console(width=200, markup=False)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def test_runs_stand_side_by_side_under_names_that_tell_them_apart(two: list[Path]) -> None:
    comparison = compare(two)
    assert comparison["same_task"]
    assert [run["name"] for run in comparison["runs"]] == [str(path) for path in two]
    text = printed(compare_table(comparison))
    assert "unseen recall@100" in text
    assert "0.2500" in text
    assert "0.5000" in text
    assert "[bold]" not in text


def test_runs_measured_on_different_tasks_are_called_out(tmp_path: Path, two: list[Path]) -> None:
    third = finished(tmp_path / "three", 0.1, epochs=1, protocol="temporal split")
    comparison = compare([*two, third])
    assert not comparison["same_task"]
    assert "not the same task" in printed(compare_table(comparison))
    write_page(comparison, tmp_path / "page.html")
    assert "not measured on the same task" in (tmp_path / "page.html").read_text()


def test_every_run_has_its_line_in_every_chart(two: list[Path]) -> None:
    drawn = dict(charts(compare(two)["runs"]))
    assert list(drawn) == [
        "test recall@k, all items",
        "test recall@k, without what the user already had",
        "validation recall@10, unseen items",
        "validation recall@100, unseen items",
    ]
    points = {
        title: [len(line.findall("circle")) for line in ElementTree.fromstring(svg).findall("g")]
        for title, svg in drawn.items()
    }
    assert points["validation recall@10, unseen items"] == [3, 5]
    assert points["test recall@k, all items"] == [len(CUTOFFS)] * 2


def test_the_page_is_complete_and_loads_nothing(two: list[Path], tmp_path: Path) -> None:
    write_page(compare(two), tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert page.count("<svg") == 4
    assert "{%" not in page
    assert "http" not in page
    assert json.loads((tmp_path / "page.json").read_text()) == compare(two)


def test_a_page_that_is_no_html_is_refused(two: list[Path], tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"page\.png.*\.html"):
        write_page(compare(two), tmp_path / "page.png")


def test_a_run_that_was_not_evaluated_is_named(two: list[Path]) -> None:
    (two[1] / "metrics.json").unlink()
    with pytest.raises(StageError, match=f"{two[1]}: stage 'evaluate'"):
        compare(two)


def peers() -> dict[str, Any]:
    figures = {"recall@10": 0.125, "recall@100": 0.5, "ndcg@10": 0.0625}
    bounds = {name: [value - 0.01, value + 0.01] for name, value in figures.items()}
    measured = {
        "all": figures,
        "unseen": figures,
        "intervals": {"all": bounds, "unseen": bounds},
        "search_seconds": None,
        "fit_seconds": 12.34,
    }
    missing = {"name": "ALS", "skipped": "needs [peers]"}
    return {"rows": 1000, "users": 10, "items": 5, "models": [{"name": "two-tower", "lead": {}, **measured}, missing]}


def test_the_peers_table_shows_intervals_and_why_one_is_missing() -> None:
    text = printed(peers_table(peers()))
    for shown in ("0.1250", "0.115–0.135", "12.3", "ALS is left out: needs [peers]"):
        assert shown in text


def test_the_report_leaves_the_peers_out_until_they_are_measured() -> None:
    assert rows_for_page(None) == []
    ours, missing = rows_for_page(peers())
    assert len(ours["cells"]) == 8
    assert missing["skipped"] == "needs [peers]"
