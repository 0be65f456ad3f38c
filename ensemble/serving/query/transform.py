"""The compiled transform: raw columns to features as the fitted NVTabular workflow makes them, in NumPy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..errors import InvalidRequest
from ..files.arrays import Column
from ..files.parameters import Fields
from ..files.release import Folder
from ..search.budget import Budget
from .kinds import OPERATORS
from .kinds.base import LONGEST, Computes, Operator, Parts
from .sequence import HISTORY, HISTORY_AGE, TIME, Past, Sequence

__all__ = ["Column", "QueryTransform"]

FORMAT = 1
TRANSFORM = "transform.json"
KINDS = {"int64": "i", "float64": "f", "string": "O"}


class Step(NamedTuple):
    """Raw columns to the arrays of one feature."""

    inputs: list[str]
    outputs: list[str]
    operator: Computes

    def compute(self, columns: Mapping[str, Column]) -> dict[str, np.ndarray]:
        """Return the arrays by name."""
        arrays = self.operator.compute(*[columns[name] for name in self.inputs])
        return dict(zip(self.outputs, arrays if len(self.outputs) > 1 else (arrays,), strict=True))


class QueryTransform:
    """The compiled transform of one side; the item side has the same form."""

    def __init__(
        self,
        inputs: list[dict[str, Any]],
        steps: list[Step],
        outputs: list[Any],
        sequence: Sequence | None = None,
    ) -> None:
        self.inputs: tuple[dict[str, Any], ...] = tuple(inputs)
        """Raw columns in order: `{"name", "dtype": "int64" | "float64" | "string", "list"}`."""
        self.outputs: tuple[dict[str, Any], ...] = tuple(outputs)
        """Features in order: `{"name", "dtype": "int64" | "float32", "list", "max_length"}`."""
        self._checks = [(column["name"], KINDS[column["dtype"]], column["list"]) for column in inputs]
        self._steps, self._late = steps, [step for step in steps if TIME in step.inputs]
        self.lasting = [name for step in steps if TIME not in step.inputs for name in step.outputs]
        """Features that do not depend on when a query is asked; `rest` makes the others."""
        self.late = frozenset(name for step in steps if TIME in step.inputs for name in step.inputs)
        """Raw columns that the others are made of, without those of the sequence."""
        self.codes: dict[str, int] = {
            step.outputs[0]: step.operator.codes for step in steps if hasattr(step.operator, "codes")
        }
        """Features that are codes, all of them below the number."""
        self._letters = [
            (step.inputs[0], float(step.operator.letter_ns)) for step in steps if hasattr(step.operator, "letter_ns")
        ]
        self.sequence = sequence
        """The step that makes the history, where there is one; it takes the input `timestamp`."""

    @classmethod
    def load(cls, directory: Path) -> QueryTransform:
        """Read `transform.json` and its vocabularies.

        Raises InvalidRelease: a file is missing or damaged, or has an unknown operator or parameter; names file and
        reason.
        """
        document, vocabulary = Folder(directory).fields(TRANSFORM), Folder(directory / "vocabulary")
        inputs, outputs = _columns(document)
        entries = document.objects("steps")
        dated = HISTORY in (feature["name"] for feature in outputs)
        sequence = _sequence(entries.pop(), inputs, outputs) if dated and entries else None
        plain = outputs[:-2] if sequence else outputs
        steps = [_step(entry, inputs, plain, vocabulary) for entry in entries]
        document.finish()
        if [output for step in steps for output in step.outputs] != [step["name"] for step in plain]:
            raise document.error("the steps do not make the outputs, one each and in their order")
        return cls(inputs, steps, outputs, sequence)

    def compute(self, columns: Mapping[str, Column], past: Past | None = None) -> dict[str, np.ndarray]:
        """Return the features of n rows: int64 or float32, [n] or [n, max_length].

        `columns` holds every input, as missing values where the request left it out; others are ignored. `past`: the
        users' histories up to their `timestamp`, for a transform with a `sequence`; None: empty.

        Raises InvalidRequest: a column is missing, of another type, or of another number of rows; names it.
        """
        self._check(columns)
        features: dict[str, np.ndarray] = {}
        self._add(self._steps, features, columns, past)
        return features

    def pay(self, columns: Mapping[str, Column], budget: Budget) -> None:
        """Spend the time for finding the words in `columns`; raise TooMuch if there is less than that left."""
        for name, letter_ns in self._letters:
            lengths = [len(text) if isinstance(text, str) else 0 for text in columns[name].values.tolist()]
            budget.spend_each(np.array(lengths, dtype=np.int64), letter_ns)

    def rest(self, lasting: dict[str, np.ndarray], columns: Mapping[str, Column], past: Past | None = None) -> None:
        """Add to the `lasting` features of n rows those that depend on the time of the query.

        `columns` holds the `late` ones and, for a `sequence`, `timestamp`, already checked.
        """
        self._add(self._late, lasting, columns, past)

    def _add(
        self, steps: list[Step], features: dict[str, np.ndarray], columns: Mapping[str, Column], past: Past | None
    ) -> None:
        for step in steps:
            try:
                features.update(step.compute(columns))
            except InvalidRequest as error:
                raise InvalidRequest(f"column {step.inputs[0]!r}: {error}") from None
        if self.sequence is not None:
            features.update(self.sequence.compute(columns[TIME].values, past))

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
            length = len(values) if offsets is None else len(offsets) - 1
            if rows not in (-1, length):
                raise InvalidRequest(f"column {name!r} has {length} rows where the columns before it have {rows}")
            rows = length


def _bounds(offsets: np.ndarray, size: int) -> bool:
    """Return whether `offsets` are the bounds of lists within `size` entries."""
    if offsets.dtype != np.int64 or offsets.ndim != 1 or not len(offsets):
        return False
    return bool(offsets[0] >= 0 and offsets[-1] <= size and np.all(offsets[:-1] <= offsets[1:]))


def described(document: Fields) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the inputs and outputs of a `transform.json`, as in `QueryTransform`. The steps are checked when it is
    loaded.

    Raises InvalidRelease: they are malformed; names the field.
    """
    columns = _columns(document)
    document.objects("steps")
    document.finish()
    return columns


def _columns(document: Fields) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    if document.integer("format", 0, 1 << 31) != FORMAT:
        raise document.error(f"format is not {FORMAT}; release the run again with this version")
    inputs = [_input(entry) for entry in document.objects("inputs")]
    outputs = [_output(entry) for entry in document.objects("outputs")]
    for what, columns in (("inputs", inputs), ("outputs", outputs)):
        names = [column["name"] for column in columns]
        if not names or len(set(names)) != len(names):
            raise document.error(f"{what} are empty or have a name twice")
    return inputs, outputs


def _input(fields: Fields) -> dict[str, Any]:
    column = {"name": fields.name("name"), "dtype": fields.choice("dtype", tuple(KINDS)), "list": fields.flag("list")}
    fields.finish()
    return column


def _output(fields: Fields) -> dict[str, Any]:
    name, dtype = fields.name("name"), fields.choice("dtype", ("int64", "float32"))
    is_list = fields.flag("list")
    width = fields.integer("max_length", int(is_list), LONGEST if is_list else 0)
    fields.finish()
    return {"name": name, "dtype": dtype, "list": is_list, "max_length": width}


def _sequence(fields: Fields, inputs: list[Any], outputs: list[Any]) -> Sequence:
    """Build the last step, which makes the last two outputs."""
    fields.choice("op", ("sequence",))
    fields.choice("input", (TIME,))
    fields.choice("output", (HISTORY,))
    last = fields.integer("max_length", 1, LONGEST)
    pads_left = fields.has("pad_left") and fields.flag("pad_left")
    fields.finish()
    widths = {"list": True, "max_length": last}
    expected = [{"name": HISTORY, "dtype": "int64", **widths}, {"name": HISTORY_AGE, "dtype": "float32", **widths}]
    if {"name": TIME, "dtype": "int64", "list": False} not in inputs or outputs[-2:] != expected:
        raise fields.error(
            f"a sequence takes {TIME}, int64, of the inputs and makes the last outputs, {HISTORY} and {HISTORY_AGE}"
        )
    return Sequence(last, pads_left)


def _step(fields: Fields, inputs: list[Any], outputs: list[Any], folder: Folder) -> Step:
    """Build the operator of a step between the transform's inputs and outputs.

    Raises InvalidRelease: the operator is unknown, or a parameter, an input or an output does not fit it.
    """
    names = fields.texts("inputs") if fields.has("inputs") else [fields.text("input")]
    output, op = fields.text("output"), fields.choice("op", tuple(OPERATORS))
    kind = OPERATORS[op]
    sources = [next((column for column in inputs if column["name"] == name), None) for name in names]
    features = [output + suffix for suffix, _ in kind.makes]
    targets = [next((feature for feature in outputs if feature["name"] == name), None) for name in features]
    if None in sources or None in targets:
        raise fields.error(f"{', '.join(names)} -> {', '.join(features)} is not from inputs to outputs")
    if not _fits(kind, sources):
        raise fields.error(f"{op} cannot take the inputs {', '.join(names)} as they are")
    width = targets[0]["max_length"]  # type: ignore[index]
    declared = [(dtype, kind.wide, width) for _, dtype in kind.makes]
    stated = [(feature["dtype"], feature["list"], feature["max_length"]) for feature in targets]  # type: ignore[index]
    if stated != declared or (width > 0) != kind.wide:
        raise fields.error(f"{op} does not make the output {output!r} as it is declared")
    operator = kind.build(fields, Parts([column["dtype"] for column in sources], width, folder))  # type: ignore[index]
    fields.finish()
    return Step(names, features, operator)


def _fits(kind: Operator, sources: list[Any]) -> bool:
    takes = kind.takes * len(sources) if kind.repeats and len(sources) > 1 else kind.takes
    return len(takes) == len(sources) and all(
        column["dtype"] in dtypes and column["list"] == lists
        for column, (dtypes, lists) in zip(sources, takes, strict=True)
    )
