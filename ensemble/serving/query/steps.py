"""Builds the operator of one step of a `transform.json`: a closed set, every parameter checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from ..files.parameters import Fields
from ..files.release import Folder
from .kinds import OPERATORS
from .kinds.base import Column, Computes, Operator, Parts


class Step(NamedTuple):
    """Raw columns to the arrays of one feature."""

    inputs: list[str]
    outputs: list[str]
    operator: Computes

    @property
    def is_joint(self) -> bool:
        """Return whether it reads several columns or makes several arrays."""
        return len(self.inputs) + len(self.outputs) > 2

    def compute(self, columns: Mapping[str, Column]) -> dict[str, np.ndarray]:
        """Return the arrays by name."""
        arrays = self.operator.compute(*[columns[name] for name in self.inputs])
        return dict(zip(self.outputs, arrays if len(self.outputs) > 1 else (arrays,), strict=True))


def build_step(fields: Fields, inputs: list[Any], outputs: list[Any], folder: Folder) -> Step:
    """Build the operator of a step between the transform's inputs and outputs.

    Raises
    ------
    InvalidRelease
        The operator is unknown, or a parameter, an input or an output does not fit it.
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
