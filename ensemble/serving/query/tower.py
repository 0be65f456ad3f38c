"""The query tower: an ONNX graph on onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..errors import InvalidRelease
from ..search.scoring import check_queries
from .onnx_session import open_graph

_OUTPUT = ["vector"]


class Tower:
    """A tower from features to vectors."""

    def __init__(self, path: Path, threads: int = 1) -> None:
        """Load the graph as `open_graph` does; raise InvalidRelease if its output is not vectors."""
        self._session = open_graph(path, threads)
        # `run` of the Python class compares all names first, which takes as long as a tenth of a request.
        self._run = getattr(self._session, "_sess", self._session).run
        self.inputs = [tensor.name for tensor in self._session.get_inputs()]
        outputs = self._session.get_outputs()
        if [(tensor.name, tensor.type, len(tensor.shape)) for tensor in outputs] != [("vector", "tensor(float)", 2)]:
            raise InvalidRelease(f"{path}: expected one output, 'vector', float32 of two dimensions")
        self.width = outputs[0].shape[1]
        """Dimensions of the vectors; a name where the graph does not say."""

    def check(self, features: Mapping[str, np.ndarray], path: Path) -> None:
        """Raise InvalidRelease if it does not accept features, [n] or [n, length]."""
        try:
            self._run(_OUTPUT, {name: features[name] for name in self.inputs}, None)
        except Exception as error:  # onnxruntime's own
            reason = str(error).splitlines()[0][:200]
            raise InvalidRelease(f"{path}: does not take the features that the transform makes: {reason}") from None

    def __call__(self, features: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the vectors, float32 [n, d], of features [n] or [n, length].

        Raises
        ------
        InvalidRequest
            A vector is not finite, or so long that scores may not be: a feature was too large; names the row.
        """
        vectors = self._run(_OUTPUT, {name: features[name] for name in self.inputs}, None)[0]
        check_queries(vectors)
        return np.asarray(vectors)
