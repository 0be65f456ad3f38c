"""The Triton configuration of a release as one ONNX graph, for the `onnxruntime` backend of NVIDIA's images.

The backend (https://github.com/triton-inference-server/onnxruntime_backend) is not in the nvidia-pytriton wheel. To it
every input is required, a tensor of shape [n] is a reshaped column, and requests are joined where their lists are
equally long.
"""

from __future__ import annotations

import json
from typing import Any

from onnx import ModelProto, TensorProto, ValueInfoProto

from ensemble.layouts import ONNX
from ensemble.onnx_graph.export import build
from ensemble.serving.files.release import Release
from ensemble.serving.retriever import Retriever
from ensemble.triton.model_config import dynamic_batching, instance_group, parameters, served

_TYPES = {
    TensorProto.INT32: "TYPE_INT32",
    TensorProto.INT64: "TYPE_INT64",
    TensorProto.FLOAT: "TYPE_FP32",
    TensorProto.DOUBLE: "TYPE_FP64",
    TensorProto.BOOL: "TYPE_BOOL",
    TensorProto.STRING: "TYPE_STRING",
}


def graph_of(release: Release) -> ModelProto:
    """Return the graph that is served; raise ReleaseError naming what ONNX cannot express."""
    return build(Retriever(release), int(release.manifest["serving"]["top_k"]))


def onnx_config(release: Release, graph: ModelProto, version: int) -> str:
    """Return the `config.pbtxt` of a release's graph."""
    serving: dict[str, Any] = release.manifest["serving"]
    facts = {
        "release": release.manifest["release"],
        "layout": "onnx",
        "top_k": serving["top_k"],
        "intra_op_thread_count": serving["threads"],
        "inter_op_thread_count": 1,
    }
    lines = [
        f'name: "{ONNX}"\nbackend: "onnxruntime"\nplatform: "onnxruntime_onnx"',
        f"max_batch_size: {serving['max_batch_size']}",
        *(_tensor("input", tensor) for tensor in graph.graph.input),
        *(_tensor("output", tensor) for tensor in graph.graph.output),
        dynamic_batching(serving),
        instance_group(serving["instances"], "KIND_CPU"),
        *parameters(facts),
        served((version,)),
    ]
    return "\n".join(lines) + "\n"


def _tensor(direction: str, tensor: ValueInfoProto) -> str:
    kind, row = tensor.type.tensor_type, tensor.type.tensor_type.shape.dim[1:]
    dims = [axis.dim_value if axis.HasField("dim_value") else -1 for axis in row]
    shape = f"dims: [ {', '.join(map(str, dims))} ]" if dims else "dims: [ 1 ] reshape { shape: [ ] }"
    name = json.dumps(tensor.name, ensure_ascii=False)
    return f"{direction} {{ name: {name} data_type: {_TYPES[kind.elem_type]} {shape} }}"
