"""Each kind of feature in ONNX, by the `op` of its step, as far as it can be expressed exactly.

The operators are those of `ensemble/serving/query/kinds`. A null is what `NULLS` says, as in the SavedModels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ensemble.onnx_graph.builder import Builder
from ensemble.release.raw_feeds import NULLS
from ensemble.serving.query.times import DAY, FAR, PERIODS
from ensemble.serving.query.vocabulary import FIRST_KNOWN, NULL

if TYPE_CHECKING:
    from ensemble.onnx_graph.columns import RawColumns

Work = Callable[["RawColumns", dict[str, Any], list[str], list[str]], tuple[str, ...]]
"""From a step, its inputs and their data types to its outputs."""


def is_null(graph: Builder, value: str, dtype: str) -> str:
    """Return which values of a raw column are null."""
    if dtype == "float64":
        return graph.add("IsNaN", value)
    if dtype == "int64":
        return graph.add("Equal", value, graph.constant(NULLS[dtype], np.int64))
    # Equal of strings came with opset 19.
    code = graph.lookup(value, np.array([NULLS[dtype]], dtype=object), np.array([1]), 0)
    return graph.cast(code, "bool")


def _categorical(columns: RawColumns, step: dict[str, Any], inputs: list[str], dtypes: list[str]) -> tuple[str, ...]:
    graph = columns.graph
    null = is_null(graph, inputs[0], dtypes[0])
    return (graph.add("Where", null, graph.constant(NULL, np.int64), columns.codes(step, inputs[0], dtypes[0])),)


def _lookup(columns: RawColumns, step: dict[str, Any], inputs: list[str], dtypes: list[str]) -> tuple[str, ...]:
    [code] = _categorical(columns, step, inputs, dtypes)
    table = np.load(columns.directory / f"{step['table']}.npy", allow_pickle=False)
    return (columns.graph.add("Gather", columns.graph.constant(table), code),)


def _continuous(columns: RawColumns, step: dict[str, Any], inputs: list[str], dtypes: list[str]) -> tuple[str, ...]:
    graph = columns.graph
    return (_scaled(graph, graph.cast(inputs[0], "float64"), is_null(graph, inputs[0], dtypes[0]), step),)


def _age(columns: RawColumns, step: dict[str, Any], inputs: list[str], dtypes: list[str]) -> tuple[str, ...]:
    graph = columns.graph
    since, until = (graph.cast(time, "float64") for time in inputs)
    passed = graph.add("Div", graph.add("Sub", until, since), graph.constant(step["unit"], np.float64))
    nulls = [is_null(graph, time, dtype) for time, dtype in zip(inputs, dtypes, strict=True)]
    return (_scaled(graph, passed, graph.add("Or", *nulls), step),)


def _scaled(graph: Builder, numbers: str, null: str, step: dict[str, Any]) -> str:
    def number(value: float) -> str:
        return graph.constant(value, np.float64)

    numbers = graph.add("Where", null, number(step["fill"]), numbers)
    if "clip_min" in step:
        numbers = graph.add("Max", numbers, number(step["clip_min"]))
    if "clip_max" in step:
        numbers = graph.add("Min", numbers, number(step["clip_max"]))
    if step.get("log"):
        logs = graph.add("Log", graph.add("Add", graph.add("Abs", numbers), number(1)))
        numbers = graph.add("Mul", graph.add("Sign", numbers), logs)
    return graph.cast(graph.add("Div", graph.add("Sub", numbers, number(step["mean"])), number(step["std"])), "float32")


def _bucketized(columns: RawColumns, step: dict[str, Any], inputs: list[str], dtypes: list[str]) -> tuple[str, ...]:
    graph = columns.graph
    column = graph.add("Unsqueeze", graph.cast(inputs[0], "float64"), graph.constant([1], np.int64))
    below = graph.add("GreaterOrEqual", column, graph.constant([step["edges"]], np.float64))
    count = graph.add("ReduceSum", graph.cast(below, "int64"), graph.constant([1], np.int64), keepdims=0)
    bucket = graph.add("Add", count, graph.constant(FIRST_KNOWN, np.int64))
    return (graph.add("Where", is_null(graph, inputs[0], dtypes[0]), graph.constant(NULL, np.int64), bucket),)


def _time(columns: RawColumns, step: dict[str, Any], inputs: list[str], dtypes: list[str]) -> tuple[str, ...]:
    graph = columns.graph
    seconds, present = _seconds(graph, inputs[0], dtypes[0])
    whole = graph.add("Add", graph.cast(graph.add("Floor", seconds), "int64"), graph.constant(step["offset"], np.int64))
    if step["part"] in PERIODS:
        period, unit, start = PERIODS[step["part"]]
        index = _divided(graph, _modulo(graph, _plus(graph, whole, -start), period), unit)
    else:
        index = _month(graph, whole)
    return (graph.add("Where", present, _plus(graph, index, FIRST_KNOWN), graph.constant(NULL, np.int64)),)


def _cyclic(columns: RawColumns, step: dict[str, Any], inputs: list[str], dtypes: list[str]) -> tuple[str, ...]:
    graph = columns.graph
    seconds, present = _seconds(graph, inputs[0], dtypes[0])
    local = graph.add("Add", seconds, graph.constant(step["offset"], np.float64))
    if step["part"] in PERIODS:
        period, _, start = PERIODS[step["part"]]
        turns = graph.add("Sub", local, graph.constant(start, np.float64))
        turns = graph.add("Div", turns, graph.constant(period, np.float64))
        fraction = graph.add("Sub", turns, graph.add("Floor", turns))
    else:
        month = _month(graph, graph.cast(graph.add("Floor", local), "int64"))
        fraction = graph.add("Div", graph.cast(month, "float64"), graph.constant(12, np.float64))
    angle = graph.add("Mul", fraction, graph.constant(2 * np.pi, np.float64))
    cosine = graph.add("Add", angle, graph.constant(np.pi / 2, np.float64))  # of double, onnxruntime has the sine
    axis = graph.constant([1], np.int64)
    waves = [graph.add("Unsqueeze", graph.add("Sin", turned), axis) for turned in (angle, cosine)]
    wave = graph.add("Concat", *waves, axis=1)
    shown = graph.add("Where", graph.add("Unsqueeze", present, axis), wave, graph.constant(0, np.float64))
    return (graph.cast(shown, "float32"),)


def _seconds(graph: Builder, value: str, dtype: str) -> tuple[str, str]:
    """Return the seconds as double, 0 where they are no time, and whether they are one."""
    numbers = graph.cast(value, "float64")
    near = graph.add("Less", graph.add("Abs", numbers), graph.constant(FAR, np.float64))
    present = graph.add("And", near, graph.add("Not", is_null(graph, value, dtype)))
    return graph.add("Where", present, numbers, graph.constant(0, np.float64)), present


def _month(graph: Builder, seconds: str) -> str:
    """Return the month, January 0, as Hinnant's `civil_from_days`; see `ensemble/savedmodel/times.py`."""
    days = _divided(graph, graph.add("Sub", seconds, _modulo(graph, seconds, DAY)), DAY)
    of_era = _modulo(graph, _plus(graph, days, 719_468), 146_097)
    leap = graph.add("Sub", _divided(graph, of_era, 36_524), _divided(graph, of_era, 1460))
    leap = graph.add("Sub", leap, _divided(graph, of_era, 146_096))
    year = _divided(graph, graph.add("Add", of_era, leap), 365)
    past = graph.add("Mul", year, graph.constant(365, np.int64))
    past = graph.add("Add", past, graph.add("Sub", _divided(graph, year, 4), _divided(graph, year, 100)))
    of_year = graph.add("Mul", graph.add("Sub", of_era, past), graph.constant(5, np.int64))
    return _modulo(graph, _plus(graph, _divided(graph, _plus(graph, of_year, 2), 153), 2), 12)


def _plus(graph: Builder, value: str, number: int) -> str:
    return graph.add("Add", value, graph.constant(number, np.int64))


def _modulo(graph: Builder, value: str, number: int) -> str:
    return graph.add("Mod", value, graph.constant(number, np.int64))


def _divided(graph: Builder, value: str, number: int) -> str:
    """Return the quotient of what is not negative."""
    return graph.add("Div", value, graph.constant(number, np.int64))


def _multi_hot(columns: RawColumns, step: dict[str, Any], inputs: list[str], dtypes: list[str]) -> tuple[str, ...]:
    not_null = columns.graph.add("Not", is_null(columns.graph, inputs[0], dtypes[0]))
    places = _places(columns.graph, not_null, step)
    return (_placed(columns.graph, columns.codes(step, inputs[0], dtypes[0]), places, "int64"),)


def _weighted_multi_hot(
    columns: RawColumns, step: dict[str, Any], inputs: list[str], dtypes: list[str]
) -> tuple[str, ...]:
    graph = columns.graph
    nulls = [is_null(graph, values, dtype) for values, dtype in zip(inputs, dtypes, strict=True)]
    places = _places(graph, graph.add("Not", graph.add("Or", *nulls)), step)
    weights = graph.cast(inputs[1], "float32")
    weights = graph.add("Where", nulls[1], graph.constant(0, np.float32), weights)
    codes = columns.codes(step, inputs[0], dtypes[0])
    return _placed(graph, codes, places, "int64"), _placed(graph, weights, places, "float32")


def _places(graph: Builder, not_null: str, step: dict[str, Any]) -> str:
    """Return which entry of a list stands at which place, bool [n, m, max_length], of the first or last kept ones."""
    width, axis = step["max_length"], graph.constant([1], np.int64)
    counted = graph.cast(not_null, "int64")
    place = graph.add("Sub", graph.add("CumSum", counted, graph.constant(1, np.int64)), graph.constant(1, np.int64))
    total = graph.add("ReduceSum", counted, axis, keepdims=1)
    shown = graph.add("Min", total, graph.constant(width, np.int64))
    if step.get("keep_last"):
        place = graph.add("Sub", place, graph.add("Sub", total, shown))
    within = graph.add("And", graph.add("GreaterOrEqual", place, graph.constant(0, np.int64)), not_null)
    within = graph.add("And", within, graph.add("Less", place, shown))
    if step.get("pad_left"):
        place = graph.add("Add", place, graph.add("Sub", graph.constant(width, np.int64), shown))
    last = graph.constant([2], np.int64)
    at_place = graph.add("Equal", graph.add("Unsqueeze", place, last), graph.constant(np.arange(width), np.int64))
    return graph.add("And", at_place, graph.add("Unsqueeze", within, last))


def _placed(graph: Builder, values: str, places: str, dtype: str) -> str:
    """Return each entry at its place, [n, max_length], and zeros elsewhere."""
    column = graph.add("Unsqueeze", values, graph.constant([2], np.int64))
    spread = graph.add("Where", places, column, graph.constant(0, dtype))
    return graph.add("ReduceSum", spread, graph.constant([1], np.int64), keepdims=0)


def _vector(columns: RawColumns, step: dict[str, Any], inputs: list[str], dtypes: list[str]) -> tuple[str, ...]:
    graph = columns.graph
    null = is_null(graph, inputs[0], dtypes[0])
    numbers = graph.add("Where", null, graph.constant(0, np.float64), inputs[0])
    return (graph.cast(numbers, "float32"),)


OPERATORS: Mapping[str, Work] = {
    "categorical": _categorical,
    "continuous": _continuous,
    "age": _age,
    "bucketized": _bucketized,
    "time": _time,
    "cyclic": _cyclic,
    "multi_hot": _multi_hot,
    "weighted_multi_hot": _weighted_multi_hot,
    "lookup": _lookup,
    "vector": _vector,
}
