"""The causal history against its definition in plain Python."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workflows.config import Categorical, FeatureSide, RandomSplit, Sequence
from workflows.errors import RecipeError
from workflows.features.history import history_features, sequence_spec
from workflows.features.plan import FeatureSpec, plan
from workflows.features.stage import build, load
from workflows.tables.store import Tables

USERS = ["ann", "bob", "cy"]
ITEMS = 7
INTERACTIONS = st.lists(st.tuples(st.sampled_from(USERS), st.integers(0, ITEMS - 1), st.integers(0, 6)), max_size=25)


def spec(last: int) -> FeatureSpec:
    return FeatureSpec(
        name="history", source="history", kind="sequence", dtype="int64", cardinality=ITEMS + 3, max_length=last
    )


def frame(rows: list[tuple[Any, int, int]], strings: bool = True) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["user_id", "item_index", "timestamp"])
    table["user_id"] = table["user_id"].astype(object) if strings else table["user_id"].map(USERS.index).astype("int64")
    return table.astype({"item_index": "int64", "timestamp": "int64"})


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
    history = history_features(spec(last), frame(rows, strings), frame(known, strings), own)
    assert {name: (array.dtype, array.shape) for name, array in history.items()} == {
        "history": (np.dtype("int64"), (len(rows), last)),
        "history_age": (np.dtype("float32"), (len(rows), last)),
    }
    for number, row in enumerate(rows):
        codes, ages = defined(row, known, number if own else None, last)
        assert history["history"][number].tolist() == codes
        assert history["history_age"][number].tolist() == ages


@settings(max_examples=60, deadline=None)
@given(known=INTERACTIONS, last=st.integers(1, 30), strings=st.booleans())
def test_a_training_row_sees_what_its_user_did_before_it_and_not_itself(
    known: list[tuple[str, int, int]], last: int, strings: bool
) -> None:
    assert_defined(known, known, True, last, strings)


@settings(max_examples=60, deadline=None)
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
    history = history_features(spec(3), frame([("zoe", 0, 99), ("ann", 0, 15)]), known, own=False)
    assert history["history"].tolist() == [[0, 0, 0], [4, 0, 0]]
    assert history["history_age"].tolist() == [[0, 0, 0], [5, 0, 0]]


def test_rows_of_every_block_get_their_own_history() -> None:
    rng = np.random.default_rng(3)
    columns = rng.integers(0, 3, 20_000), rng.integers(0, ITEMS, 20_000), rng.integers(0, 5000, 20_000)
    known = [(USERS[user], int(item), int(time)) for user, item, time in zip(*columns, strict=True)]
    history = history_features(spec(5), frame(known), frame(known), own=True)
    for row in (0, 8191, 8192, 16_384, 19_999):
        assert (history["history"][row].tolist(), history["history_age"][row].tolist()) == defined(
            known[row], known, row, 5
        )


def test_rows_that_cannot_be_the_known_ones_are_refused() -> None:
    with pytest.raises(ValueError, match="1 rows cannot be the 2"):
        history_features(spec(3), frame([("ann", 1, 1)]), frame([("ann", 1, 1)] * 2), own=True)


def test_a_recipe_without_history_has_no_such_spec() -> None:
    assert sequence_spec([]) is None
    assert sequence_spec([spec(4)]) == spec(4)


HISTORY = {"user_id": Categorical(), "history": Sequence(last=4)}


@pytest.mark.parametrize(
    ("section", "features", "message"),
    [
        ("item.features", {"item_id": Categorical(), "history": Sequence()}, r"under \[query.features\]"),
        ("query.features", {"user_id": Categorical(), "clicks": Sequence()}, r"clicks: .* under \[query.features\]"),
        ("query.features", {"user_id": Categorical(), "history": Categorical()}, "rename a raw column"),
        ("query.features", {"user_id": Categorical(), "history": [Sequence(), Sequence()]}, "there can be one"),
        ("query.features", {"history": Sequence()}, "at least one raw column"),
        ("query.features", {"history_age": Categorical(), "history": Sequence()}, "rename the raw column"),
    ],
)
def test_a_history_that_cannot_be_is_refused_with_the_remedy(
    section: str, features: dict[str, Any], message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        plan(FeatureSide(features=features), section)


def test_a_table_with_a_column_of_that_name_is_refused(frames: dict[str, pd.DataFrame], tmp_path: Path) -> None:
    frames["users"]["history"] = [1, 2, 3]
    with pytest.raises(RecipeError, match="the users have a column of that name"):
        build_features(frames, tmp_path / "features")


def test_the_features_stage_describes_the_history_and_the_time_that_it_needs(
    frames: dict[str, pd.DataFrame], tmp_path: Path
) -> None:
    build_features(frames, tmp_path / "features")
    data = load(tmp_path / "features")
    sequence = sequence_spec(data.query_specs)
    assert sequence is not None
    assert (sequence.cardinality, sequence.max_length) == (len(frames["items"]) + 3, 4)
    assert set(data.train.query) == {"user_id"}  # what is known of a user depends on the use
    stated = json.loads((tmp_path / "features" / "query_transform" / "transform.json").read_text())
    assert {"name": "timestamp", "dtype": "int64", "list": False} in stated["inputs"]
    assert stated["steps"][-1] == {"op": "sequence", "input": "timestamp", "output": "history", "max_length": 4}
    assert [output["name"] for output in stated["outputs"]] == ["user_id", "history", "history_age"]


def build_features(frames: dict[str, pd.DataFrame], out: Path) -> None:
    query, item = FeatureSide(features=HISTORY), FeatureSide(features={"item_id": Categorical()})
    build(Tables(**frames), query, item, RandomSplit(test=0.3, validation=0.3), "cpu", out)
