"""The floor: a python model with the tensors of `retrieval` that answers every request with the same constant.

What it costs is gRPC, Triton's scheduler and the python stub's transport, which no python model can be without. It
looks at no input but for the number of rows, and makes the output tensors of each response.
"""

from __future__ import annotations

from pathlib import Path

_CODE = '''"""Answers every request with a constant."""

import json

import numpy as np
import triton_python_backend_utils as pb

TYPES = {{"TYPE_INT64": np.int64, "TYPE_INT32": np.int32, "TYPE_FP32": np.float32, "TYPE_BOOL": np.bool_}}


class TritonPythonModel:
    def initialize(self, args):
        config = json.loads(args["model_config"])
        self.outputs = [(one["name"], one["data_type"], int(one["dims"][0])) for one in config["output"]]
        self.made = {{}}

    def constants(self, rows):
        made = {{}}
        for name, kind, width in self.outputs:
            shape = (rows, {top_k} if width < 0 else width)
            made[name] = np.full(shape, b"item", object) if kind == "TYPE_STRING" else np.ones(shape, TYPES[kind])
        return made

    def execute(self, requests):
        return [self.answer(pb.get_input_tensor_by_name(one, "user_id").shape()[0]) for one in requests]

    def answer(self, rows):
        if rows not in self.made:
            self.made[rows] = self.constants(rows)
        return pb.InferenceResponse([pb.Tensor(name, values) for name, values in self.made[rows].items()])
'''


def export_noop(repository: Path, out: Path, top_k: int) -> Path:
    """Write a model repository with the configuration of the fused one at `repository`, and return it."""
    model = out / "retrieval"
    (model / "1").mkdir(parents=True)
    (model / "1" / "model.py").write_text(_CODE.format(top_k=top_k), encoding="utf-8")
    config = (repository / "retrieval" / "config.pbtxt").read_text(encoding="utf-8")
    (model / "config.pbtxt").write_text(config, encoding="utf-8")
    return out
