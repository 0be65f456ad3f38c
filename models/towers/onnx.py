"""Exported towers, without TensorFlow: how they lie in a directory, and running them.

A tower is `SIDE.onnx` and, in the folder SIDE, the large embedding tables that it takes as inputs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
import onnxruntime

from models.metrics import Float32Array
from workflows.files import sha256_of

ROWS: Final = 8192
"""Of a batch."""
TABLE: Final = "table/"
"""What the names of those inputs begin with; the rest is the file's name without its suffix."""
PAIRED: Final = ("query.onnx", "item.onnx", "item_vectors.npy")


def run_tower(path: Path, features: Mapping[str, np.ndarray]) -> Float32Array:
    """Run an exported tower over all rows, in batches; float32 `[rows, d]`."""
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    names = [tensor.name for tensor in session.get_inputs()]
    tables = {name: np.load(table_file(path, name), mmap_mode="r") for name in names if name.startswith(TABLE)}
    rows = len(next(iter(features.values())))
    feeds = (
        {name: features[name][start : start + ROWS] for name in names if name not in tables}
        for start in range(0, rows, ROWS)
    )
    return np.concatenate([session.run(None, {**feed, **tables})[0] for feed in feeds])


def table_file(path: Path, name: str) -> Path:
    """Return the file of the table that a tower takes as the input `name`."""
    return path.with_suffix("") / f"{name.removeprefix(TABLE)}.npy"


def files_of(towers: Path) -> list[Path]:
    """Return the files of a training's towers: both graphs, the item vectors and the tables by their paths."""
    tables = (path for side in ("item", "query") for path in sorted((towers / side).glob("*.npy")))
    return [*(towers / name for name in PAIRED), *tables]


def pairing_of(towers: Path) -> str:
    """Return the id that ties towers and item vectors together: SHA-256 over the SHA-256 of each file, hexadecimal."""
    digests = [sha256_of(path) for path in files_of(towers)]
    return hashlib.sha256("".join(digests).encode()).hexdigest()
