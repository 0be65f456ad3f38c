"""Vocabularies made and looked up with Arrow are those of NVTabular's own `Categorify`, in its order."""

from __future__ import annotations

import tempfile
from typing import Any

import dask
import dask.dataframe as dd
import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st
from nvtabular.ops import Categorify, ColumnSelector

from workflows.fitting.fit import quiet
from workflows.operators.codes import Codes

COLUMN = ColumnSelector(["x"])
texts = st.lists(st.one_of(st.none(), st.text(max_size=2), st.sampled_from(["a", "b", "é", "日本"])), min_size=1)
near = st.lists(st.one_of(st.none(), st.integers(-3, 30)), min_size=1, max_size=60)
far = st.lists(st.one_of(st.none(), st.sampled_from([0, 1, -(2**63), 2**63 - 1, 2**40])), min_size=1)
limits = st.sampled_from([{}, {"freq_threshold": 2}, {"max_size": 5}])


def column(values: list[Any]) -> pd.DataFrame:
    kind = object if any(isinstance(value, str) for value in values) else "Int64"
    return pd.DataFrame({"x": pd.Series(values, dtype=kind)})


@settings(max_examples=60, deadline=None)
@given(values=st.one_of(texts, near, far), others=st.one_of(near, far), parts=st.integers(1, 9), limit=limits)
def test_fitted_in_any_number_of_parts_both_have_the_same_vocabulary_and_codes(
    values: list[Any], others: list[Any], parts: int, limit: dict[str, int]
) -> None:
    learned = column([*values, "a" if any(isinstance(value, str) for value in values) else 1])
    frames = dd.from_pandas(learned, npartitions=min(parts, len(learned)), sort=False)
    frame = learned if learned["x"].dtype == object else pd.concat([learned, column(others)], ignore_index=True)
    with tempfile.TemporaryDirectory() as ours, tempfile.TemporaryDirectory() as theirs, quiet():
        fast = Codes("x", out_path=ours, **limit)
        fast.fit_finalize(dask.compute(fast.fit(COLUMN, frames), scheduler="synchronous")[0])
        stock = Categorify(out_path=theirs, dtype=np.int64, **limit)
        stock.fit_finalize(dask.compute(stock.fit(COLUMN, frames), scheduler="synchronous")[0])
        left, right = (pd.read_parquet(operator.categories["x"]) for operator in (fast, stock))
        pd.testing.assert_frame_equal(left, right)
        known = frame["x"].notna()
        codes = fast.transform(COLUMN, frame)["x"]
        assert (codes[~known] == 1).all()
        assert codes[known].tolist() == stock.transform(COLUMN, frame[known].reset_index(drop=True))["x"].tolist()
