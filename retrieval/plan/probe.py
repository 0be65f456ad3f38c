"""A rehearsal of the train stage in a process of its own: what its base takes, and how long a step takes.

`python -m retrieval.plan.probe` reads a `Question` from stdin and writes a `Measured` to the file that it names.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from models.config import Model, Train
from retrieval.plan.memory import training
from retrieval.plan.shapes import Shapes
from workflows.config import Device
from workflows.features.plan import FIRST_ITEM, FeatureSpec

FEW = 64
"""Rows of a table in the rehearsal for memory."""
STEPS = 24
"""Of an epoch in the rehearsal for time; the first epoch, which traces the graph, does not count."""
EPOCHS = 3


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What is rehearsed."""

    model: Model
    train: Train
    device: Device
    shapes: Shapes
    out: str
    features: str | None = None
    """Of the run, where they exist: then steps are timed on its rows."""
    timed: bool = True


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """What was found."""

    imports_bytes: int | None
    """Python with TensorFlow, Merlin and all that the stage imports; None: all this is estimated."""
    base_bytes: int
    """The whole stage on a few rows at its peak, less what `retrieval.plan.memory` counts for these: imports,
    graphs, allocators, the export."""
    seconds_per_step: float | None
    validation_seconds: float | None = None
    rehearsal_seconds: float = 0.0


def main() -> None:
    """Answer the question on stdin."""
    from retrieval.console import silence_libraries

    silence_libraries()
    question = msgspec.json.decode(sys.stdin.buffer.read(), type=Question)
    Path(question.out).write_bytes(msgspec.json.encode(measure(question)))


def measure(question: Question) -> Measured:
    """Rehearse in this process."""
    import time

    from models.training.cost import peak, resident
    from models.training.stage import train as train_towers

    imports, started = resident(), time.monotonic()
    small = shrunk(question.shapes)
    train = msgspec.structs.replace(
        question.train, epochs=2, patience=2, batch_size=min(question.train.batch_size, FEW)
    )
    _rehearse(train_towers, synthetic(small), question, train)
    base = peak() - training(small, question.model, train).counted
    seconds = _seconds_per_step(train_towers, question) if question.timed else None
    return Measured(
        imports_bytes=imports,
        base_bytes=base,
        seconds_per_step=seconds,
        rehearsal_seconds=round(time.monotonic() - started, 1),
    )


def _rehearse(train_towers: Callable[..., None], data: Any, question: Question, train: Train) -> list[dict[str, float]]:
    with tempfile.TemporaryDirectory() as folder:
        towers = msgspec.structs.replace(question.model, blend=None)
        train_towers(data, towers, train, 0, question.device, Path(folder), lambda line: None)
        history: list[dict[str, float]] = json.loads((Path(folder) / "history.json").read_bytes())
    return history


def _seconds_per_step(train_towers: Callable[..., None], question: Question) -> float:
    rows, batch = question.shapes.rows["train"], min(question.train.batch_size, question.shapes.rows["train"])
    steps = min(STEPS, max(1, rows // batch))
    part = {"train": steps * batch, "valid": min(FEW, question.shapes.rows["valid"]), "test": FEW}
    data = real(question.features, part) if question.features else synthetic(replace(question.shapes, rows=part))
    searching = question.train.search_only()
    train = msgspec.structs.replace(searching, epochs=EPOCHS, patience=EPOCHS)
    seconds = sorted(epoch["seconds"] for epoch in _rehearse(train_towers, data, question, train)[1:])
    return seconds[0] / steps


def shrunk(shapes: Shapes) -> Shapes:
    """Return the shapes of a few rows with the same features."""
    query, item = (tuple(_few_codes(spec) for spec in specs) for specs in (shapes.query, shapes.item))
    rows = {"train": 4 * FEW, "valid": FEW, "test": FEW}
    return Shapes(query, item, rows, FEW, FEW, shapes.origin)


def _few_codes(spec: FeatureSpec) -> FeatureSpec:
    codes = FEW + FIRST_ITEM if spec.kind == "sequence" else min(spec.cardinality, FEW)
    return msgspec.structs.replace(spec, cardinality=codes)


def real(directory: str, part: dict[str, int]) -> Any:
    """Return a run's features, cut to some rows of each part, drawn evenly."""
    from workflows.features import stage as features

    data = features.load(Path(directory))
    rng = np.random.default_rng(0)
    cut = {}
    for name, rows in part.items():
        whole = getattr(data, name)
        chosen = np.sort(rng.permutation(len(whole.interactions))[:rows])
        query = {feature: values[chosen] for feature, values in whole.query.items()}
        cut[name] = whole._replace(query=query, interactions=whole.interactions.iloc[chosen].reset_index(drop=True))
    return data._replace(**cut, asked="all")


def synthetic(shapes: Shapes) -> Any:
    """Return made-up features of these shapes."""
    import pandas as pd

    from workflows.features.stage import FeatureSet, Part

    rng = np.random.default_rng(0)
    parts: dict[str, Any] = {
        name: Part(_arrays(shapes.query, rows, rng), _interactions(shapes, rows, rng))
        for name, rows in shapes.rows.items()
    }
    items = np.arange(shapes.items)
    return FeatureSet(
        **parts,
        items=_arrays(shapes.item, shapes.items, rng, dict(shapes.item_lengths)),
        query_specs=list(shapes.query),
        item_specs=list(shapes.item),
        catalogue=pd.DataFrame({"item_id": items}),
        users=pd.DataFrame({"user_id": np.arange(shapes.users)}),
    )


def _interactions(shapes: Shapes, rows: int, rng: np.random.Generator) -> Any:
    import pandas as pd

    items = rng.integers(0, shapes.items, rows)
    return pd.DataFrame(
        {
            "user_id": rng.integers(0, shapes.users, rows),
            "item_id": items,
            "rating": rng.integers(1, 6, rows).astype(np.float32),
            "timestamp": 1_000_000_000 + rng.integers(0, 10**8, rows),
            "item_index": items,
        }
    )


def _arrays(
    specs: tuple[FeatureSpec, ...], rows: int, rng: np.random.Generator, lengths: dict[str, int] | None = None
) -> dict[str, np.ndarray]:
    """Return one array per feature but the history, which is made of the interactions."""
    arrays: dict[str, np.ndarray] = {}
    for spec in specs:
        shape = (rows, spec.max_length) if spec.max_length else (rows,)
        if spec.kind == "sequence":
            continue
        if spec.dtype == "float32":
            arrays[spec.name] = rng.normal(size=shape).astype(np.float32)
            continue
        arrays[spec.name] = rng.integers(min(FIRST_ITEM, spec.cardinality - 1), spec.cardinality, shape)
        if spec.name in (lengths or {}):
            arrays[spec.name][:, (lengths or {})[spec.name] :] = 0
        if spec.kind == "weighted-list":
            arrays[f"{spec.name}_weight"] = np.ones(shape, np.float32)
    return arrays


if __name__ == "__main__":
    main()
