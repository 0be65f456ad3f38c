"""What a recipe will cost, as one document: parameters, memory, disk, time; and what a run cost, beside it."""

from __future__ import annotations

import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import psutil

from ensemble.config import Index
from models.baselines.factors import KINDS, tried
from models.config import Model
from retrieval.plan.levers import Setup, advise
from retrieval.plan.memory import FLOAT, dense_numbers, device, disk, logits, serving, step_traffic, training
from retrieval.plan.parameters import factor_width, parameters, total
from retrieval.plan.probe import Measured, Question
from retrieval.plan.shapes import Shapes
from retrieval.recipes.recipe import Recipe
from retrieval.report.tables import read_json
from workflows.errors import StageError

BASE = 800_000_000
"""Bytes of Python, TensorFlow, Merlin, traced graphs and the export, as measured for the recipes of `recipes/`."""
STEP_SECONDS, BYTES_PER_SECOND, LOGIT_SECONDS = 0.004, 9e9, 4e-9
"""A step takes so long however small it is, for what it computes and moves, and for the products of each logit, where
`product_seconds` is PRODUCT."""
PRODUCT = 0.0108
UPDATED = 8
"""Bytes that take as long as updating a number: Adam goes through its gradient, its moments and itself at once."""
FITTING = 0.7
"""Steps are timed only where the recipe takes less than this share of the memory that is free."""
_SERVING = """
import ensemble.serving.retriever, ensemble.serving.query.tower, faiss, psutil
print(psutil.Process().memory_info().rss)
"""


def estimated(recipe: Recipe, shapes: Shapes, product: float) -> Measured:
    """Return what a rehearsal would measure, from the sizes and `product_seconds`: docs/plan.md says how far off."""
    moved = sum(step_traffic(shapes, recipe.model, recipe.train).values())
    moved += UPDATED * dense_numbers(shapes, recipe.model, recipe.train)
    computed = moved / BYTES_PER_SECOND + LOGIT_SECONDS * logits(shapes, recipe.train)
    seconds = product / PRODUCT * (STEP_SECONDS + computed)
    return Measured(imports_bytes=None, base_bytes=BASE, seconds_per_step=seconds)


def product_seconds() -> float:
    """Return how long this machine takes now for a softmax of 512 rows and 8,192 items, the shortest of some times."""
    random = np.random.default_rng(0)
    queries, items = random.random((512, 64), np.float32), random.random((64, 8192), np.float32)

    def once() -> float:
        start = time.perf_counter()
        np.exp(queries @ items).sum(axis=1)
        return time.perf_counter() - start

    return min(once() for _ in range(30))


def rehearse(recipe: Recipe, shapes: Shapes, features: Path | None) -> Measured:
    """Rehearse the train stage in another process and return what was measured there.

    Raises
    ------
    StageError
        The rehearsal failed, as the training would; quotes its last line.
    """
    counted = training(shapes, recipe.model, recipe.train).counted
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "measured.json"
        question = Question(
            model=recipe.model,
            train=recipe.train,
            device=recipe.device,
            shapes=shapes,
            out=str(out),
            features=None if features is None else str(features.absolute()),
            timed=counted < FITTING * psutil.virtual_memory().available,
        )
        command = [sys.executable, "-I", "-m", "retrieval.plan.probe"]
        sent = msgspec.json.encode(question)
        done = subprocess.run(command, input=sent, capture_output=True, check=False, cwd=folder)
        if done.returncode or not out.is_file():
            last = (done.stderr.decode(errors="replace").strip().splitlines() or ["no message"])[-1]
            raise StageError(f"the rehearsal of the train stage failed: {last}")
        return msgspec.json.decode(out.read_bytes(), type=Measured)


def serving_base() -> int:
    """Return what a process takes that has loaded the serving code and no release, bytes."""
    done = subprocess.run([sys.executable, "-I", "-c", _SERVING], capture_output=True, text=True, check=True)
    return int(done.stdout)


def plan(
    recipe: Recipe, shapes: Shapes, measured: Measured, serving_bytes: int = 0, budget: int | None = None
) -> dict[str, Any]:
    """Return everything that can be told before the recipe is run; sizes are in bytes."""
    model, train = recipe.model, recipe.train
    counts, host = parameters(shapes.query, shapes.item, model), training(shapes, model, train)
    dim = model.tower[-1] + factor_width(model, shapes.users, shapes.items)
    kind, index = index_of(recipe.index, shapes.items, dim)
    steps = shapes.rows["train"] // min(train.batch_size, shapes.rows["train"])
    server = {"base": serving_bytes, **serving(shapes, model, index, recipe.serving.instances)}
    disk_use, card = disk(shapes, model, train, index), device(shapes, model, train)
    seconds = measured.seconds_per_step
    advice = None if budget is None else advise(Setup(shapes, model, train), measured.base_bytes, budget)
    return {
        "recipe": recipe.name,
        "data": {
            "rows": dict(shapes.rows),
            "users": shapes.users,
            "items": shapes.items,
            "from": shapes.origin,
            "assumed": list(shapes.assumed),
        },
        "parameters": {**counts, "total": total(counts, model)},
        "training": {
            "base": measured.base_bytes,
            "imports": measured.imports_bytes,
            "measured": measured.imports_bytes is not None,
            "stays": dict(host.stays),
            "passes": dict(host.passes),
            "peak": measured.base_bytes + host.counted,
            "gpu": {**card, "total": sum(card.values())},
            "steps_per_epoch": steps,
            "seconds_per_epoch": None if seconds is None else seconds * steps,
            "epochs_at_most": train.epochs,
            "blend_fits": _blend_fits(shapes, model),
            "peers_seconds_at_most": recipe.evaluate.peers_seconds * len(set(recipe.evaluate.peers) - {"popularity"}),
        },
        "serving": {**server, "total": sum(server.values())},
        "index": {"kind": kind, "bytes": index},
        "disk": {**disk_use, "total": sum(disk_use.values())},
        "budget": None if advice is None else asdict(advice),
        "rehearsal_seconds": measured.rehearsal_seconds,
    }


def _blend_fits(shapes: Shapes, model: Model) -> int:
    rank = factor_width(model, shapes.users, shapes.items)
    return sum(len(tried(kind, shapes.rows["train"], rank)) for kind in KINDS) if model.blend else 0


def index_of(config: Index, items: int, dim: int) -> tuple[str, int]:
    """Return the kind of the index and its size, bytes, beside the item vectors.

    `auto` chooses by measuring; until then the largest that it may choose is counted.
    """
    from ensemble.index.build import COMPARED_ITEMS

    if config.kind == "flat" or (config.kind == "auto" and items <= COMPARED_ITEMS):
        return "flat", 0
    lists = config.nlist or max(1, min(round(4 * math.sqrt(items)), items // 40))
    centroids = lists * dim * FLOAT
    sizes = {
        "ivf_flat": items * (dim * FLOAT + 8) + centroids,
        "ivf_sq8": items * (dim + 8) + centroids,
        "ivf_pq": items * (dim // 4 + 8) + centroids,  # half as many codes as numbers, of four bits
        "hnsw": items * (dim + 2 * config.links * FLOAT + 8),
    }
    if config.kind == "scann":
        return "scann", items * (dim // 2 + 4) + round(2 * math.sqrt(items)) * dim * FLOAT
    if config.kind != "auto":
        return config.kind, sizes.get(config.kind, 0)  # 0: the items are elsewhere, as Milvus's are
    limit = (config.memory_budget_mb or math.inf) * 1e6
    kind = max((kind for kind, size in sizes.items() if size <= limit), key=lambda kind: sizes[kind], default="flat")
    return f"auto (at most {kind})", sizes.get(kind, 0)


def measured_of(run: Path) -> dict[str, Any]:
    """Return what a run cost, as far as its stages have finished; sizes are in bytes."""
    measured: dict[str, Any] = {}
    cost = run / "towers" / "cost.json"
    if cost.is_file():
        stated = read_json(cost)
        numbers = sum(sum(tower.values()) for tower in stated["parameters"].values())
        measured = {
            "peak": stated["peak_rss_bytes"],
            "seconds_per_epoch": stated["seconds_per_epoch"],
            "parameters": numbers,
        }
    index = run / "release" / "index" / "items.faiss"
    if (run / "release").is_dir():
        measured["index"] = index.stat().st_size if index.is_file() else 0
    for name in ("tables", "features", "towers", "release", "triton"):
        if (run / name).is_dir():
            measured[f"disk.{name}"] = sum(file.stat().st_size for file in (run / name).rglob("*") if file.is_file())
    return measured


def compared(planned: Mapping[str, Any], measured: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return predicted against measured, one row each for which there are both."""
    stage, disk_use = planned["training"], planned["disk"]
    predicted = {
        "peak": stage["peak"],
        "seconds_per_epoch": stage["seconds_per_epoch"],
        "parameters": planned["parameters"]["total"],
        "index": planned["index"]["bytes"],
        **{f"disk.{name}": disk_use[name] for name in ("tables", "features", "towers", "release")},
        "disk.triton": disk_use["Triton repository"],
    }
    return [
        {"what": name, "predicted": predicted[name], "measured": value, "ratio": _ratio(predicted[name], value)}
        for name, value in measured.items()
    ]


def _ratio(predicted: float | None, measured: float) -> float | None:
    return None if predicted is None or not measured else round(predicted / measured, 3)
