"""A fitted workflow that goes on from an earlier one: old codes keep their meaning, new values get codes after them.

What turns numbers into inputs of a tower stays the earlier run's: means, deviations, ranges, bucket edges. Weights that
were trained on these inputs would mean something else under new ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from nvtabular import Workflow

from workflows.errors import DataError, RecipeError
from workflows.features.plan import Planned
from workflows.features.specs import spec
from workflows.fitting.learned import Learned, operator_of
from workflows.fitting.warm_start_record import AS_MADE, Earlier, Rows
from workflows.operators.codes import FIRST_KNOWN, UNSEEN, Codes, KeyedCodes, Lookup
from workflows.operators.numbers import FittedBuckets, MinMax, Standardise
from workflows.operators.vocabularies import Lookup as Known

_FOLDER: Final = "grown"


def workflows_of(earlier: Earlier | None) -> tuple[Workflow | None, Workflow | None]:
    """Return the fitted workflows of an earlier run, its query's and its items'."""
    if earlier is None:
        return None, None
    query, item = (Workflow.load(str(earlier.directory / f"{side}_workflow")) for side in ("query", "item"))
    return query, item


def grow(workflow: Workflow, earlier: Workflow, planned: Sequence[Planned]) -> None:
    """Make `workflow`, fitted on the present rows and not saved yet, go on from an earlier one of the same features.

    Raises
    ------
    DataError
        The values of a column are of another type than the earlier run's, or a file of pre-trained vectors does not
        begin with the ids that it had.
    RecipeError
        A table is limited to fewer values than have codes.
    """
    for entry in planned:
        for kind, keep in _KEEP.items():
            op = operator_of(workflow, entry.output, kind)
            if op is not None:
                keep(op, operator_of(earlier, entry.output, kind), entry)


def rows_of(workflow: Workflow, earlier: Workflow, entry: Planned) -> Rows:
    """Return the row of the earlier embedding table that each row of a feature's starts from, int64 [cardinality].

    It is the code that the earlier run gives to the same value: the value's own, for a new one that of an unseen value
    or of its hash bucket. So grown towers give the vectors of the earlier ones until they are trained.
    """
    codes, size = operator_of(earlier, entry.output, Codes), spec(workflow, entry).cardinality
    if codes is None:
        rows = np.arange(size, dtype=np.int64)
        return np.where(rows < spec(earlier, entry).cardinality, rows, AS_MADE)
    known = codes.codes_of(entry.output, Learned(workflow).vocabulary(entry.output))
    buckets = codes.first_bucket(entry.output) + np.arange(codes.hash_buckets or 0)
    return np.concatenate([np.arange(FIRST_KNOWN), known, buckets]).astype(np.int64)


def with_new(old: pd.Series, new: pd.Series, limit: int | None = None) -> pd.Series:
    """Return the old values in their order, then those of `new` that are not among them in theirs, `limit` in all."""
    added = new[Known(old, unseen=UNSEEN).codes(new) == UNSEEN]
    admitted = added if limit is None else added.iloc[: max(0, limit - len(old))]
    return pd.concat([old, admitted.astype(old.dtype)], ignore_index=True)


def _keep_codes(op: Any, earlier: Any, entry: Planned) -> None:
    path, column = op.vocabulary_of(entry.output)
    if Path(path).parent.name == _FOLDER:
        return  # of a vocabulary that it shares, which has been done
    frame, old = pd.read_parquet(path), pd.read_parquet(earlier.vocabulary_of(entry.output)[0])[column]
    new = frame[column]
    if pd.api.types.is_integer_dtype(old.dtype) != pd.api.types.is_integer_dtype(new.dtype):
        raise DataError(
            f"column {entry.column!r}: holds {_type(new)}, and in the earlier run {_type(old)}; convert the column, or "
            "train from zero without --from"
        )
    values = with_new(old, new, _limit(entry, len(old)))
    sizes = np.append(0, frame[f"{column}_size"].to_numpy())
    places = Known(new, unseen=0, first=1).codes(values)
    grown = pd.DataFrame({column: values, f"{column}_size": sizes[places]})
    grown.index = pd.RangeIndex(FIRST_KNOWN, FIRST_KNOWN + len(grown))
    out = Path(op.out_path) / _FOLDER / Path(path).name
    out.parent.mkdir(parents=True, exist_ok=True)
    grown.to_parquet(out, compression=None)
    op.categories[column] = str(out)


def _limit(entry: Planned, old: int) -> int | None:
    for option in ("max_size", "max_tokens"):
        limit: int | None = getattr(entry.feature, option, None)
        if limit is not None and limit < old:
            raise RecipeError(
                f"{entry.column}: {option} is {limit:,}, but {old:,} values have codes from the earlier run, which "
                "they keep; raise it"
            )
        if limit is not None:
            return limit
    return None


def _keep_scale(op: Any, earlier: Any, _: Planned) -> None:
    for name in ("means", "stds", "mins", "maxs", "edges"):
        if hasattr(op, name):
            setattr(op, name, getattr(earlier, name))


def _check_ids(op: Any, earlier: Any, entry: Planned) -> None:
    if isinstance(op, Lookup):
        return  # an aggregate, which is no code
    if not np.array_equal(op.values[: len(earlier.values)], earlier.values):
        raise DataError(
            f"{entry.column}: the file of its vectors must begin with the {len(earlier.values):,} ids that it had in "
            "the earlier run, in their order; append new ones"
        )


_KEEP: Final[dict[type, Callable[[Any, Any, Planned], None]]] = {
    Codes: _keep_codes,
    Standardise: _keep_scale,
    MinMax: _keep_scale,
    FittedBuckets: _keep_scale,
    KeyedCodes: _check_ids,
}


def _type(values: pd.Series) -> str:
    return "integers" if pd.api.types.is_integer_dtype(values.dtype) else "text"
