"""Raw columns to features, as the fitted NVTabular workflow makes them, in NumPy and by literal parameters."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from .errors import InvalidRelease, InvalidRequest
from .operators import Bucketized, Categorical, Column, Continuous, MultiHot, Operator, Text, Vocabulary
from .parameters import Fields
from .sequence import HISTORY, HISTORY_AGE, TIME, Past, Sequence
from .vocabulary import load_integers, load_strings

__all__ = ["Column", "QueryTransform"]

FORMAT = 1
LONGEST = 1_000_000
KINDS = {"int64": "i", "float64": "f", "string": "O"}


class QueryTransform:
    """One side's compiled transform; the item side has the same form."""

    def __init__(
        self,
        inputs: list[dict[str, Any]],
        steps: list[tuple[str, str, Operator]],
        outputs: list[Any],
        sequence: Sequence | None = None,
    ) -> None:
        self.inputs: tuple[dict[str, Any], ...] = tuple(inputs)
        """Raw columns in order: `{"name", "dtype": "int64" | "float64" | "string", "list"}`."""
        self.outputs: tuple[dict[str, Any], ...] = tuple(outputs)
        """Features in order: `{"name", "dtype": "int64" | "float32", "list", "max_length"}`."""
        self._checks = [(one["name"], KINDS[one["dtype"]], one["list"]) for one in inputs]
        self._steps = steps
        self.sequence = sequence
        """The step that makes the history, where there is one; it takes the input `timestamp`."""

    @classmethod
    def load(cls, directory: Path) -> QueryTransform:
        """Read `transform.json` and the vocabularies that it names.

        Raises
        ------
        InvalidRelease
            A file is missing or damaged, or holds anything but the operators and parameters we know; names file and
            reason.
        """
        path = directory / "transform.json"
        document = Fields(_read_json(path), str(path))
        if document.integer("format", 0, 1 << 31) != FORMAT:
            raise InvalidRelease(f"{path}: format is not {FORMAT}; release the run again with this version")
        inputs = [_input(entry) for entry in document.objects("inputs")]
        outputs = [_output(entry) for entry in document.objects("outputs")]
        entries = document.objects("steps")
        dated = HISTORY in (one["name"] for one in outputs)
        sequence = _sequence(entries.pop(), inputs, outputs) if dated and entries else None
        plain = outputs[:-2] if sequence else outputs
        steps = [_step(entry, inputs, plain, directory / "vocabulary") for entry in entries]
        document.finish()
        _check_distinct([one["name"] for one in inputs], path, "inputs")
        _check_distinct([one["name"] for one in outputs], path, "outputs")
        if [output for _, output, _ in steps] != [one["name"] for one in plain]:
            raise InvalidRelease(f"{path}: the steps do not make the outputs, one each and in their order")
        return cls(inputs, steps, outputs, sequence)

    def __call__(self, columns: Mapping[str, Column], past: Past | None = None) -> dict[str, np.ndarray]:
        """Return the features, int64 [n], float32 [n] or int64 [n, max_length], of n rows.

        `columns` holds every input; what a request leaves out comes as missing. Others are ignored. `past` is what the
        rows' users did up to their `timestamp`, for a transform with a `sequence`; without it, nothing.

        Raises
        ------
        InvalidRequest
            A column is not there, of another type, or of another number of rows; names it.
        """
        self._check(columns)
        features = {}
        for name, output, operator in self._steps:
            try:
                features[output] = operator(columns[name])
            except InvalidRequest as error:
                raise InvalidRequest(f"column {name!r}: {error}") from None
        if self.sequence is not None:
            features.update(self.sequence(columns[TIME].values, past))
        return features

    def _check(self, columns: Mapping[str, Column]) -> None:
        rows = -1
        for name, kind, is_list in self._checks:
            column = columns.get(name)
            if column is None:
                raise InvalidRequest(f"column {name!r} is missing")
            values, missing, offsets = column
            if values.dtype.kind != kind or values.ndim != 1 or (kind != "O" and values.dtype.itemsize != 8):
                raise InvalidRequest(f"column {name!r}: got {values.dtype} with shape {list(values.shape)}")
            if missing is not None and (missing.dtype != bool or missing.shape != values.shape):
                raise InvalidRequest(f"column {name!r}: its null marks are not one bool per value")
            if is_list != (offsets is not None) or (offsets is not None and not _bounds(offsets, len(values))):
                raise InvalidRequest(f"column {name!r}: expected {'lists' if is_list else 'single values'}")
            found = len(values) if offsets is None else len(offsets) - 1
            if rows not in (-1, found):
                raise InvalidRequest(f"column {name!r} has {found} rows where the columns before it have {rows}")
            rows = found


def _bounds(offsets: np.ndarray, size: int) -> bool:
    """Whether `offsets` are the bounds of lists within `size` entries."""
    if offsets.dtype != np.int64 or offsets.ndim != 1 or not len(offsets):
        return False
    return bool(offsets[0] >= 0 and offsets[-1] <= size and np.all(offsets[:-1] <= offsets[1:]))


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidRelease(f"{path}: not a readable JSON file: {error}") from None


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is not a finite number")


def _check_distinct(names: list[str], path: Path, what: str) -> None:
    if not names or len(set(names)) != len(names):
        raise InvalidRelease(f"{path}: {what} are empty or have a name twice")


def _input(fields: Fields) -> dict[str, Any]:
    found = {"name": fields.text("name"), "dtype": fields.choice("dtype", tuple(KINDS)), "list": fields.flag("list")}
    fields.finish()
    return found


def _output(fields: Fields) -> dict[str, Any]:
    found = {
        "name": fields.text("name"),
        "dtype": fields.choice("dtype", ("int64", "float32")),
        "list": fields.flag("list"),
        "max_length": fields.integer("max_length", 0, LONGEST),
    }
    fields.finish()
    return found


def _step(fields: Fields, inputs: list[Any], outputs: list[Any], directory: Path) -> tuple[str, str, Operator]:
    name, output = fields.text("input"), fields.text("output")
    op = fields.choice("op", tuple(_BUILDERS))
    source = next((one for one in inputs if one["name"] == name), None)
    target = next((one for one in outputs if one["name"] == output), None)
    if source is None or target is None:
        raise fields.error(f"{name!r} -> {output!r} is not from an input to an output")
    dtypes, takes_list, made, build = _BUILDERS[op]
    if source["dtype"] not in dtypes or source["list"] != takes_list:
        raise fields.error(f"{op} cannot take the input {name!r} as it is")
    wide = op in ("multi_hot", "text")
    if target["dtype"] != made or target["list"] != wide or (target["max_length"] > 0) != wide:
        raise fields.error(f"{op} does not make the output {output!r} as it is declared")
    operator = build(fields, source["dtype"], target["max_length"], directory)
    fields.finish()
    return name, output, operator


def _sequence(fields: Fields, inputs: list[Any], outputs: list[Any]) -> Sequence:
    """Build the last step, which makes the last two outputs."""
    fields.choice("op", ("sequence",))
    fields.choice("input", (TIME,))
    fields.choice("output", (HISTORY,))
    last = fields.integer("max_length", 1, LONGEST)
    fields.finish()
    made = {"list": True, "max_length": last}
    expected = [{"name": HISTORY, "dtype": "int64", **made}, {"name": HISTORY_AGE, "dtype": "float32", **made}]
    if {"name": TIME, "dtype": "int64", "list": False} not in inputs or outputs[-2:] != expected:
        raise fields.error(
            f"a sequence makes the last outputs, {HISTORY} and {HISTORY_AGE}, of the input {TIME}, int64"
        )
    return Sequence(last)


def _categorical(fields: Fields, dtype: str, _: int, directory: Path) -> Operator:
    return Categorical(_vocabulary(fields, dtype, directory))


def _continuous(fields: Fields, *_: Any) -> Operator:
    std = fields.number("std")
    if std <= 0:
        raise fields.error("std must be above 0")
    return Continuous(fields.number("fill"), fields.number("mean"), std)


def _bucketized(fields: Fields, *_: Any) -> Operator:
    edges = fields.numbers("edges")
    if not edges or any(low >= high for low, high in pairwise(edges)):
        raise fields.error("edges must rise strictly, and be there")
    return Bucketized(edges)


def _multi_hot(fields: Fields, dtype: str, width: int, directory: Path) -> Operator:
    return MultiHot(_vocabulary(fields, dtype, directory), _width(fields, width))


def _text(fields: Fields, _: str, width: int, directory: Path) -> Operator:
    vocabulary = load_strings(directory, fields.text("vocabulary"))
    return Text(vocabulary, _width(fields, width), fields.integer("ngrams", 1, 3))


def _width(fields: Fields, declared: int) -> int:
    if fields.integer("max_length", 1, LONGEST) != declared:
        raise fields.error("max_length is not that of the output")
    return declared


def _vocabulary(fields: Fields, dtype: str, directory: Path) -> Vocabulary:
    name = fields.text("vocabulary")
    return load_strings(directory, name) if dtype == "string" else load_integers(directory, name)


_Build = Callable[[Fields, str, int, Path], Operator]
_BUILDERS: dict[str, tuple[tuple[str, ...], bool, str, _Build]] = {
    # operator: (input types, takes lists, output type, how it is built)
    "categorical": (("int64", "string"), False, "int64", _categorical),
    "continuous": (("int64", "float64"), False, "float32", _continuous),
    "bucketized": (("int64", "float64"), False, "int64", _bucketized),
    "multi_hot": (("int64", "string"), True, "int64", _multi_hot),
    "text": (("string",), False, "int64", _text),
}
