"""A fitted workflow to a transform directory: literal parameters and vocabulary tables that NumPy alone can apply.

`ensemble/serving/query/transform.py` reads it. No pickle, no names of code: a closed set of operators.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from nvtabular import Workflow

from workflows.columns import Columns
from workflows.config import (
    Age,
    Aggregate,
    Bucketized,
    Categorical,
    Continuous,
    Cross,
    Embedding,
    MultiHot,
    Sequence,
    Text,
    Time,
)
from workflows.features.kinds import SECONDS, is_hashed, is_keyed
from workflows.features.plan import HISTORY, HISTORY_AGE, Input, Planned
from workflows.features.specs import arrays_of, spec
from workflows.fitting.learned import edges, figures, shift_and_scale, vocabulary, vocabulary_size
from workflows.operators.codes import FIRST_KNOWN
from workflows.operators.times import HOUR

FORMAT = 1


def compile_transform(
    workflow: Workflow, planned: list[Planned], inputs: list[Input], directory: Path, history: Sequence | None = None
) -> None:
    """Write `transform.json` and `vocabulary/*.npy` of a fitted workflow into `directory`, which must not exist yet.

    `history` adds the step that makes the query's sequence, which is no part of the workflow.
    """
    (directory / "vocabulary").mkdir(parents=True)
    steps, outputs = [], []
    for number, entry in enumerate(planned):
        steps.append(_step(workflow, entry, directory / "vocabulary", number))
        outputs += [
            {"name": one.name, "dtype": one.dtype, "list": one.width > 0, "max_length": one.width}
            for one in arrays_of(spec(workflow, entry))
        ]
    if history:
        made = {"list": True, "max_length": history.last}
        step = {"op": "sequence", "input": Columns.Timestamp, "output": HISTORY, "max_length": history.last}
        steps.append({**step, **_left(history)})
        outputs += [{"name": HISTORY, "dtype": "int64", **made}, {"name": HISTORY_AGE, "dtype": "float32", **made}]
    document = {
        "format": FORMAT,
        "inputs": [entry._asdict() for entry in inputs],
        "steps": steps,
        "outputs": outputs,
    }
    content = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False)
    (directory / "transform.json").write_text(content + "\n", encoding="utf-8")


def _step(workflow: Workflow, entry: Planned, directory: Path, number: int) -> dict[str, Any]:
    op, parameters = _PARAMETERS[type(entry.feature)](workflow, entry)
    read: dict[str, Any] = {"input": entry.columns[0]} if len(entry.columns) == 1 else {"inputs": list(entry.columns)}
    step = {"op": op, **read, "output": entry.output, **parameters}
    if "vocabulary" in step:
        shared = getattr(entry.feature, "vocabulary", None)
        prefix, name = ("shared", shared) if shared else (f"{number:02d}", entry.output)
        step["vocabulary"] = f"{prefix}_{re.sub('[^A-Za-z0-9_]', '_', name)[:64]}"
        _write_vocabulary(vocabulary(workflow, entry.output), directory, step["vocabulary"])
    if "table" in step:
        step["table"] = f"{step['vocabulary']}_table"
        np.save(directory / f"{step['table']}.npy", figures(workflow, entry.output))
    return step


def _number(workflow: Workflow, entry: Planned) -> dict[str, Any]:
    """Return the parameters of what follows once a number is there; options that are not used are left out."""
    feature: Any = entry.feature
    mean, std = shift_and_scale(workflow, entry.output) if feature.normalise else (0.0, 1.0)
    used = {"clip_min": feature.clip_min, "clip_max": feature.clip_max, "log": feature.log or None}
    return {"fill": feature.fill, "mean": mean, "std": std, **_given(used)}


def _continuous(workflow: Workflow, entry: Planned) -> tuple[str, dict[str, Any]]:
    return "continuous", _number(workflow, entry)


def _age(workflow: Workflow, entry: Planned) -> tuple[str, dict[str, Any]]:
    feature: Any = entry.feature
    return "age", {"unit": SECONDS[feature.unit], **_number(workflow, entry)}


def _bucketized(workflow: Workflow, entry: Planned) -> tuple[str, dict[str, Any]]:
    return "bucketized", {"edges": edges(workflow, entry.output)}


def _time(_: Workflow, entry: Planned) -> tuple[str, dict[str, Any]]:
    feature: Any = entry.feature
    return "cyclic" if feature.cyclic else "time", {
        "part": feature.part,
        "offset": round(feature.utc_offset_hours * HOUR),
    }


def _categorical(workflow: Workflow, entry: Planned) -> tuple[str, dict[str, Any]]:
    return "categorical", _codes(workflow, entry)


def _cross(workflow: Workflow, entry: Planned) -> tuple[str, dict[str, Any]]:
    feature: Any = entry.feature
    return "cross", {"edges": [list(feature.edges.get(one, ())) for one in entry.columns], **_codes(workflow, entry)}


def _multi_hot(workflow: Workflow, entry: Planned) -> tuple[str, dict[str, Any]]:
    feature: Any = entry.feature
    op = "weighted_multi_hot" if feature.weights else "multi_hot"
    last = _given({"keep_last": feature.keep == "last" or None})
    return op, {"max_length": feature.max_length, **last, **_left(feature), **_codes(workflow, entry)}


def _text(workflow: Workflow, entry: Planned) -> tuple[str, dict[str, Any]]:
    feature: Any = entry.feature
    return "text", {"vocabulary": "", "max_length": feature.max_length, "ngrams": feature.ngrams}


def _embedding(_: Workflow, entry: Planned) -> tuple[str, dict[str, Any]]:
    return ("categorical", {"vocabulary": ""}) if is_keyed(entry.feature) else ("vector", {})


def _aggregate(_: Workflow, __: Planned) -> tuple[str, dict[str, Any]]:
    return "lookup", {"vocabulary": "", "table": ""}


_PARAMETERS: dict[type, Callable[[Workflow, Planned], tuple[str, dict[str, Any]]]] = {
    Continuous: _continuous,
    Age: _age,
    Bucketized: _bucketized,
    Time: _time,
    Categorical: _categorical,
    Cross: _cross,
    MultiHot: _multi_hot,
    Text: _text,
    Embedding: _embedding,
    Aggregate: _aggregate,
}


def _codes(workflow: Workflow, entry: Planned) -> dict[str, Any]:
    """Return where a feature's codes come from: a vocabulary, a hash, or both. Its name is filled in later."""
    feature: Any = entry.feature
    if not feature.hash_buckets:
        return {"vocabulary": ""}
    hashed = {"hash_buckets": feature.hash_buckets, "hash_from": FIRST_KNOWN + vocabulary_size(workflow, entry)}
    return hashed if is_hashed(feature) else {"vocabulary": "", **hashed}


def _left(feature: Any) -> dict[str, Any]:
    return {"pad_left": True} if feature.padding == "left" else {}


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _write_vocabulary(values: pd.Series, directory: Path, name: str) -> None:
    """Integers as `<name>.npy` (int64), strings as `<name>.utf8.npy` (uint8) and `<name>.offsets.npy`."""
    if pd.api.types.is_integer_dtype(values.dtype):
        np.save(directory / f"{name}.npy", values.to_numpy(dtype=np.int64))
        return
    encoded = [value.encode("utf-8") for value in values]
    offsets = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
    np.save(directory / f"{name}.utf8.npy", np.frombuffer(b"".join(encoded), dtype=np.uint8))
    np.save(directory / f"{name}.offsets.npy", offsets)
