"""Item vectors to a FAISS index."""

from __future__ import annotations

from typing import Any

import faiss
import numpy as np

from ensemble.config import Index


def build_index(vectors: np.ndarray, config: Index) -> tuple[bytes, dict[str, Any]]:
    """Return the index of the item vectors, float32 [items, d], in FAISS's own format, and its parameters.

    `faiss.read_index` reads the bytes (https://github.com/facebookresearch/faiss/wiki/Index-IO,-cloning-and-hyper-parameter-tuning).
    """
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(np.ascontiguousarray(vectors, dtype=np.float32))
    parameters = {"format": 1, "kind": config.kind, "metric": "inner_product", "items": len(vectors), "is_exact": True}
    return faiss.serialize_index(index).tobytes(), parameters
