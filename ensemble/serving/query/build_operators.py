"""One step of a `transform.json` to the operator that it describes: a closed set, every parameter checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..files.parameters import Fields
from .hashing import HashedIntegers, HashedStrings
from .joint_operators import Age, Cross, Cyclic, Lookup, Time, Vector, WeightedMultiHot
from .operators import Bucketized, Categorical, Column, Continuous, MultiHot, Text, Vocabulary, Window
from .times import PARTS
from .vocabulary import FIRST_KNOWN, IntegerVocabulary, StringVocabulary, load_integers, load_strings, load_table

LONGEST = 1_000_000
_BIGGEST = 1 << 40
_UNLIMITED = float("inf")


class Step(NamedTuple):
    """Raw columns to the arrays of one feature."""

    inputs: list[str]
    outputs: list[str]
    operator: Callable[..., Any]

    @property
    def is_joint(self) -> bool:
        """Return whether it reads several columns or makes several arrays."""
        return len(self.inputs) + len(self.outputs) > 2

    def __call__(self, columns: Mapping[str, Column]) -> dict[str, np.ndarray]:
        """Return the arrays by name."""
        made = self.operator(*[columns[name] for name in self.inputs])
        return dict(zip(self.outputs, made if len(self.outputs) > 1 else (made,), strict=True))


class _Parts(NamedTuple):
    """What a builder is given besides the parameters."""

    dtypes: list[str]
    """Of the inputs."""
    width: int
    """Of the outputs; 0 for scalars."""
    directory: Path
    """Of the vocabularies."""


class _Kind(NamedTuple):
    takes: tuple[tuple[tuple[str, ...], bool], ...]
    """Data types and whether lists, input by input; the last one stands for all that follow in a cross."""
    makes: tuple[tuple[str, str], ...]
    """Suffix and data type of every output."""
    wide: bool
    """Whether they are [n, max_length]."""
    build: Callable[[Fields, _Parts], Callable[..., Any]]


def build_step(fields: Fields, inputs: list[Any], outputs: list[Any], directory: Path) -> Step:
    """Build the operator of a step between the transform's inputs and outputs.

    Raises
    ------
    InvalidRelease
        It is not one of ours, or a parameter, an input or an output does not fit it.
    """
    names = fields.texts("inputs") if fields.has("inputs") else [fields.text("input")]
    output, op = fields.text("output"), fields.choice("op", tuple(_KINDS))
    kind = _KINDS[op]
    sources = [next((one for one in inputs if one["name"] == name), None) for name in names]
    made = [output + suffix for suffix, _ in kind.makes]
    targets = [next((one for one in outputs if one["name"] == name), None) for name in made]
    if None in sources or None in targets:
        raise fields.error(f"{', '.join(names)} -> {', '.join(made)} is not from inputs to outputs")
    if not _fits(kind, op, sources):
        raise fields.error(f"{op} cannot take the inputs {', '.join(names)} as they are")
    width = targets[0]["max_length"]  # type: ignore[index]
    declared = [(dtype, kind.wide, width) for _, dtype in kind.makes]
    found = [(one["dtype"], one["list"], one["max_length"]) for one in targets]  # type: ignore[index]
    if found != declared or (width > 0) != kind.wide:
        raise fields.error(f"{op} does not make the output {output!r} as it is declared")
    operator = kind.build(fields, _Parts([one["dtype"] for one in sources], width, directory))  # type: ignore[index]
    fields.finish()
    return Step(names, made, operator)


def _fits(kind: _Kind, op: str, sources: list[Any]) -> bool:
    takes = kind.takes * len(sources) if op == "cross" and len(sources) > 1 else kind.takes
    return len(takes) == len(sources) and all(
        one["dtype"] in dtypes and one["list"] == lists for one, (dtypes, lists) in zip(sources, takes, strict=True)
    )


def _categorical(fields: Fields, parts: _Parts) -> Categorical:
    return Categorical(_vocabulary(fields, parts))


def _cross(fields: Fields, parts: _Parts) -> Cross:
    edges = fields.rows("edges")
    if len(edges) != len(parts.dtypes) or not all(map(_rising, filter(None, edges))):
        raise fields.error("edges must be one list for each input, and rise strictly")
    pairs = list(zip(parts.dtypes, edges, strict=True))
    if ("float64", []) in pairs or any(dtype == "string" and one for dtype, one in pairs):
        raise fields.error("a cross takes floats by edges, and strings without")
    vocabulary = _vocabulary(fields, parts._replace(dtypes=["int64"]))
    assert isinstance(vocabulary, IntegerVocabulary)
    return Cross(edges, vocabulary)


def _continuous(fields: Fields, _: _Parts) -> Continuous:
    std = fields.number("std")
    if std <= 0:
        raise fields.error("std must be above 0")
    low = fields.number("clip_min") if fields.has("clip_min") else -_UNLIMITED
    high = fields.number("clip_max") if fields.has("clip_max") else _UNLIMITED
    limits = None if (low, high) == (-_UNLIMITED, _UNLIMITED) else (low, high)
    return Continuous(fields.number("fill"), fields.number("mean"), std, limits, _option(fields, "log"))


def _age(fields: Fields, parts: _Parts) -> Age:
    unit = fields.number("unit")
    if unit <= 0:
        raise fields.error("unit must be above 0")
    return Age(unit, _continuous(fields, parts))


def _bucketized(fields: Fields, _: _Parts) -> Bucketized:
    edges = fields.numbers("edges")
    if not edges or not _rising(edges):
        raise fields.error("edges must rise strictly, and be there")
    return Bucketized(edges)


def _time(fields: Fields, _: _Parts) -> Time:
    return Time(fields.choice("part", tuple(PARTS)), fields.integer("offset", -86_400, 86_400))


def _cyclic(fields: Fields, parts: _Parts) -> Cyclic:
    if parts.width != 2:
        raise fields.error("max_length must be 2")
    return Cyclic(fields.choice("part", tuple(PARTS)), fields.integer("offset", -86_400, 86_400))


def _multi_hot(fields: Fields, parts: _Parts) -> MultiHot:
    return MultiHot(_vocabulary(fields, parts), _window(fields, parts))


def _weighted_multi_hot(fields: Fields, parts: _Parts) -> WeightedMultiHot:
    return WeightedMultiHot(_vocabulary(fields, parts), _window(fields, parts))


def _text(fields: Fields, parts: _Parts) -> Text:
    vocabulary = load_strings(parts.directory, fields.text("vocabulary"))
    return Text(vocabulary, _width(fields, parts), fields.integer("ngrams", 1, 3))


def _vector(_: Fields, parts: _Parts) -> Vector:
    return Vector(parts.width)


def _lookup(fields: Fields, parts: _Parts) -> Lookup:
    vocabulary = _vocabulary(fields, parts)
    table = load_table(parts.directory, fields.text("table"))
    if table.shape[1] != parts.width or len(table) < vocabulary.codes:
        raise fields.error(f"the table is {table.shape}, expected ({vocabulary.codes}, {parts.width})")
    if not np.isfinite(table).all():
        raise fields.error("the table holds a number that is not finite")
    return Lookup(vocabulary, table)


def _window(fields: Fields, parts: _Parts) -> Window:
    return Window(_width(fields, parts), _option(fields, "keep_last"), _option(fields, "pad_left"))


def _width(fields: Fields, parts: _Parts) -> int:
    if fields.integer("max_length", 1, LONGEST) != parts.width:
        raise fields.error("max_length is not that of the output")
    return parts.width


def _option(fields: Fields, key: str) -> bool:
    return fields.has(key) and fields.flag(key)


def _rising(edges: list[float]) -> bool:
    return all(low < high for low, high in pairwise(edges))


def _vocabulary(fields: Fields, parts: _Parts) -> Vocabulary:
    """Read the vocabulary, and hash what it does not hold where the step says so; without one, everything."""
    strings, hashed = parts.dtypes[0] == "string", fields.has("hash_buckets")
    known: Vocabulary | None = None
    if fields.has("vocabulary") or not hashed:
        name = fields.text("vocabulary")
        known = load_strings(parts.directory, name) if strings else load_integers(parts.directory, name)
    if not hashed:
        assert known is not None
        return known
    buckets = fields.integer("hash_buckets", 1, _BIGGEST)
    first = fields.integer("hash_from", FIRST_KNOWN, _BIGGEST)
    if strings:
        return HashedStrings(known if isinstance(known, StringVocabulary) else None, buckets, first)
    return HashedIntegers(known if isinstance(known, IntegerVocabulary) else None, buckets, first)


_IDS, _NUMBERS, _ANY = ("int64", "string"), ("int64", "float64"), ("int64", "float64", "string")
_CODE, _CODES, _NUMBER = (("", "int64"),), (("", "int64"),), (("", "float32"),)
_KINDS = {
    "categorical": _Kind(((_IDS, False),), _CODE, False, _categorical),
    "cross": _Kind(((_ANY, False),), _CODE, False, _cross),
    "continuous": _Kind(((_NUMBERS, False),), _NUMBER, False, _continuous),
    "age": _Kind(((_NUMBERS, False), (_NUMBERS, False)), _NUMBER, False, _age),
    "bucketized": _Kind(((_NUMBERS, False),), _CODE, False, _bucketized),
    "time": _Kind(((_NUMBERS, False),), _CODE, False, _time),
    "cyclic": _Kind(((_NUMBERS, False),), _NUMBER, True, _cyclic),
    "multi_hot": _Kind(((_IDS, True),), _CODES, True, _multi_hot),
    "weighted_multi_hot": _Kind(
        ((_IDS, True), (("float64",), True)), (("", "int64"), ("_weight", "float32")), True, _weighted_multi_hot
    ),
    "text": _Kind(((("string",), False),), _CODES, True, _text),
    "lookup": _Kind(((_IDS, False),), _NUMBER, True, _lookup),
    "vector": _Kind(((("float64",), True),), _NUMBER, True, _vector),
}
