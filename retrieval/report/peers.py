"""Our model beside those it has to beat, and the verdict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Column, Table

COLUMNS = tuple((protocol, name) for protocol in ("unseen", "all") for name in ("recall@10", "recall@100", "ndcg@10"))


def peers_table(comparison: Mapping[str, Any]) -> Table:
    """One row per model: each figure with its 95 % interval, and the seconds."""
    facts = f"{comparison['rows']:,} test rows of {comparison['users']:,} users, {comparison['items']:,} items"
    headings = [*(f"{protocol}\n{name}" for protocol, name in COLUMNS), "search,\ns", "fit,\ns"]
    columns = (Column(heading, justify="right", no_wrap=True) for heading in headings)
    table = Table("", *columns, title=f"{facts}; 95 % intervals over users")
    for model in comparison["models"]:
        table.add_row(*_cells(model))
    notes = [f"{model['name']} is left out: {model['skipped']}" for model in comparison["models"] if "skipped" in model]
    table.caption = "\n".join(["our fit is the whole stage train; settings were chosen on validation rows", *notes])
    return table


def verdict_lines(metrics: Mapping[str, Any]) -> list[str]:
    """Return the verdict, how it was found, and what to try, a line each; none of an evaluation without one."""
    verdict = metrics.get("verdict")
    if verdict is None:
        return []
    return [f"verdict: {verdict['text']} ({verdict['method']})", *(f"  try: {advice}" for advice in verdict["try"])]


def rows_for_page(comparison: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Return what the report shows: per model its cells, or why it was left out."""
    models = comparison["models"] if comparison else []
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
