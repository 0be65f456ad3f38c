"""Our model beside those it has to beat, as `retrieval evaluate --peers` measures them."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from rich.table import Table

from retrieval.report.tables import read_json
from retrieval.runs.recipe import Recipe
from retrieval.runs.run import Job, Stage
from workflows.files import atomic_write, json_bytes

COLUMNS = tuple((protocol, name) for protocol in ("unseen", "all") for name in ("recall@10", "recall@100", "ndcg@10"))


def measure(job: Job) -> None:
    """`features/` and `towers/` -> `peers.json`."""
    from models.baselines.comparison import compare

    train_seconds = float(read_json(job.run / "stages" / "train.json")["seconds"])
    recipe, run = job.recipe, job.run
    rating = recipe.train.objective.rating
    found = compare(run / "features", run / "towers", rating, train_seconds, recipe.seed, job.progress)
    atomic_write(job.run / "peers.json", json_bytes(found, 2))


def _settings(recipe: Recipe) -> dict[str, Any]:
    """With the library for ALS installed later, the peers are measured again."""
    try:
        return {"seed": recipe.seed, "implicit": version("implicit")}
    except PackageNotFoundError:
        return {"seed": recipe.seed, "implicit": None}


PEERS = Stage("peers", measure, outputs=("peers.json",), needs=("features", "train"), settings=_settings)
"""Not one of `retrieval run`'s stages: it is run when it is asked for."""


def peers_table(found: Mapping[str, Any]) -> Table:
    """One row per model: each figure with its 95 % interval, and the seconds."""
    facts = f"{found['rows']:,} test rows of {found['users']:,} users, {found['items']:,} items"
    table = Table(title=f"{facts}; 95 % intervals over users")
    table.add_column("")
    for protocol, name in COLUMNS:
        table.add_column(f"{protocol}\n{name}", justify="right", no_wrap=True)
    for heading in ("search, s", "fit, s"):
        table.add_column(heading.replace(", ", ",\n"), justify="right", no_wrap=True)
    for model in found["models"]:
        table.add_row(*_cells(model))
    notes = [f"{model['name']} is left out: {model['skipped']}" for model in found["models"] if "skipped" in model]
    table.caption = "\n".join(["our fit is the whole stage train; settings were chosen on validation rows", *notes])
    return table


def rows_for_page(found: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Return what the report shows: per model its cells, or why it was left out."""
    models = found["models"] if found else []
    return [
        {
            "name": model["name"],
            "skipped": model.get("skipped"),
            "cells": [] if "skipped" in model else _cells(model)[1:],
        }
        for model in models
    ]


def _cells(model: Mapping[str, Any]) -> list[str]:
    if "skipped" in model:
        return [model["name"]]
    figures = [_figure(model[protocol][name], model["intervals"][protocol][name]) for protocol, name in COLUMNS]
    return [model["name"], *figures, _seconds(model["search_seconds"]), _seconds(model["fit_seconds"])]


def _figure(value: float, bounds: list[float]) -> str:
    return f"{value:.4f}\n{bounds[0]:.3f}–{bounds[1]:.3f}"


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}" if value >= 1 else f"{value:.2f}"
