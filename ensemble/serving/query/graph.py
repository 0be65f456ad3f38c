"""A verified ONNX graph on onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime

from ..errors import InvalidRelease
from ..files.onnx_file import check_file


class Graph:
    """A graph with one output, float32 [n, m]."""

    def __init__(self, path: Path, output: str, threads: int) -> None:
        """Load it; `threads` work on a call, and none spins while idle, since server processes share the cores.

        Raises InvalidRelease where the file is not a plain graph with that output, or onnxruntime refuses it.
        """
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        content = path.read_bytes()
        check_file(path, content)
        try:
            session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise InvalidRelease(f"{path}: onnxruntime cannot load it: {str(error).splitlines()[0]}") from None
        self._output, self.inputs, outputs = [output], session.get_inputs(), session.get_outputs()
        if [(tensor.name, tensor.type, len(tensor.shape)) for tensor in outputs] != [(output, "tensor(float)", 2)]:
            raise InvalidRelease(f"{path}: expected one output, '{output}', float32 of two dimensions")
        self.width = outputs[0].shape[1]
        """Columns of the output; a name where the graph does not say."""
        # `run` of the Python class compares all names first, which takes as long as a tenth of a request.
        self._run = getattr(session, "_sess", session).run

    def __call__(self, feeds: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the output for inputs by name; arrays cost onnxruntime no copy, whatever their size."""
        output: np.ndarray = self._run(self._output, feeds, None)[0]
        return output
