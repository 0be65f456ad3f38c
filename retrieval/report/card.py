"""The model card (Mitchell et al. 2019): what a model is, what of, how it was chosen, and what is not known of it."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from retrieval.report.tables import asked_rows
from retrieval.runs.run import Run

NOT_STATED = "not stated: a field of [card] in the recipe"
LIMITS = (
    "Figures are of choices that were made without this model: what people do when they are shown its answers was not "
    "measured, and popular items have more test rows.",
)


def card(run: Run) -> dict[str, tuple[str, ...]]:
    """Return the card of a finished run: its lines, and what is said in each."""
    metrics = json.loads(run.metrics.read_bytes())
    manifest = json.loads((run.release / "manifest.json").read_bytes())
    said, counts = run.recipe.card, manifest["counts"]
    known = f"{counts['interactions']:,} interactions of {counts['users']:,} users with {counts['items']:,} items"
    return {
        "what it is for": (said.description or NOT_STATED,),
        "model": _model(run),
        "licence": (said.licence or NOT_STATED,),
        "contact": (said.contact or NOT_STATED,),
        "data": (said.data or _source(run), known),
        "licence of the data": (said.data_licence or NOT_STATED,),
        "split": (metrics["protocol"], f"{asked_rows(metrics)} of {metrics['users']:,} users"),
        "figures": tuple(_figures(metrics)),
        "limits": (*LIMITS, *_unknown(metrics), *said.limits),
    }


def _model(run: Run) -> tuple[str, ...]:
    towers = json.loads((run.towers / "towers.json").read_bytes())
    sides = {"query": run.recipe.query, "item": run.recipe.item}
    columns = [f"{side}: {', '.join(chosen.features)}" for side, chosen in sides.items()]
    return (
        "two towers, queries and items in one space, answered by nearest neighbours"
        + (", then ranked" if run.recipe.ranking else "")
        + f"; {towers['parameters']:,} parameters, vectors of {towers['dim']} numbers, {towers['epochs']} epochs",
        "; ".join(columns),
    )


def _source(run: Run) -> str:
    """Return where the recipe takes the tables from."""
    data = msgspec.to_builtins(run.recipe.data)
    return " ".join(str(data[name]) for name in ("source", "variant") if data.get(name))


def _figures(metrics: dict[str, Any]) -> list[str]:
    """Return what is served beside popularity and the best simple model, among unseen items."""
    models = [model for model in metrics["comparison"]["models"] if "skipped" not in model]
    best = max(models[2:], key=lambda model: float(model["unseen"]["recall@10"]), default=None)
    shown = [*models[:2], *([best] if best else [])]
    told = [
        f"{model['name']}: " + ", ".join(f"{name} {model['unseen'][name]:.4f}" for name in ("recall@10", "ndcg@10"))
        for model in shown
    ]
    return [*told, *([metrics["verdict"]["text"]] if "verdict" in metrics else [])]


def _unknown(metrics: dict[str, Any]) -> list[str]:
    """Return what is known of users and items that training has not seen."""
    return [
        f"{kind}: recall@10 {group['unseen']['recall@10']:.4f} on {group['rows']:,} test rows"
        for kind, group in metrics["groups"].items()
        if kind in ("user unknown", "item unknown")
    ]
