"""Loads a verified ONNX file into an onnxruntime session."""

from __future__ import annotations

from pathlib import Path

import onnxruntime

from ..errors import InvalidRelease
from ..files.onnx_file import check_file


def open_graph(path: Path, threads: int) -> onnxruntime.InferenceSession:
    """Load a graph; `threads` work on a call, and none spins while idle, since server processes share the cores.

    Raises
    ------
    InvalidRelease
        The file is not a plain graph, or onnxruntime refuses it.
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
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise InvalidRelease(f"{path}: onnxruntime cannot load it: {str(error).splitlines()[0]}") from None
