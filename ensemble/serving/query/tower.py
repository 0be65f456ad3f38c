"""A tower: an ONNX graph on onnxruntime, and its large embedding tables, which all processes of a machine share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..errors import InvalidRelease
from ..files.release import Release
from ..names import VECTOR
from ..search.scoring import check_queries
from .graph import Graph

TABLE = "table/"
"""What the name of an input that is a table begins with; the rest is that of its file."""


class Tower:
    """A tower from features to vectors."""

    def __init__(self, release: Release, side: str = "query", threads: int = 1) -> None:
        """Load the graph and map its tables; raise InvalidRelease where one is missing or not as the graph takes it."""
        self.path = release.path / f"towers/{side}.onnx"
        self._graph = Graph(self.path, VECTOR, threads)
        inputs = self._graph.inputs
        self._tables = {
            tensor.name: _table(release, side, tensor) for tensor in inputs if tensor.name.startswith(TABLE)
        }
        self.inputs = [tensor.name for tensor in inputs if tensor.name not in self._tables]
        self.width = self._graph.width

    def check(self, features: Mapping[str, np.ndarray]) -> None:
        """Raise InvalidRelease if it does not accept features, [n] or [n, length]."""
        try:
            self._vectors(features)
        except Exception as error:  # onnxruntime's own
            reason = str(error).splitlines()[0][:200]
            place = f"{self.path}: does not take the features that the transform makes"
            raise InvalidRelease(f"{place}: {reason}") from None

    def encode(self, features: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the vectors, float32 [n, d], of features [n] or [n, length].

        Raises InvalidRequest, naming the row, for one that is not finite, or so long that scores may not be.
        """
        vectors = self._vectors(features)
        check_queries(vectors)
        return np.asarray(vectors)

    def _vectors(self, features: Mapping[str, np.ndarray]) -> np.ndarray:
        return self._graph({name: features[name] for name in self.inputs} | self._tables)


def _table(release: Release, side: str, taken: Any) -> np.ndarray:
    """Map the table, float32 [values, width], that a tower takes as an input."""
    name = f"towers/{side}/{taken.name.removeprefix(TABLE)}.npy"
    table = release.array(name, np.float32, dimensions=2)
    if taken.type != "tensor(float)" or list(table.shape) != taken.shape:
        raise InvalidRelease(
            f"{release.path / name}: float32 {list(table.shape)}, the tower takes {taken.type} {taken.shape}"
        )
    return table
