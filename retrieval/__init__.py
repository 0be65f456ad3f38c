"""Command line, recipe, the run as a list of stages, and the same from Python: `retrieval.fit` and `retrieval.Run`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from retrieval.api.fit import fit
    from retrieval.api.run import Run

__all__ = ["Run", "fit"]


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is asked for."""
    if name == "fit":
        from retrieval.api.fit import fit

        return fit
    if name == "Run":
        from retrieval.api.run import Run

        return Run
    raise AttributeError(f"module 'retrieval' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
