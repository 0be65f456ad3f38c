"""What features are refused for beside one another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workflows.errors import RecipeError
from workflows.features.pretrained import tables_of

if TYPE_CHECKING:
    from workflows.features.canonical import Input
    from workflows.features.plan import Planned


def check_shared(planned: list[Planned], inputs: dict[str, Input], section: str) -> None:
    """Features that share a vocabulary are of one type and agree in how it is made."""
    for entry in planned:
        shared = entry.feature.shared
        for other in planned:
            if not shared or other.feature.shared != shared:
                continue
            if inputs[entry.column].dtype != inputs[other.column].dtype:
                raise RecipeError(
                    f"[{section}] {entry.column} and {other.column} share the vocabulary {shared!r}, but one holds "
                    f"{inputs[entry.column].dtype} and the other {inputs[other.column].dtype}; convert one"
                )
            for option in ("min_frequency", "max_size", "hash_buckets"):
                if getattr(entry.feature, option) != getattr(other.feature, option):
                    raise RecipeError(
                        f"[{section}] {entry.column} and {other.column} share the vocabulary {shared!r} and differ in "
                        f"{option}; set it in both"
                    )


def check_keyed(planned: list[Planned], inputs: dict[str, Input], section: str) -> None:
    """Pre-trained vectors are read, and their ids are of the column's type: else none would be found."""
    for name, vectors in tables_of(planned):
        column = next(entry.column for entry in planned if entry.output == name)
        theirs = "int64" if vectors.ids.dtype == "int64" else "string"
        if inputs[column].dtype != theirs:
            raise RecipeError(
                f"[{section}] {column}: holds {inputs[column].dtype}, but the ids of its vectors are {theirs}; "
                "convert one of them"
            )


def place_of(entry: Planned, column: str) -> str:
    """Return how messages name a column that a feature reads."""
    return column if column == entry.column else f"{entry.column}, {column}"
