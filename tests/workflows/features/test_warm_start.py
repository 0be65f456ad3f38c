"""Features that go on from an earlier run's: what had a code keeps it, and what a code stands for does not move."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from workflows.config import (
    Aggregate,
    Bucketized,
    Categorical,
    Continuous,
    Cross,
    FeatureSide,
    MultiHot,
    RandomSplit,
    Sequence,
    Text,
    Time,
)
from workflows.errors import DataError, RecipeError
from workflows.features.canonical import describe
from workflows.features.plan import plan
from workflows.features.stage import build, load
from workflows.fitting.fit import FittedSide, PartedRows
from workflows.fitting.learned import Learned
from workflows.fitting.warm_start import with_new
from workflows.fitting.warm_start_record import UNSEEN, Earlier, check_same
from workflows.operators.vocabularies import Lookup
from workflows.tables.store import Tables

FEATURES: dict[str, Any] = {
    "user_id": Categorical(),
    "often": Categorical(min_frequency=2),
    "few": Categorical(max_size=6),
    "hashed": Categorical(hash_buckets=5),
    "both": Categorical(max_size=4, hash_buckets=3),
    "words": MultiHot(max_length=3, vocabulary="word"),
    "word": Categorical(vocabulary="word"),
    "text": Text(ngrams=2, max_tokens=50),
    "pair": Cross(of=("often", "word")),
    "number": [Continuous(), Continuous(name="ranged", normalise="min-max"), Bucketized(buckets=5, method="quantile")],
    "when": Time(part="hour"),
}
letters = st.sampled_from("abcdefghijklmnop")
rows_of_values = st.lists(
    st.fixed_dictionaries(
        {
            "user_id": st.integers(-5, 30),
            "often": st.none() | letters,
            "few": st.none() | letters,
            "hashed": st.none() | letters,
            "both": st.none() | letters,
            "words": st.none() | st.lists(letters, max_size=4),
            "word": st.none() | letters,
            "text": st.none() | st.lists(letters, max_size=5).map(" ".join),
            "number": st.none() | st.floats(-100, 100),
            "when": st.none() | st.integers(0, 2_000_000_000),
        }
    ),
    min_size=1,
    max_size=12,
)
EVERY = {"user_id": 1, "often": "a", "few": "a", "hashed": "a", "both": "a", "words": ["a"], "word": "a", "text": "a b"}
ALWAYS = [{**EVERY, "number": 1.5, "when": 7}, {**EVERY, "number": 2.5, "when": 70_000}]
texts = st.lists(st.text(max_size=2) | st.sampled_from(["a\0", "a", "a\0b"]), unique=True)
integers = st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(0, 9), unique=True)


def series(values: list[Any], dtype: str) -> Any:
    return pd.Series(values, dtype=dtype)


@given(
    st.one_of(st.tuples(texts, texts, st.just("object")), st.tuples(integers, integers, st.just("Int64"))), st.data()
)
def test_old_values_keep_their_codes_and_new_ones_follow(drawn: tuple[list[Any], list[Any], str], data: Any) -> None:
    old, new, dtype = drawn
    limit = data.draw(st.none() | st.integers(len(old), len(old) + 5))
    grown = with_new(series(old, dtype), series(new, dtype), limit)
    added = [value for value in new if value not in old]
    assert grown.tolist() == [*old, *(added if limit is None else added[: limit - len(old)])]
    codes = Lookup(grown).codes(series(old, dtype)), Lookup(series(old, dtype)).codes(series(old, dtype))
    np.testing.assert_array_equal(*codes)


def side(rows: list[dict[str, Any]], directory: Path, earlier: FittedSide | None = None) -> FittedSide:
    planned = plan(FeatureSide(features=FEATURES), "query.features")
    frame = pd.DataFrame(rows)
    inputs = describe(frame, planned, "query.features")
    return FittedSide.fit(
        planned,
        inputs,
        PartedRows.of(frame),
        False,
        directory,
        earlier=earlier.workflow if earlier is not None else None,
    )


@settings(max_examples=5, suppress_health_check=list(HealthCheck))
@given(rows_of_values, rows_of_values, rows_of_values)
def test_every_code_starts_from_the_row_that_its_value_had(
    then: list[dict[str, Any]], now: list[dict[str, Any]], queried: list[dict[str, Any]]
) -> None:
    """So grown towers give every row the vector that the earlier ones give it."""
    with tempfile.TemporaryDirectory() as scratch:
        old = side([*ALWAYS, *then], Path(scratch, "old"))
        new = side([*ALWAYS, *now], Path(scratch, "new"), old)
        frame = pd.DataFrame([*ALWAYS, *queried, *then, *now])
        before, after, rows = old.transform(frame), new.transform(frame), new.rows_of(old.workflow)
        for spec in new.specs():
            expected, actual = before[spec.name], after[spec.name]
            if spec.cardinality:
                assert len(rows[spec.name]) == spec.cardinality
                actual = rows[spec.name][actual]
            np.testing.assert_array_equal(actual, expected, err_msg=spec.name)
        for name in ("user_id", "often", "few", "words", "text", "pair"):
            vocabulary = Learned(old.workflow).vocabulary(name).tolist()
            assert Learned(new.workflow).vocabulary(name).tolist()[: len(vocabulary)] == vocabulary


QUERY: dict[str, Any] = {"user_id": [Categorical(), Aggregate(of="rating")], "history": Sequence(last=3)}
ITEM: dict[str, Any] = {"item_id": Categorical(), "year": Continuous()}


def tables(users: int, items: list[int], rows: int) -> Tables:
    random = np.random.default_rng(rows)
    return Tables(
        pd.DataFrame(
            {
                "user_id": np.arange(rows) % users,
                "item_id": random.choice(items, rows),
                "rating": random.random(rows).astype(np.float32),
                "timestamp": 1_000_000_000 + np.arange(rows) * 3600,
            }
        ),
        pd.DataFrame({"user_id": np.arange(users)}),
        pd.DataFrame({"item_id": items, "title": [f"item {i}" for i in items], "year": [i / 2 for i in items]}),
    )


def test_features_of_newer_tables_go_on_whatever_the_order_of_the_catalogue(tmp_path: Path) -> None:
    query, item = FeatureSide(features=QUERY), FeatureSide(features=ITEM)
    split = RandomSplit(test=0.1, validation=0.1)
    build(tables(6, [3, 1, 2], 60), query, item, split, "cpu", tmp_path / "then" / "features")
    earlier = Earlier(tmp_path / "then" / "features", query, item)
    build(tables(9, [7, 2, 3], 90), query, item, split, "cpu", tmp_path / "now", earlier=earlier)
    then, now = load(earlier.directory), load(tmp_path / "now")
    assert then.warm_start is None
    assert now.warm_start is not None
    # item 7 is new, 2 and 3 stood in places 2 and 0 (codes 5 and 3), and 1 is gone
    assert now.warm_start.rows["history"].tolist() == [0, 1, 2, UNSEEN, 5, 3]
    assert now.warm_start.rows["user_id_categorical"].tolist() == [*range(9), UNSEEN, UNSEEN, UNSEEN]
    assert now.warm_start.last["train"] == then.train.interactions["timestamp"].max()
    years = {
        item["item_id"]: year for item, year in zip(then.catalogue.to_dict("records"), then.items["year"], strict=True)
    }
    assert [now.items["year"][1], now.items["year"][2]] == [years[2], years[3]], "normalised as it was"
    assert np.isfinite(now.train.query["user_id_aggregate"]).all()


def test_an_aggregate_keeps_its_scale(tmp_path: Path) -> None:
    """The same interactions twice as often are more, and not as many as before."""
    query, item = FeatureSide(features=QUERY), FeatureSide(features=ITEM)
    once = tables(5, [1, 2, 3], 50)
    twice = Tables(pd.concat([once.interactions] * 2, ignore_index=True), once.users, once.items)
    build(once, query, item, RandomSplit(), "cpu", tmp_path / "then" / "features")
    earlier = Earlier(tmp_path / "then" / "features", query, item)
    build(twice, query, item, RandomSplit(), "cpu", tmp_path / "now", earlier=earlier)
    counts = [load(run).train.query["user_id_aggregate"][:, 0].mean() for run in (earlier.directory, tmp_path / "now")]
    assert counts[1] > counts[0] + 1


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ({"a": Categorical()}, r"\[query.features\] b: runs/x has it and this recipe has not"),
        ({"a": Categorical(), "b": Continuous(), "c": Categorical()}, "c: runs/x has no such feature"),
        ({"b": Continuous(), "a": Categorical()}, r"the order of the features is a, b in runs/x"),
        ({"a": Categorical(), "b": Continuous(log=True)}, r"b: log is True, and in runs/x False"),
        ({"a": Categorical(), "b": Bucketized()}, r"b: kind is 'bucketized', and in runs/x 'continuous'"),
        ({"a": Categorical(hash_buckets=9), "b": Continuous()}, r"a: max_size|a: hash_buckets is 9"),
    ],
)
def test_other_features_are_refused_with_what_differs(features: dict[str, Any], message: str) -> None:
    earlier = FeatureSide(features={"a": Categorical(), "b": Continuous()})
    with pytest.raises(RecipeError, match=message):
        check_same(FeatureSide(features=features), earlier, "query.features", Path("runs/x"))


def test_limits_may_change_but_take_no_code_away(tmp_path: Path) -> None:
    def make(name: str, feature: Any, values: list[Any], earlier: FittedSide | None = None) -> FittedSide:
        planned, frame = plan(FeatureSide(features={"a": feature}), "item.features"), pd.DataFrame({"a": values})
        known = earlier.workflow if earlier else None
        inputs, rows = describe(frame, planned, ""), PartedRows.of(frame)
        return FittedSide.fit(planned, inputs, rows, False, tmp_path / name, earlier=known)

    old = make("old", Categorical(), ["x", "y", "z"])
    with pytest.raises(RecipeError, match=r"a: max_size is 2, but 3 values have codes"):
        make("less", Categorical(max_size=2), ["x", "y"], old)
    full = make("full", Categorical(max_size=3), ["v", "v", "x"], old)
    assert Learned(full.workflow).vocabulary("a").tolist() == Learned(old.workflow).vocabulary("a").tolist()
    with pytest.raises(DataError, match=r"column 'a': holds integers, and in the earlier run text"):
        make("typed", Categorical(), [1, 2, 3], old)
