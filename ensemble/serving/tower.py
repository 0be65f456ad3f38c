"""The query tower: an ONNX graph on onnxruntime."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime

from .errors import InvalidRelease, InvalidRequest
from .onnxfile import check_file

_OUTPUT = ["vector"]


class Tower:
    """A tower from features to vectors."""

    def __init__(self, path: Path, threads: int = 1) -> None:
        """Load the graph; `threads` work on one call, none spins while idle (server processes share the cores)."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        content = path.read_bytes()
        check_file(path, content)
        try:
            self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise InvalidRelease(f"{path}: onnxruntime cannot load it: {str(error).splitlines()[0]}") from None
        # `run` of the Python class compares all names first, which takes as long as a tenth of a request.
        self._run = getattr(self._session, "_sess", self._session).run
        self.inputs = [one.name for one in self._session.get_inputs()]
        outputs = self._session.get_outputs()
        if [(one.name, one.type, len(one.shape)) for one in outputs] != [("vector", "tensor(float)", 2)]:
            raise InvalidRelease(f"{path}: expected one output, 'vector', float32 of two dimensions")
        self.width = outputs[0].shape[1]
        """Dimensions of the vectors; a name where the graph does not say."""

    def __call__(self, features: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the vectors, float32 [n, d], of features [n] or [n, length].

        Raises
        ------
        InvalidRequest
            A vector is not finite, because a feature was too large; names the row.
        """
        vectors = self._run(_OUTPUT, {name: features[name] for name in self.inputs}, None)[0]
        flat = vectors.ravel()
        # The sum of squares is finite only if all are: one call in place of two; a sum that overflows is looked at.
        if not math.isfinite(flat.dot(flat)) and not np.isfinite(vectors).all():
            row = int(np.flatnonzero(~np.isfinite(vectors).all(axis=1))[0])
            raise InvalidRequest(f"row {row}: the query has no finite vector; a number in it is too large")
        return np.asarray(vectors)
