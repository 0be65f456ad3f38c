"""The heads of trained towers, without TensorFlow."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np

from models.metrics import Float32Array

FILE: Final = "tasks.npz"


class StoredHeads:
    """The heads of trained towers, in NumPy.

    Attributes
    ----------
    kinds
        Of events, none if there is no such task.
    served
        The kind that the towers' own query vector answers for.
    """

    def __init__(self, arrays: dict[str, np.ndarray]) -> None:
        self._arrays = arrays
        self.kinds = [str(kind) for kind in arrays.get("kinds", ())]
        self.served = str(arrays.get("served", ""))

    @classmethod
    def read(cls, towers: Path) -> StoredHeads | None:
        """Return the heads in a directory of towers, None if these learned no other task."""
        path = towers / FILE
        if not path.exists():
            return None
        with np.load(path, allow_pickle=False) as stored:
            return cls({name: stored[name] for name in stored.files})

    @property
    def rates(self) -> bool:
        """Whether ratings are predicted."""
        return "rating.0.kernel" in self._arrays

    def has_own(self, kind: str) -> bool:
        """Return whether a kind of event has a head of its own."""
        return f"event.{kind}.kernel" in self._arrays

    def weights(self) -> dict[str, float]:
        """Return what was learned of each term's weight, exp(-log variance), by name; empty where they were fixed."""
        log_variances = zip(self._arrays.get("terms", ()), self._arrays.get("log_variances", ()), strict=True)
        return {str(name): float(np.exp(-value)) for name, value in log_variances}

    def asked(self, queries: Float32Array, kind: str) -> Float32Array:
        """Return the vectors that retrieve the items of a kind of event, float32 `[n, d]`, of the tower's."""
        if not self.has_own(kind):
            return queries
        moved = queries + queries @ self._arrays[f"event.{kind}.kernel"] + self._arrays[f"event.{kind}.bias"]
        lengths = np.linalg.norm(moved, axis=1, keepdims=True)
        return (moved / np.maximum(lengths, 1e-6)).astype(np.float32) if self._arrays["unit"] else moved

    def rating(self, queries: Float32Array, items: Float32Array) -> Float32Array:
        """Return the ratings that rows of float32 `[n, d]` queries and items are predicted, float32 `[n]`."""
        values, layers = np.concatenate([queries, items, queries * items], axis=1), [*self._layers()]
        for number, (kernel, bias) in enumerate(layers):
            values = values @ kernel + bias
            if number < len(layers) - 1:
                values = np.maximum(values, 0)
        mean, deviation = self._arrays["scale"]
        return (mean + deviation * values[:, 0]).astype(np.float32)

    def _layers(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        number = 0
        while f"rating.{number}.kernel" in self._arrays:
            yield self._arrays[f"rating.{number}.kernel"], self._arrays[f"rating.{number}.bias"]
            number += 1
