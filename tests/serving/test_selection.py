"""The best columns of every row, found by bounds: none is missed, none is double, ties and blanks included."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ensemble.serving.search.selection import leaders, ranked


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
    leading = leaders(scores, fetch)
    for row in range(rows):
        kept = slice(None) if leading.blank is None else ~leading.blank[row]
        columns = leading.columns[row][kept].tolist()
        assert columns == sorted(set(columns))
        assert scores[row][columns].min(initial=np.inf) > -np.inf
        assert len(columns) >= min(fetch, int((scores[row] > -np.inf).sum()))
        rest = np.delete(scores[row], columns)
        assert rest.max(initial=-np.inf) <= leading.bound[row]
        assert all(scores[row][columns] >= leading.bound[row])


@given(
    rows=st.integers(1, 5),
    width=st.integers(1, 200),
    held=st.integers(1, 220),
    distinct=st.integers(1, 400),
    blanks=st.floats(0, 1),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_order_is_by_score_and_then_by_column(
    rows: int, width: int, held: int, distinct: int, blanks: float, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    scores = generator.integers(0, distinct, (rows, width)).astype(np.float32) - 7
    scores[generator.random((rows, width)) < blanks] = -np.inf
    order, best = ranked(scores, held)
    assert order.shape == best.shape == (rows, min(held, width))
    for row, line in enumerate(scores.tolist()):
        expected = sorted((-score, column) for column, score in enumerate(line) if score > -np.inf)[:held]
        assert order[row, : len(expected)].tolist() == [column for _, column in expected]
        assert best[row].tolist() == [-score for score, _ in expected] + [-np.inf] * (best.shape[1] - len(expected))
