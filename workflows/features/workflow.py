"""The recipe's features as one NVTabular `Workflow`, the same graph for pandas and for cuDF."""

from __future__ import annotations

import functools
import operator
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import nvtabular

from workflows.config import Device
from workflows.errors import RecipeError
from workflows.features.kinds.base import Sources
from workflows.features.plan import Planned
from workflows.operators.codes import SharedCodes


def wants_gpu(device: Device) -> bool:
    """Return whether features are computed with cuDF: what the recipe says, not what is importable.

    Raises
    ------
    RecipeError
        The recipe wants a GPU, and there is no cuDF or no device.
    """
    if device == "cpu":
        return False
    from merlin.core.compat import HAS_GPU, cudf

    if HAS_GPU and cudf is not None:
        return True
    if device == "gpu":
        what = "cuDF cannot be imported" if HAS_GPU else "no GPU is visible"
        raise RecipeError(
            f'device = "gpu": {what}; use the NGC container with a GPU, or set device = "auto" or "cpu" in the recipe'
        )
    return False


def build_workflow(
    planned: list[Planned], scratch: str, aggregates: Mapping[str, Any] = MappingProxyType({})
) -> nvtabular.Workflow:
    """Return the unfitted workflow; one chain of operators per feature, which may share a vocabulary.

    What `scratch` and `aggregates` are: see `Sources`.
    """
    sources = Sources(scratch, aggregates)
    chains = [entry.feature.chain(entry, sources) for entry in planned if not entry.feature.shared]
    for vocabulary in dict.fromkeys(entry.feature.shared for entry in planned if entry.feature.shared):
        chains += _with_one_vocabulary([entry for entry in planned if entry.feature.shared == vocabulary], scratch)
    return nvtabular.Workflow(functools.reduce(operator.add, chains))


def _with_one_vocabulary(entries: list[Planned], scratch: str) -> list[Any]:
    """Return the chains of features that share a vocabulary."""
    features: list[Any] = [entry.feature for entry in entries]
    sources = [feature.values(entry) for entry, feature in zip(entries, features, strict=True)]
    together = functools.reduce(operator.add, [values for values, _ in sources])
    lists = {entry.output: entry.feature.form != "categorical" for entry in entries}
    columns = ", ".join(entry.column for entry in entries)
    codes = together >> SharedCodes(lists, features[0].shared, column=columns, out_path=scratch, **features[0].limits())
    return [
        feature.finished(codes[entry.output], rest)
        for entry, feature, (_, rest) in zip(entries, features, sources, strict=True)
    ]
