"""Nodes and constants of an ONNX graph, put together one after the other."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto, compose, helper, numpy_helper

OPSET, ML_OPSET, IR_VERSION = 15, 2, 8
"""As tf2onnx writes the towers, whose nodes join these."""
ML = "ai.onnx.ml"
TYPES = {
    "int64": TensorProto.INT64,
    "int32": TensorProto.INT32,
    "float64": TensorProto.DOUBLE,
    "float32": TensorProto.FLOAT,
    "string": TensorProto.STRING,
    "bool": TensorProto.BOOL,
}


class Builder:
    """A graph that grows; what it computes is known by name."""

    def __init__(self) -> None:
        self.inputs: list[Any] = []
        self._nodes: list[Any] = []
        self._constants: list[Any] = []
        self._known: dict[tuple[Any, ...], str] = {}

    def take(self, name: str, dtype: str, shape: list[Any]) -> str:
        """Add an input of the graph."""
        self.inputs.append(helper.make_tensor_value_info(name, TYPES[dtype], shape))
        return name

    def constant(self, value: Any) -> str:
        """Return the name of a constant, int64 of an int and float64 of a float; equal small ones are held once."""
        array = np.asarray(value)
        key = (array.dtype.str, array.shape, array.tobytes()) if array.size < 64 and array.dtype != object else ()
        if key and key in self._known:
            return self._known[key]
        name = f"constant_{len(self._constants)}"
        if array.dtype == object or array.dtype.kind == "U":
            texts = [str(text).encode() for text in array.ravel().tolist()]
            self._constants.append(helper.make_tensor(name, TensorProto.STRING, array.shape, texts))
        else:
            self._constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        if key:
            self._known[key] = name
        return name

    def add(self, kind: str, *inputs: Any, domain: str = "", **attributes: Any) -> str:
        """Add a node with one output and return its name; inputs are names, or the values of constants."""
        return self.add_all(kind, 1, *inputs, domain=domain, **attributes)[0]

    def add_all(self, kind: str, outputs: int, *inputs: Any, domain: str = "", **attributes: Any) -> list[str]:
        """Add a node and return the names of its outputs."""
        names = [f"{kind}_{len(self._nodes)}_{place}" for place in range(outputs)]
        taken = [value if isinstance(value, str) else self.constant(value) for value in inputs]
        self._nodes.append(helper.make_node(kind, taken, names, domain=domain, **attributes))
        return names

    def cast(self, value: str, dtype: str) -> str:
        """Return a value as another data type."""
        return self.add("Cast", value, to=TYPES[dtype])

    def lookup(self, values: str, keys: np.ndarray, codes: np.ndarray, default: int) -> str:
        """Return the code of each int64 or string value; `default` for any that is not a key."""
        kind = "keys_strings" if keys.dtype == object else "keys_int64s"
        listed = [key.encode() for key in keys.tolist()] if keys.dtype == object else keys.tolist()
        if not listed:
            zeros = self.add("Mul", self.cast(self.add("Equal", values, values), "int64"), 0)
            return self.add("Add", zeros, default)
        attributes = {kind: listed, "values_int64s": codes.tolist(), "default_int64": default}
        return self.add("LabelEncoder", values, domain=ML, **attributes)

    def embed(self, model: ModelProto, feeds: dict[str, str]) -> str:
        """Add the nodes of a model with one output, its inputs fed by name, and return the name of the output."""
        inner = compose.add_prefix(model, "tower/").graph
        for name, value in feeds.items():
            self._nodes.append(helper.make_node("Identity", [value], [f"tower/{name}"]))
        self._nodes.extend(inner.node)
        self._constants.extend(inner.initializer)
        return str(inner.output[0].name)

    def model(self, outputs: dict[str, tuple[str, str, list[Any]]]) -> ModelProto:
        """Return the model with these outputs: by name the value, its data type and its shape."""
        self._nodes += [helper.make_node("Identity", [value], [name]) for name, (value, _, _) in outputs.items()]
        ends = [helper.make_tensor_value_info(name, TYPES[dtype], shape) for name, (_, dtype, shape) in outputs.items()]
        graph = helper.make_graph(self._nodes, "recommend", self.inputs, ends, self._constants)
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(ML, ML_OPSET)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="merlin-retrieval")
