"""A fitted workflow to a transform directory: literal parameters and vocabulary tables that NumPy alone can apply.

`ensemble/serving/transform.py` reads it. No pickle, no names of code: a closed set of operators.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from merlin.dag import Graph
from nvtabular import Workflow
from nvtabular.ops import Normalize

from workflows.columns import Columns
from workflows.config import Bucketized, Categorical, Continuous, MultiHot, Sequence, Text
from workflows.inputs import HISTORY, HISTORY_AGE, Input, Planned
from workflows.operators import FIRST_KNOWN, BucketCodes, Codes

FORMAT = 1


def compile_transform(
    workflow: Workflow, planned: list[Planned], inputs: list[Input], directory: Path, history: Sequence | None = None
) -> None:
    """Write `transform.json` and `vocabulary/*.npy` of a fitted workflow into `directory`, which must not exist yet.

    `history` adds the step that makes the query's sequence, which is no part of the workflow.
    """
    (directory / "vocabulary").mkdir(parents=True)
    steps: list[dict[str, Any]] = []
    for number, entry in enumerate(planned):
        step: dict[str, Any] = {"op": entry.kind.replace("-", "_"), "input": entry.column, "output": entry.output}
        step.update(_parameters(workflow, entry))
        if "vocabulary" in step:
            values = vocabulary(workflow, entry.output)
            step["vocabulary"] = f"{number:02d}_{re.sub('[^A-Za-z0-9_]', '_', entry.output)[:64]}"
            _write_vocabulary(values, directory / "vocabulary", step["vocabulary"])
        steps.append(step)
    outputs = [_output(entry) for entry in planned]
    if history:
        made = {"list": True, "max_length": history.last}
        steps.append({"op": "sequence", "input": Columns.Timestamp, "output": HISTORY, "max_length": history.last})
        outputs += [{"name": HISTORY, "dtype": "int64", **made}, {"name": HISTORY_AGE, "dtype": "float32", **made}]
    document = {
        "format": FORMAT,
        "inputs": [entry._asdict() for entry in inputs],
        "steps": steps,
        "outputs": outputs,
    }
    content = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False)
    (directory / "transform.json").write_text(content + "\n", encoding="utf-8")


def vocabulary(workflow: Workflow, output: str) -> pd.Series:
    """Return the known values of a categorical feature in the order of their codes, the first of which is 3."""
    paths = {name: path for op in _operators(workflow, Codes) for name, path in op.categories.items()}
    values = pd.read_parquet(paths[output])[output]
    if not np.array_equal(values.index.to_numpy(), np.arange(FIRST_KNOWN, FIRST_KNOWN + len(values))):
        raise AssertionError(f"{paths[output]}: NVTabular numbered its vocabulary otherwise than from {FIRST_KNOWN}")
    return values


def edges(workflow: Workflow, output: str) -> list[float]:
    """Return the bucket edges of a bucketized feature."""
    for op, names in _nodes(workflow, BucketCodes):
        if output in names:
            return op.edges
    raise KeyError(output)


def cardinality(workflow: Workflow, entry: Planned) -> int:
    """Return one more than the largest code of a feature, 0 for a continuous one."""
    if isinstance(entry.feature, Continuous):
        return 0
    if isinstance(entry.feature, Bucketized):
        return FIRST_KNOWN + len(edges(workflow, entry.output)) + 1
    return FIRST_KNOWN + len(vocabulary(workflow, entry.output))


def max_length(entry: Planned) -> int:
    """Return the width of a list feature, 0 for a scalar one."""
    return entry.feature.max_length if isinstance(entry.feature, (MultiHot, Text)) else 0


def _parameters(workflow: Workflow, entry: Planned) -> dict[str, Any]:
    feature = entry.feature
    if isinstance(feature, Continuous):
        mean, std = _moments(workflow, entry.output) if feature.normalise else (0.0, 1.0)
        return {"fill": feature.fill, "mean": mean, "std": std}
    if isinstance(feature, Bucketized):
        return {"edges": edges(workflow, entry.output)}
    if isinstance(feature, Categorical):
        return {"vocabulary": ""}
    ngrams = {"ngrams": feature.ngrams} if isinstance(feature, Text) else {}
    return {"vocabulary": "", "max_length": feature.max_length, **ngrams}


def _moments(workflow: Workflow, output: str) -> tuple[float, float]:
    for op in _operators(workflow, Normalize):
        if output in op.means:
            # NVTabular does not divide where the deviation is 0, or NaN (a single row).
            std = op.stds[output]
            return op.means[output], std if std > 0 else 1.0
    raise KeyError(output)


def _output(entry: Planned) -> dict[str, Any]:
    dtype = "float32" if isinstance(entry.feature, Continuous) else "int64"
    length = max_length(entry)
    return {"name": entry.output, "dtype": dtype, "list": length > 0, "max_length": length}


def _write_vocabulary(values: pd.Series, directory: Path, name: str) -> None:
    """Integers as `<name>.npy` (int64), strings as `<name>.utf8.npy` (uint8) and `<name>.offsets.npy`."""
    if pd.api.types.is_integer_dtype(values.dtype):
        np.save(directory / f"{name}.npy", values.to_numpy(dtype=np.int64))
        return
    encoded = [value.encode("utf-8") for value in values]
    offsets = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
    np.save(directory / f"{name}.utf8.npy", np.frombuffer(b"".join(encoded), dtype=np.uint8))
    np.save(directory / f"{name}.offsets.npy", offsets)


def _operators(workflow: Workflow, kind: type) -> list[Any]:
    return [op for op, _ in _nodes(workflow, kind)]


def _nodes(workflow: Workflow, kind: type) -> list[tuple[Any, list[str]]]:
    nodes = Graph.get_nodes_by_op_type([workflow.output_node], kind)
    return [(node.op, node.output_columns.names) for node in nodes]
