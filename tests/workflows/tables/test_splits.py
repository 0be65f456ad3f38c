"""Splits are partitions, reproducible, and do what their names say."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from workflows.config import GivenSplit, LeaveLastOutSplit, RandomSplit, Split, TemporalSplit
from workflows.errors import DataError
from workflows.tables.splits import Parts, split

Log = list[tuple[int, int]]
logs = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9)), min_size=10, max_size=60)
"""(user, second): few of both, so that ties are common."""
shares = st.floats(0.1, 0.6)  # so that few examples have an empty part, which is refused
configs: st.SearchStrategy[Split] = st.one_of(
    st.builds(RandomSplit, test=shares, validation=shares, seed=st.integers(0, 2**32)),
    st.builds(TemporalSplit, test=shares, validation=shares),
    st.just(LeaveLastOutSplit()),
)


def frame(log: Log) -> pd.DataFrame:
    users, seconds = np.array(log).T
    return pd.DataFrame({"user_id": users, "timestamp": seconds})


def parts_of(log: Log, config: Split) -> Parts:
    try:
        return split(frame(log), config)
    except DataError:
        assume(False)
        raise


@given(log=logs, config=configs)
def test_every_row_is_in_exactly_one_part_and_a_second_call_gives_the_same(log: Log, config: Split) -> None:
    parts = parts_of(log, config)
    assert sorted(np.concatenate(parts)) == list(range(len(log)))
    assert all(part.size and part.dtype == np.int64 for part in parts)
    for part, again in zip(parts, split(frame(log), config), strict=True):
        np.testing.assert_array_equal(part, again)


def test_the_random_split_is_the_permutation_that_the_baselines_were_measured_on() -> None:
    order = np.random.default_rng(42).permutation(100_000)
    parts = split(pd.DataFrame({"user_id": np.zeros(100_000)}), RandomSplit(test=0.2, validation=0.1, seed=42))
    np.testing.assert_array_equal(np.concatenate([parts.train, parts.valid]), order[:80_000])
    np.testing.assert_array_equal(parts.test, order[80_000:])
    np.testing.assert_array_equal(parts.valid, order[72_000:80_000])


@given(log=logs, test=shares, validation=shares)
def test_no_earlier_part_of_a_temporal_split_has_a_later_row(log: Log, test: float, validation: float) -> None:
    parts = parts_of(log, TemporalSplit(test=test, validation=validation))
    when = [[(log[row][1], row) for row in part] for part in parts]
    assert max(when[0]) < min(when[1]) <= max(when[1]) < min(when[2])
    assert len(parts.test) == len(log) - round(len(log) * (1 - test))


@given(log=logs)
def test_leave_last_out_takes_the_last_two_rows_of_every_user_with_three(log: Log) -> None:
    parts = parts_of(log, LeaveLastOutSplit())
    for user in {user for user, _ in log}:
        rows = sorted((row for row in range(len(log)) if log[row][0] == user), key=lambda row: (log[row][1], row))
        training = rows if len(rows) < 3 else rows[:-2]
        assert set(rows) & set(parts.train) == set(training)
        if len(rows) >= 3:
            assert set(rows) & set(parts.valid) == {rows[-2]}
            assert set(rows) & set(parts.test) == {rows[-1]}


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (RandomSplit(test=0.01, validation=0.4), "test part of 4 interactions would be empty.*shares"),
        (TemporalSplit(test=0.5, validation=0.01), "valid part of 4 interactions would be empty"),
        (TemporalSplit(test=0.99), "train part of 4 interactions would be empty"),
        (LeaveLastOutSplit(), "at least three interactions"),
    ],
)
def test_a_split_that_leaves_a_part_empty_is_refused_with_the_remedy(config: Split, words: str) -> None:
    with pytest.raises(DataError, match=words):
        split(frame([(1, 1), (1, 2), (2, 1), (2, 2)]), config)


NAMES = {"train": 0, "validation": 1, "test": 2}


@given(log=logs, names=st.lists(st.sampled_from(sorted(NAMES)), min_size=60, max_size=60))
def test_a_given_split_is_taken_as_it_is_given(log: Log, names: list[str]) -> None:
    given_parts = np.array([NAMES[name] for name in names[: len(log)]], np.int8)
    assume(set(given_parts) == {0, 1, 2})
    parts = split(frame(log).assign(split=given_parts), GivenSplit(column="part"))
    for number, part in enumerate(parts):
        np.testing.assert_array_equal(part, np.flatnonzero(given_parts == number))


@given(log=logs, by_time=st.booleans())
def test_validation_that_is_not_given_is_carved_from_training_as_the_test_was(log: Log, by_time: bool) -> None:
    """Each user's last training row where the given test is each user's last; else a random share of training."""
    rows = frame(log) if by_time else frame(log).assign(timestamp=0)
    test = rows.sort_values("timestamp", kind="stable").groupby("user_id").tail(1).index
    numbers = np.where(rows.index.isin(test), 2, 0).astype(np.int8)
    train = np.flatnonzero(numbers == 0)
    many = [user for user, count in rows.iloc[train].groupby("user_id").size().items() if count >= 3]
    assume(len(train) >= 10 and (many or rows["timestamp"].nunique() < 2))
    parts = split(rows.assign(split=numbers), GivenSplit(column="part"))
    assert sorted([*parts.train, *parts.valid]) == train.tolist()
    np.testing.assert_array_equal(parts.test, np.flatnonzero(numbers == 2))
    if rows["timestamp"].nunique() > 1:
        assert sorted(rows["user_id"].iloc[parts.valid]) == many
        for row in parts.valid:
            same = [trained for trained in parts.train if log[trained][0] == log[row][0]]
            assert all((log[trained][1], trained) < (log[row][1], row) for trained in same)
    else:
        assert len(parts.valid) == round(len(train) * 0.1)
