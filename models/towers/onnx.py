"""Running an exported tower, without TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime

from models.metrics import Float32Array


def run_tower(path: Path, features: Mapping[str, np.ndarray], batch_size: int = 8192) -> Float32Array:
    """Run an exported tower over all rows, in batches; float32 `[rows, d]`."""
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    rows = len(next(iter(features.values())))
    feeds = (
        {tensor.name: features[tensor.name][start : start + batch_size] for tensor in session.get_inputs()}
        for start in range(0, rows, batch_size)
    )
    return np.concatenate([session.run(None, feed)[0] for feed in feeds])
