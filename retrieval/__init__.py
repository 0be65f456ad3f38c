"""Command line, recipe, the run as a list of stages, and the same from Python: `retrieval.fit` and `retrieval.Run`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from retrieval.api.fit import fit
    from retrieval.api.run import Run

__all__ = ["Run", "fit"]


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is asked for."""
    if name not in __all__:
        raise AttributeError(f"module 'retrieval' has no attribute {name!r}")
    return getattr(import_module(f"retrieval.api.{name.lower()}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
