"""The models of a repository: one that does every step, one for each behind a Triton ensemble, or an ONNX graph."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

Layout = Literal["fused", "chained", "both", "onnx"]

FUSED = "retrieval"
CHAINED = "retrieval_chained"
ONNX = "retrieval_onnx"
"""For Triton's onnxruntime backend. It takes raw columns and histories, which our clients do not send."""
TRANSFORM, TOWER, SEARCH = "retrieval_transform", "retrieval_tower", "retrieval_search"
RANK = "retrieval_rank"
STEPS = (TRANSFORM, TOWER, SEARCH, RANK)
"""The models behind `CHAINED`, in their order; the last only where a release ranks."""
MODELS: dict[Layout, tuple[str, ...]] = {
    "fused": (FUSED,),
    "chained": (*STEPS, CHAINED),
    "both": (FUSED, *STEPS, CHAINED),
    "onnx": (ONNX,),
}
CONFIG = "config.pbtxt"


def models_of(layout: Layout, ranks: bool) -> tuple[str, ...]:
    """Return the models of a layout for a release that ranks its candidates, or does not."""
    return tuple(name for name in MODELS[layout] if ranks or name != RANK)


def models_in(repository: Path) -> list[str]:
    """Return our models that a repository holds, each before those that use it."""
    return [name for name in (*MODELS["both"], ONNX) if (repository / name / CONFIG).is_file()]


def answering_models(repository: Path) -> list[str]:
    """Return the models of a repository that clients ask."""
    return [name for name in models_in(repository) if name in (FUSED, CHAINED)]
