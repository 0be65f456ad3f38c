"""The causal history against its definition in plain Python."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workflows.inputs import FeatureSpec
from workflows.sequences import history_features, sequence_spec

USERS = ["ann", "bob", "cy"]
ITEMS = 7
INTERACTIONS = st.lists(st.tuples(st.sampled_from(USERS), st.integers(0, ITEMS - 1), st.integers(0, 6)), max_size=25)


def spec(last: int) -> FeatureSpec:
    return FeatureSpec(
        name="history", source="history", kind="sequence", dtype="int64", cardinality=ITEMS + 3, max_length=last
    )


def frame(rows: list[tuple[Any, int, int]], strings: bool = True) -> pd.DataFrame:
    made = pd.DataFrame(rows, columns=["user_id", "item_index", "timestamp"])
    made["user_id"] = made["user_id"].astype(object) if strings else made["user_id"].map(USERS.index).astype("int64")
    return made.astype({"item_index": "int64", "timestamp": "int64"})


def defined(row: tuple[Any, int, int], known: list[tuple[Any, int, int]], own: int | None, last: int) -> Any:
    """Look at every known interaction, one by one."""
    past = [
        (then, position, item)
        for position, (user, item, then) in enumerate(known)
        if user == row[0] and then <= row[2] and position != own
    ]
    newest = sorted(past, reverse=True)[:last]
    blanks = [0] * (last - len(newest))
    return [item + 3 for _, _, item in newest] + blanks, [row[2] - then for then, _, _ in newest] + blanks


def assert_defined(rows: Any, known: Any, own: bool, last: int, strings: bool) -> None:
    found = history_features(spec(last), frame(rows, strings), frame(known, strings), own)
    assert {name: (array.dtype, array.shape) for name, array in found.items()} == {
        "history": (np.dtype("int64"), (len(rows), last)),
        "history_age": (np.dtype("float32"), (len(rows), last)),
    }
    for number, row in enumerate(rows):
        codes, ages = defined(row, known, number if own else None, last)
        assert found["history"][number].tolist() == codes
        assert found["history_age"][number].tolist() == ages


@settings(max_examples=200, deadline=None)
@given(known=INTERACTIONS, last=st.integers(1, 30), strings=st.booleans())
def test_a_training_row_sees_what_its_user_did_before_it_and_not_itself(
    known: list[tuple[str, int, int]], last: int, strings: bool
) -> None:
    assert_defined(known, known, True, last, strings)


@settings(max_examples=200, deadline=None)
@given(
    known=INTERACTIONS,
    rows=st.lists(st.tuples(st.sampled_from([*USERS[:2]]), st.just(0), st.integers(-1, 8)), max_size=8),
    last=st.integers(1, 30),
    strings=st.booleans(),
)
def test_a_query_sees_what_its_user_is_known_to_have_done_until_then(
    known: list[tuple[str, int, int]], rows: list[tuple[str, int, int]], last: int, strings: bool
) -> None:
    assert_defined(rows, known, False, last, strings)


def test_a_user_of_whom_nothing_is_known_has_an_empty_history() -> None:
    known = frame([("ann", 1, 10), ("ann", 2, 20)])
    found = history_features(spec(3), frame([("zoe", 0, 99), ("ann", 0, 15)]), known, own=False)
    assert found["history"].tolist() == [[0, 0, 0], [4, 0, 0]]
    assert found["history_age"].tolist() == [[0, 0, 0], [5, 0, 0]]


def test_rows_of_every_block_get_their_own_history() -> None:
    rng = np.random.default_rng(3)
    columns = rng.integers(0, 3, 20_000), rng.integers(0, ITEMS, 20_000), rng.integers(0, 5000, 20_000)
    known = [(USERS[user], int(item), int(time)) for user, item, time in zip(*columns, strict=True)]
    found = history_features(spec(5), frame(known), frame(known), own=True)
    for row in (0, 8191, 8192, 16_384, 19_999):
        assert (found["history"][row].tolist(), found["history_age"][row].tolist()) == defined(
            known[row], known, row, 5
        )


def test_rows_that_cannot_be_the_known_ones_are_refused() -> None:
    with pytest.raises(ValueError, match="1 rows cannot be the 2"):
        history_features(spec(3), frame([("ann", 1, 1)]), frame([("ann", 1, 1)] * 2), own=True)


def test_a_recipe_without_history_has_no_such_spec() -> None:
    assert sequence_spec([]) is None
    assert sequence_spec([spec(4)]) == spec(4)
