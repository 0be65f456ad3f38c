"""A fitted workflow to a transform directory: literal parameters and vocabulary tables that NumPy alone can apply.

`ensemble/serving/query/transform.py` reads it. No pickle, no names of code: a closed set of operators.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from nvtabular import Workflow

from workflows.columns import Columns
from workflows.config import Sequence
from workflows.features.canonical import Input
from workflows.features.plan import HISTORY, HISTORY_AGE, Planned
from workflows.features.specs import arrays_of, spec
from workflows.fitting.learned import Learned

FORMAT = 1


def compile_transform(
    workflow: Workflow, planned: list[Planned], inputs: list[Input], directory: Path, history: Sequence | None = None
) -> None:
    """Write a fitted workflow as what serving reads without NVTabular: `transform.json` and `vocabulary/*.npy`.

    `planned` are the features of one side, in the order of the outputs; `inputs` the raw columns that a request has.
    `history` adds the step that makes the query's sequence, which is no part of the workflow: int64 `[n, last]` codes
    and float32 `[n, last]` ages in seconds.
    """
    (directory / "vocabulary").mkdir(parents=True)
    steps, outputs = [], []
    for number, entry in enumerate(planned):
        steps.append(_step(workflow, entry, directory / "vocabulary", number))
        outputs += [
            {"name": array.name, "dtype": array.dtype, "list": array.width > 0, "max_length": array.width}
            for array in arrays_of(spec(workflow, entry))
        ]
    if history:
        lists = {"list": True, "max_length": history.last}
        op, parameters = history.compiled()
        steps.append({"op": op, "input": Columns.Timestamp, "output": HISTORY, **parameters})
        outputs += [{"name": HISTORY, "dtype": "int64", **lists}, {"name": HISTORY_AGE, "dtype": "float32", **lists}]
    document = {
        "format": FORMAT,
        "inputs": [entry._asdict() for entry in inputs],
        "steps": steps,
        "outputs": outputs,
    }
    content = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False)
    (directory / "transform.json").write_text(content + "\n", encoding="utf-8")


def _step(workflow: Workflow, entry: Planned, directory: Path, number: int) -> dict[str, Any]:
    learned = Learned(workflow)
    op, parameters = entry.feature.compiled(learned, entry.output)
    read: dict[str, Any] = {"input": entry.columns[0]} if len(entry.columns) == 1 else {"inputs": list(entry.columns)}
    step = {"op": op, **read, "output": entry.output, **parameters}
    if "vocabulary" in step:
        shared = entry.feature.shared
        prefix, name = ("shared", shared) if shared else (f"{number:02d}", entry.output)
        step["vocabulary"] = f"{prefix}_{re.sub('[^A-Za-z0-9_]', '_', name)[:64]}"
        _write_vocabulary(learned.vocabulary(entry.output), directory, step["vocabulary"])
    if "table" in step:
        step["table"] = f"{step['vocabulary']}_table"
        np.save(directory / f"{step['table']}.npy", learned.figures(entry.output))
    return step


def _write_vocabulary(values: pd.Series, directory: Path, name: str) -> None:
    """Integers as `<name>.npy` (int64), strings as `<name>.utf8.npy` (uint8) and `<name>.offsets.npy`."""
    if pd.api.types.is_integer_dtype(values.dtype):
        np.save(directory / f"{name}.npy", values.to_numpy(dtype=np.int64))
        return
    encoded = [value.encode("utf-8") for value in values]
    offsets = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
    np.save(directory / f"{name}.utf8.npy", np.frombuffer(b"".join(encoded), dtype=np.uint8))
    np.save(directory / f"{name}.offsets.npy", offsets)
