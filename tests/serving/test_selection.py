"""The best columns of every row, found by bounds: none is missed, none is double, ties and blanks included."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ensemble.serving.selection import leaders


@given(
    rows=st.integers(1, 5),
    total=st.integers(2, 400),
    share=st.floats(0, 1),
    distinct=st.integers(1, 300),
    blanks=st.floats(0, 1),
    seed=st.integers(0, 2**32 - 1),
)
def test_no_column_is_missed_whose_score_is_above_the_bound(
    rows: int, total: int, share: float, distinct: int, blanks: float, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    fetch = max(1, int(share * (total - 1)))
    scores = generator.integers(0, distinct, (rows, total)).astype(np.float32)  # with ties
    scores[generator.random((rows, total)) < blanks] = -np.inf
    found = leaders(scores, fetch)
    for row in range(rows):
        kept = slice(None) if found.blank is None else ~found.blank[row]
        columns = found.columns[row][kept].tolist()
        assert columns == sorted(set(columns))
        assert scores[row][columns].min(initial=np.inf) > -np.inf
        assert len(columns) >= min(fetch, int((scores[row] > -np.inf).sum()))
        others = np.delete(scores[row], columns)
        assert others.max(initial=-np.inf) <= found.bound[row]
        assert all(scores[row][columns] >= found.bound[row])
