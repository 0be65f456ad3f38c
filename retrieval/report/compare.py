"""Runs side by side, as a table, as JSON and as a page with curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from rich.table import Column, Table
from rich.text import Text

from retrieval.report.charts import Series, line_chart, over_epochs
from retrieval.report.tables import CUTOFFS, PROTOCOLS, metric_rows, read_json
from retrieval.runs.run import Run
from workflows.errors import StageError
from workflows.files import atomic_write, json_bytes

MOST_RUNS = 6
"""As many colours as the page has."""


def compare(directories: Sequence[Path]) -> dict[str, Any]:
    """Read what the runs measured, and whether split, rows and items are the `same_task`.

    Raise StageError for what is no run or has no evaluation that is current, and for more than there are colours.
    """
    if len(directories) > MOST_RUNS:
        raise StageError(f"{len(directories)} runs; at most {MOST_RUNS} can be told apart side by side")
    runs = [_read(directory) for directory in directories]
    names = [run["name"] for run in runs]
    for run in runs:
        if names.count(run["name"]) > 1:  # two directories of one name: only their paths tell them apart
            run["name"] = run["run"]
    tasks = {(run["protocol"], run["rows"], run["items"]) for run in runs}
    return {"same_task": len(tasks) == 1, "runs": runs}


def compare_table(comparison: Mapping[str, Any]) -> Table:
    """One column per run, one row per metric; the best of a row is bold."""
    columns = (Column(run["name"], justify="right", overflow="fold") for run in comparison["runs"])
    title = "" if comparison["same_task"] else "not the same task: split, rows or items differ"
    table = Table("", *columns, title=title)
    for name, values in _facts(comparison["runs"]):
        table.add_row(name, *values, end_section=name == "train, s")
    for name, figures in _figures(comparison["runs"]):
        best = max(value for value in figures if value is not None)
        cells = [Text(_number(value), "bold" if value == best else "") for value in figures]
        table.add_row(name, *cells, end_section=name.endswith(("@100", "mrr")))
    return table


def write_page(comparison: Mapping[str, Any], path: Path) -> None:
    """Write the comparison as one self-contained page, NAME.html, and its figures beside it as NAME.json."""
    if path.suffix != ".html":
        raise StageError(f"--out {path}: the comparison is an HTML page; give it a name that ends in .html")
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("retrieval"), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    figures = [(name, [_number(value) for value in values]) for name, values in _figures(comparison["runs"])]
    page = environment.get_template("compare.html.j2").render(
        **comparison, rows=_facts(comparison["runs"]) + figures, charts=charts(comparison["runs"])
    )
    atomic_write(path.with_suffix(".json"), json_bytes(comparison))
    atomic_write(path, page.encode())


def charts(runs: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Return (title, svg): recall over k on the test rows, and validation recall over the epochs; one line per run."""
    drawn = []
    for protocol, heading in PROTOCOLS:
        lines = [Series(run["name"], CUTOFFS, [float(run[protocol][f"recall@{k}"]) for k in CUTOFFS]) for run in runs]
        drawn.append((f"test recall@k, {heading}", line_chart(lines, "k", "recall@k", from_zero=True)))
    for key in ("valid_unseen.recall@10", "valid_unseen.recall@100"):
        lines = [over_epochs(run["name"], run["history"], key) for run in runs]
        if any(line.x for line in lines):
            figure = key.rpartition(".")[2]
            drawn.append((f"validation {figure}, unseen items", line_chart(lines, "epoch", figure)))
    return drawn


def _read(directory: Path) -> dict[str, Any]:
    run = Run.open(directory)
    run.require("train", "evaluate")
    metrics, towers = read_json(directory / "metrics.json"), read_json(directory / "towers" / "towers.json")
    record = run.record("train")
    return {
        "name": directory.resolve().name,
        "run": str(directory),
        **{name: metrics[name] for name in ("protocol", "rows", "items")},
        "seconds": record.seconds if record else None,
        "epochs": towers["epochs"],
        **{protocol: metrics[protocol] for protocol, _ in PROTOCOLS},
        "history": read_json(directory / "towers" / "history.json"),
    }


def _facts(runs: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[str]]]:
    facts = [(name, [f"{run[name]:,}" for run in runs]) for name in ("rows", "items", "epochs")]
    return [*facts, ("train, s", [f"{run['seconds']:,.1f}" for run in runs])]


def _figures(runs: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[float | None]]]:
    return [
        (f"{protocol} {name}", [run[protocol].get(name) for run in runs])
        for protocol in ("unseen", "all")
        for name, _ in metric_rows(runs[0][protocol])
    ]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
