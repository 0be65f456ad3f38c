"""Checks the ONNX file of a tower before onnxruntime reads it.

A graph may read its weights from other files, and hold nested graphs, functions and operators of other domains. Towers
need none of that: they are a flat list of a few operators, with weights of the size that they state
(https://github.com/onnx/onnx/blob/main/onnx/onnx.proto, and protobuf's wire format).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from math import prod
from pathlib import Path
from typing import Union

from ..errors import InvalidRelease

OPERATORS = frozenset(
    re.findall(
        r"\w+",
        "Abs Add And BatchNormalization Cast Clip Concat Constant Div Elu Equal Erf Exp Gather Gemm GlobalMaxPool "
        "Greater GreaterOrEqual Identity LeakyRelu Less LessOrEqual Log LpNormalization MatMul Max Min Mul Neg Not "
        "Or Pow Reciprocal ReduceL2 ReduceMax ReduceMean ReduceMin ReduceSum ReduceSumSquare Relu Reshape Selu "
        "Shape Sigmoid Slice Softmax Softplus Split Sqrt Squeeze Sub Tanh Transpose Unsqueeze Where",
    )
)
"""What towers are made of. None of it makes much of a few bytes, as `Expand`, `Tile` and `ConstantOfShape` do."""
_ITEM_BYTES = {1: 4, 2: 1, 3: 1, 6: 4, 7: 8, 9: 1, 11: 8}
"""By ONNX's number of the type: float, uint8, int8, int32, int64, bool and double."""
_RAW, _INPUT = 9, 11
_FIXED = {4: 4, 10: 8}
_PLAIN = {
    "model": {1, 2, 3, 4, 5, 6, 8, 14},
    "graph": {2, 10, 12, 13},
    "value": {2, 3, 4},
    "node": {1, 2, 3, 6},
    "attribute": {1, 2, 3, 4, 7, 8, 9, 13, 20},
    "tensor": {8, 12},
}
"""Fields that say nothing which could do harm: names, shapes, numbers, remarks."""
_Value = Union[int, memoryview]


def check_file(path: Path, content: bytes) -> list[str]:
    """Return the names of a graph's inputs; raise InvalidRelease unless the content of `path` is a flat graph of the
    operators that towers consist of.
    """
    graph = _Graph(path)
    graph.model(memoryview(content))
    return graph.inputs


class _Graph:
    def __init__(self, path: Path) -> None:
        self._path = path
        self.inputs: list[str] = []

    def model(self, content: memoryview) -> None:
        graphs = 0
        for _, value in self._fields("model", content, {7}):
            graphs += 1
            self._graph(self._message(value))
        if graphs != 1:
            raise self._wrong(f"{graphs} graphs, expected one")

    def _graph(self, content: memoryview) -> None:
        takes: dict[int, Callable[[memoryview], None]] = {1: self._node, 5: self._tensor, _INPUT: self._input}
        for number, value in self._fields("graph", content, set(takes)):
            takes[number](self._message(value))

    def _input(self, content: memoryview) -> None:
        for _, value in self._fields("value", content, {1}):
            self.inputs.append(bytes(self._message(value)).decode("utf-8", "replace"))

    def _node(self, content: memoryview) -> None:
        for number, value in self._fields("node", content, {4, 5, 7}):
            part = self._message(value)
            if number == 5:
                self._attribute(part)
                continue
            text, allowed = bytes(part), (b"", b"ai.onnx")
            if number == 4 and text.decode("latin-1") not in OPERATORS:
                raise self._wrong(f"operator {text[:80]!r}, expected one of {', '.join(sorted(OPERATORS))}")
            if number == 7 and text not in allowed:
                raise self._wrong(f"an operator of the domain {text[:80]!r}, expected one of ONNX's own")

    def _attribute(self, content: memoryview) -> None:
        for _, value in self._fields("attribute", content, {5}):
            self._tensor(self._message(value))

    def _tensor(self, content: memoryview) -> None:
        dims: list[int] = []
        kind, entries = 0, -1
        for number, value in self._fields("tensor", content, {1, 2, 4, 5, 7, _RAW, 10, 14}):
            if number == 1:
                dims += [value] if isinstance(value, int) else list(self._varints(value))
            elif number == 2 and isinstance(value, int):
                kind = value
            elif number == 14 and value == 0:
                continue
            elif number in (4, 5, 7, _RAW, 10) and entries < 0 and isinstance(value, memoryview):
                entries = self._entries(number, value, kind)
            else:
                raise self._wrong("weights that are not in the file, or in it twice")
        expected = prod(dims)
        if kind not in _ITEM_BYTES or expected != max(entries, 0):
            raise self._wrong(f"weights of type {kind} and shape {dims[:8]}: the file has {max(entries, 0)}")

    def _entries(self, number: int, value: memoryview, kind: int) -> int:
        """Return how many numbers a packed field holds."""
        width = _ITEM_BYTES.get(kind, 1) if number == _RAW else _FIXED.get(number, 0)
        if not width:
            return sum(1 for _ in self._varints(value))
        if len(value) % width:
            raise self._wrong(f"{len(value)} bytes of weights that have {width} each")
        return len(value) // width

    def _fields(self, what: str, content: memoryview, looked_at: set[int]) -> Iterator[tuple[int, _Value]]:
        """Yield number and value of the fields that are looked at; refuse those that we do not know."""
        place = 0
        while place < len(content):
            key, place = self._varint(content, place)
            number, wire = key >> 3, key & 7
            value: _Value
            if wire == 0:
                value, place = self._varint(content, place)
            else:
                size = {1: 8, 5: 4}.get(wire, 0)
                if wire == 2:
                    size, place = self._varint(content, place)
                if wire not in (1, 2, 5) or size > len(content) - place:
                    raise self._wrong(f"a {what} that ends before its content does")
                value, place = content[place : place + size], place + size
            if number in looked_at:
                yield number, value
            elif number not in _PLAIN[what]:
                raise self._wrong(f"a {what} with field {number}, which towers do not have")

    def _varints(self, content: memoryview) -> Iterator[int]:
        place = 0
        while place < len(content):
            value, place = self._varint(content, place)
            yield value

    def _varint(self, content: memoryview, place: int) -> tuple[int, int]:
        value = 0
        for shift in range(0, 70, 7):
            if place >= len(content):
                break
            byte = content[place]
            value |= (byte & 127) << shift
            place += 1
            if byte < 128:
                return value, place
        raise self._wrong("a number without an end")

    def _message(self, value: _Value) -> memoryview:
        if isinstance(value, int):
            raise self._wrong("a number where a message belongs")
        return value

    def _wrong(self, reason: str) -> InvalidRelease:
        return InvalidRelease(f"{self._path}: no graph of a tower: {reason}; release it again")
