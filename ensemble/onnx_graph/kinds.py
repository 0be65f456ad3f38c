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
        return graph.add("Equal", value, NULLS[dtype])
    # Equal of strings came with opset 19.
    code = graph.lookup(value, np.array([NULLS[dtype]], dtype=object), np.array([1]), 0)
    return graph.cast(code, "bool")


def _categorical(columns: RawColumns, step: dict[str, Any], inputs: list[str], dtypes: list[str]) -> tuple[str, ...]:
    graph = columns.graph
    null = is_null(graph, inputs[0], dtypes[0])
    return (graph.add("Where", null, NULL, columns.codes(step, inputs[0], dtypes[0])),)


def _lookup(columns: RawColumns, step: dict[str, Any], inputs: list[str], dtypes: list[str]) -> tuple[str, ...]:
    [code] = _categorical(columns, step, inputs, dtypes)
    table = np.load(columns.directory / f"{step['table']}.npy", allow_pickle=False)
    return (columns.graph.add("Gather", table, code),)


def _continuous(columns: RawColumns, step: dict[str, Any], inputs: list[str], dtypes: list[str]) -> tuple[str, ...]:
    graph = columns.graph
    return (_scaled(graph, graph.cast(inputs[0], "float64"), is_null(graph, inputs[0], dtypes[0]), step),)


def _age(columns: RawColumns, step: dict[str, Any], inputs: list[str], dtypes: list[str]) -> tuple[str, ...]:
    graph = columns.graph
    since, until = (graph.cast(time, "float64") for time in inputs)
    passed = graph.add("Div", graph.add("Sub", until, since), float(step["unit"]))
    nulls = [is_null(graph, time, dtype) for time, dtype in zip(inputs, dtypes, strict=True)]
    return (_scaled(graph, passed, graph.add("Or", *nulls), step),)


def _scaled(graph: Builder, numbers: str, null: str, step: dict[str, Any]) -> str:
    numbers = graph.add("Where", null, float(step["fill"]), numbers)
    if "clip_min" in step:
        numbers = graph.add("Max", numbers, float(step["clip_min"]))
    if "clip_max" in step:
        numbers = graph.add("Min", numbers, float(step["clip_max"]))
    if step.get("log"):
        logs = graph.add("Log", graph.add("Add", graph.add("Abs", numbers), 1.0))
        numbers = graph.add("Mul", graph.add("Sign", numbers), logs)
    return graph.cast(graph.add("Div", graph.add("Sub", numbers, float(step["mean"])), float(step["std"])), "float32")


def _bucketized(columns: RawColumns, step: dict[str, Any], inputs: list[str], dtypes: list[str]) -> tuple[str, ...]:
    graph = columns.graph
    column = graph.add("Unsqueeze", graph.cast(inputs[0], "float64"), [1])
    below = graph.add("GreaterOrEqual", column, np.array([step["edges"]], np.float64))
    count = graph.add("ReduceSum", graph.cast(below, "int64"), [1], keepdims=0)
    bucket = graph.add("Add", count, FIRST_KNOWN)
    return (graph.add("Where", is_null(graph, inputs[0], dtypes[0]), NULL, bucket),)


def _time(columns: RawColumns, step: dict[str, Any], inputs: list[str], dtypes: list[str]) -> tuple[str, ...]:
    graph = columns.graph
    seconds, present = _seconds(graph, inputs[0], dtypes[0])
    whole = graph.add("Add", graph.cast(graph.add("Floor", seconds), "int64"), step["offset"])
    if step["part"] in PERIODS:
        period, unit, start = PERIODS[step["part"]]
        index = graph.add("Div", graph.add("Mod", graph.add("Add", whole, -start), period), unit)
    else:
        index = _month(graph, whole)
    return (graph.add("Where", present, graph.add("Add", index, FIRST_KNOWN), NULL),)


def _cyclic(columns: RawColumns, step: dict[str, Any], inputs: list[str], dtypes: list[str]) -> tuple[str, ...]:
    graph = columns.graph
    seconds, present = _seconds(graph, inputs[0], dtypes[0])
    local = graph.add("Add", seconds, float(step["offset"]))
    if step["part"] in PERIODS:
        period, _, start = PERIODS[step["part"]]
        turns = graph.add("Div", graph.add("Sub", local, float(start)), float(period))
        fraction = graph.add("Sub", turns, graph.add("Floor", turns))
    else:
        month = _month(graph, graph.cast(graph.add("Floor", local), "int64"))
        fraction = graph.add("Div", graph.cast(month, "float64"), 12.0)
    angle = graph.add("Mul", fraction, 2 * np.pi)
    cosine = graph.add("Add", angle, np.pi / 2)  # of double, onnxruntime has the sine
    waves = [graph.add("Unsqueeze", graph.add("Sin", turned), [1]) for turned in (angle, cosine)]
    shown = graph.add("Where", graph.add("Unsqueeze", present, [1]), graph.add("Concat", *waves, axis=1), 0.0)
    return (graph.cast(shown, "float32"),)


def _seconds(graph: Builder, value: str, dtype: str) -> tuple[str, str]:
    """Return the seconds as double, 0 where they are no time, and whether they are one."""
    numbers = graph.cast(value, "float64")
    near = graph.add("Less", graph.add("Abs", numbers), float(FAR))
    present = graph.add("And", near, graph.add("Not", is_null(graph, value, dtype)))
    return graph.add("Where", present, numbers, 0.0), present


def _month(graph: Builder, seconds: str) -> str:
    """Return the month, January 0, as Hinnant's `civil_from_days`; see `ensemble/savedmodel/kinds.py`."""
    days = graph.add("Div", graph.add("Sub", seconds, graph.add("Mod", seconds, DAY)), DAY)
    of_era = graph.add("Mod", graph.add("Add", days, 719_468), 146_097)
    leap = graph.add("Sub", graph.add("Div", of_era, 36_524), graph.add("Div", of_era, 1460))
    leap = graph.add("Sub", leap, graph.add("Div", of_era, 146_096))
    year = graph.add("Div", graph.add("Add", of_era, leap), 365)
    past = graph.add("Mul", year, 365)
    past = graph.add("Add", past, graph.add("Sub", graph.add("Div", year, 4), graph.add("Div", year, 100)))
    of_year = graph.add("Mul", graph.add("Sub", of_era, past), 5)
    return graph.add("Mod", graph.add("Add", graph.add("Div", graph.add("Add", of_year, 2), 153), 2), 12)


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
    weights = graph.add("Where", nulls[1], np.float32(0), weights)
    codes = columns.codes(step, inputs[0], dtypes[0])
    return _placed(graph, codes, places, "int64"), _placed(graph, weights, places, "float32")


def _places(graph: Builder, not_null: str, step: dict[str, Any]) -> str:
    """Return which entry of a list stands at which place, bool [n, m, max_length], of the first or last kept ones."""
    width: int = step["max_length"]
    counted = graph.cast(not_null, "int64")
    place = graph.add("Sub", graph.add("CumSum", counted, 1), 1)
    total = graph.add("ReduceSum", counted, [1], keepdims=1)
    shown = graph.add("Min", total, width)
    if step.get("keep_last"):
        place = graph.add("Sub", place, graph.add("Sub", total, shown))
    within = graph.add("And", graph.add("GreaterOrEqual", place, 0), not_null)
    within = graph.add("And", within, graph.add("Less", place, shown))
    if step.get("pad_left"):
        place = graph.add("Add", place, graph.add("Sub", width, shown))
    at_place = graph.add("Equal", graph.add("Unsqueeze", place, [2]), np.arange(width))
    return graph.add("And", at_place, graph.add("Unsqueeze", within, [2]))


def _placed(graph: Builder, values: str, places: str, dtype: str) -> str:
    """Return each entry at its place, [n, max_length], and zeros elsewhere."""
    column = graph.add("Unsqueeze", values, [2])
    spread = graph.add("Where", places, column, np.zeros((), dtype))
    return graph.add("ReduceSum", spread, [1], keepdims=0)


def _vector(columns: RawColumns, step: dict[str, Any], inputs: list[str], dtypes: list[str]) -> tuple[str, ...]:
    graph = columns.graph
    null = is_null(graph, inputs[0], dtypes[0])
    numbers = graph.add("Where", null, 0.0, inputs[0])
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
