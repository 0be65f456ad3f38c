"""Item vectors to a FAISS index."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import faiss
import numpy as np

from ensemble.config import Index

_EFFORT, _REFINE = 32, 1.5
_FACTORY = {"ivf_flat": "IVF{nlist},Flat", "ivf_sq8": "IVF{nlist},SQ8", "ivf_pq": "IVF{nlist},PQ{m}x4fsr"}


class Built(NamedTuple):
    """An index as it goes into a release."""

    content: bytes | None
    """`index/items.faiss`, in FAISS's own format; None: every item is compared, for which the vectors do."""
    parameters: dict[str, Any]
    """`index/params.json`."""


def build_index(vectors: np.ndarray, config: Index) -> Built:
    """Return the index of the item vectors, float32 [items, d]."""
    kind = "flat" if config.kind == "auto" else config.kind
    parameters = {"format": 1, "kind": kind, "metric": config.metric, "items": len(vectors), "is_exact": kind == "flat"}
    if kind == "flat":
        return Built(None, {**parameters, "search": {}})
    index = _built(vectors, config, kind)
    search = {"ef" if kind == "hnsw" else "nprobe": _EFFORT, "refine_factor": _REFINE}
    return Built(faiss.serialize_index(index).tobytes(), {**parameters, "search": search})


def _built(vectors: np.ndarray, config: Index, kind: str) -> Any:
    data = np.ascontiguousarray(vectors, dtype=np.float32)
    if config.metric == "cosine":
        data = data / np.maximum(np.linalg.norm(data, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    metric = faiss.METRIC_L2 if config.metric == "l2" else faiss.METRIC_INNER_PRODUCT
    nlist = config.nlist or max(1, min(round(4 * math.sqrt(len(data))), len(data) // 40))
    text = f"HNSW{config.links}_SQ8" if kind == "hnsw" else _FACTORY[kind].format(nlist=nlist, m=data.shape[1] // 2)
    index = faiss.index_factory(data.shape[1], text, metric)
    index.train(data)
    index.add(data)
    return index
