"""Every kind of feature and option: the compiled transform makes what the NVTabular workflow makes, row by row.

`test_transform.py` does the same for the kinds that every recipe has.
"""

from __future__ import annotations

from typing import Any

import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from merlin.io import Dataset

from ensemble.serving.errors import InvalidRequest
from ensemble.serving.files.lookup import IdTable
from ensemble.serving.query import hashing as served_hashing
from ensemble.serving.query.vocabulary import Vocabulary
from tests.transforms import Compiled, assert_equal, columns_of
from workflows.config import Age, Bucketized, Categorical, Continuous, Cross, Embedding, FeatureSide, MultiHot, Time
from workflows.errors import DataError, RecipeError
from workflows.features.canonical import canonical, describe
from workflows.features.plan import plan
from workflows.features.workflow import build_workflow
from workflows.fitting.fit import quiet
from workflows.fitting.learned import Learned
from workflows.operators import hashing

LOW, HIGH = -(2**63), 2**63 - 1
WORDS = ["", "a", "b", "é", "日本", "nan", "toy story", "😀"]
INTEGERS = [LOW, HIGH, 0, 1, -1, 2**53 + 1, 7]
SECONDS = [0, -1, 59, 86_399, 86_400, 951_782_400, 1_700_000_000, 10**11, -(10**11), 4_102_444_799]
ROWS = 40

FEATURES: dict[str, Any] = {
    "integer": [
        Categorical(name="integer_hashed", hash_buckets=5),
        Categorical(name="integer_oov", max_size=3, hash_buckets=4),
        Categorical(name="integer_rare", min_frequency=7, hash_buckets=2),
    ],
    "word": [
        Categorical(name="word_hashed", hash_buckets=1000),
        Categorical(name="word_oov", max_size=2, hash_buckets=3),
        Categorical(name="word_shared", vocabulary="words"),
    ],
    "words": [
        MultiHot(name="words_shared", vocabulary="words", max_length=3, keep="last", padding="left"),
        MultiHot(name="words_hashed", hash_buckets=9, max_length=4),
        MultiHot(name="words_weighted", weights="weights", max_length=3, max_size=4, hash_buckets=2),
        MultiHot(name="words_last", weights="weights", max_length=2, keep="last", padding="left"),
    ],
    "all": Cross(of=("integer", "word", "number"), edges={"number": (-1.0, 0.0, 5.5)}),
    "pair": Cross(of=("word", "integer"), hash_buckets=11),
    "few": Cross(of=("word", "integer"), max_size=3, hash_buckets=4),
    "number": [
        Continuous(name="clipped", clip_min=-2.0, clip_max=9.5, fill=3.0),
        Continuous(name="low", clip_min=0.0, clip_max=100.0, log=True, normalise="min-max"),
        Continuous(name="signed", log=True, normalise=False, fill=-4.0),
        Bucketized(name="quantiles", buckets=6, method="quantile"),
        Bucketized(name="given", edges=(-3.0, 0.0, 2.5)),
    ],
    "same": Continuous(normalise="min-max"),
    "when": [
        Time(part="hour"),
        Time(part="weekday", utc_offset_hours=5.5),
        Time(part="month", utc_offset_hours=-12.0),
        Time(part="hour", cyclic=True),
        Time(part="weekday", cyclic=True, utc_offset_hours=-3.5),
        Time(part="month", cyclic=True),
        Age(name="age", until="now", unit="years", clip_min=0.0, clip_max=50.0, log=True),
        Age(name="seconds", until="now", unit="seconds", normalise=False, fill=-1.0),
    ],
    "vector": Embedding(),
}


def training_frame() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "integer": pd.array([None if i == 3 else INTEGERS[i * i % 7] for i in range(ROWS)], dtype="Int64"),
            "word": [None if i == 5 else WORDS[i % 3 * i % 8] for i in range(ROWS)],
            "words": [None if i == 2 else [*WORDS[: i % 5], *([None] if i % 7 == 0 else [])] for i in range(ROWS)],
            "weights": [
                None if i == 2 else [*(0.5 * j - 0.25 for j in range(i % 5)), *([1.0] if i % 7 == 0 else [])]
                for i in range(ROWS)
            ],
            "number": [np.nan if i == 8 else i * 0.9 - 11 for i in range(ROWS)],
            "same": [4.0] * ROWS,
            "when": [np.nan if i == 9 else 1e9 + i * 7777.7 for i in range(ROWS)],
            "now": [1_700_000_000 + i for i in range(ROWS)],
            "vector": [None if i == 1 else [i * 0.1, -1.0, 2.0] for i in range(ROWS)],
        }
    )


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    return Compiled(FeatureSide(features=FEATURES), training_frame(), tmp_path_factory.mktemp("kinds"))


words = st.sampled_from(WORDS) | st.text(st.characters(blacklist_categories=["Cs"]), max_size=6)
integers = st.sampled_from(INTEGERS) | st.integers(LOW, HIGH)
numbers = st.sampled_from([0.0, -0.0, -3.0, 2.5, 5.5, 1e37]) | st.floats(-1e37, 1e37) | st.just(np.nan)
seconds = st.sampled_from(SECONDS) | st.integers(-(10**12), 10**12)
weighted = st.lists(st.tuples(st.none() | words, st.none() | st.floats(-1e6, 1e6, width=32)), max_size=6)
row_strategy = st.fixed_dictionaries(
    {
        "integer": st.none() | integers,
        "word": st.none() | words,
        "entries": weighted,
        "number": st.none() | numbers,
        "same": st.none() | numbers,
        "when": st.none() | seconds.map(float) | st.floats(-1e37, 1e37) | st.just(np.nan),
        "now": st.none() | seconds,
        "vector": st.none() | st.lists(st.floats(-1e37, 1e37), min_size=3, max_size=3),
    }
)
NULLS: dict[str, Any] = dict.fromkeys(training_frame().columns)


def row_of(drawn: dict[str, Any]) -> dict[str, Any]:
    entries = drawn.pop("entries")
    return {**drawn, "words": [value for value, _ in entries], "weights": [weight for _, weight in entries]}


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(row_strategy.map(row_of), min_size=1, max_size=60))
def test_generated_rows_give_the_same_features(compiled: Compiled, rows: list[dict[str, Any]]) -> None:
    compiled.check(rows)


def test_training_rows_and_nulls_give_the_same_features(compiled: Compiled) -> None:
    rows = training_frame().astype(object)
    compiled.check(rows.where(rows.notna(), None).to_dict("records"))
    compiled.check([NULLS] * 3)
    empty = compiled.transform.compute(columns_of([], compiled.inputs))
    assert_equal(empty, compiled.fitted.transform(training_frame().iloc[:0]))


@pytest.mark.parametrize("value", [1e300, -1e42, np.inf, -np.inf])
@pytest.mark.parametrize("column", ["same", "when", "vector", "weights"])
def test_a_number_of_which_a_feature_is_no_finite_float32_is_refused_by_row(
    compiled: Compiled, column: str, value: float
) -> None:
    cell = {"vector": [1.0, value, 1.0], "weights": [value]}.get(column, value)
    plain = {**NULLS, "words": ["a"], "weights": [1.0], "now": 0}
    rows = [plain, {**plain, column: cell}]
    with pytest.raises(InvalidRequest, match=r"column '(words|\w+)': row 1: got "):
        compiled.transform.compute(columns_of(rows, compiled.inputs))


def test_a_vector_with_a_hole_is_refused(compiled: Compiled) -> None:
    for hole in (np.nan, None):
        rows = [NULLS, {**NULLS, "vector": [1.0, hole, 1.0]}]
        with pytest.raises(InvalidRequest, match="column 'vector': row 1: got nan in a vector"):
            compiled.transform.compute(columns_of(rows, compiled.inputs))


def test_edges_and_midnights_fall_on_the_same_side(compiled: Compiled) -> None:
    edges = np.array(Learned(compiled.fitted.workflow).edges("quantiles"))
    around = np.concatenate([edges, np.nextafter(edges, -np.inf), np.nextafter(edges, np.inf)])
    compiled.check([{**NULLS, "number": value} for value in around.tolist()])
    compiled.check([{**NULLS, "when": float(value), "now": value} for value in SECONDS])


def test_codes_stay_below_the_declared_cardinality(compiled: Compiled) -> None:
    rows = [{**NULLS, "integer": i, "word": f"new {i}", "words": [f"new {i}"], "weights": [1.0]} for i in range(300)]
    features = compiled.transform.compute(columns_of(rows, compiled.inputs))
    for spec in compiled.fitted.specs():
        if spec.cardinality:
            assert features[spec.name].max() < spec.cardinality
    assert len(np.unique(features["integer_hashed"])) == 5, "every bucket is used, and nothing else"
    assert set(features["integer_oov"]) <= {3, 4, 5, *range(6, 10)}


def test_a_shared_vocabulary_gives_a_value_one_code_wherever_it_stands(compiled: Compiled) -> None:
    rows = [{**NULLS, "word": word, "words": [word], "weights": [1.0]} for word in WORDS]
    features = compiled.transform.compute(columns_of(rows, compiled.inputs))
    np.testing.assert_array_equal(features["word_shared"], features["words_shared"][:, -1])
    specs = {spec.name: spec for spec in compiled.fitted.specs()}
    assert specs["word_shared"].table == specs["words_shared"].table == "words"
    assert specs["word_shared"].cardinality == specs["words_shared"].cardinality


def test_what_a_time_says_is_what_the_calendar_says(compiled: Compiled) -> None:
    moments = pd.to_datetime(["2000-02-29 23:59:59", "1969-12-31 00:00:00", "2024-01-01 12:30:00"])
    rows = [{**NULLS, "when": float(moment.value // 10**9)} for moment in moments]
    features = compiled.transform.compute(columns_of(rows, compiled.inputs))
    assert (features["when_hour"] - 3).tolist() == moments.hour.tolist()
    ahead, behind = moments + pd.Timedelta(hours=5.5), moments - pd.Timedelta(hours=12)
    assert (features["when_weekday"] - 3).tolist() == ahead.weekday.tolist()
    assert (features["when_month"] - 3).tolist() == (behind.month - 1).tolist()
    midnight = features["when_hour_cyclic"][:2]
    assert np.abs(midnight[0] - midnight[1]).max() < 1e-3, "a second before midnight is near midnight"


def test_quantile_buckets_hold_equally_many_rows(compiled: Compiled) -> None:
    buckets = compiled.fitted.transform(training_frame())["quantiles"]
    counts = np.bincount(buckets)[3:]
    assert counts.max() - counts.min() <= 1


@settings(max_examples=50, deadline=None)
@given(st.lists(integers, min_size=1, max_size=40), st.lists(words, min_size=1, max_size=20), st.integers(1, 10**9))
@example([0], ["", "\0a", "a", "a\0b"], 7)
def test_both_hashes_are_one(numbers: list[int], texts: list[str], buckets: int) -> None:
    values = np.array(numbers, dtype=np.int64)
    ours = hashing.hash_integers(values)
    np.testing.assert_array_equal(ours, served_hashing.hash_integers(values))
    assert [served_hashing.mixed(number % 2**64) for number in numbers] == ours.tolist()
    assert [served_hashing.hash_string(text) for text in texts] == hashing.hash_series(pd.Series(texts)).tolist()
    encoded = Vocabulary(IdTable(values[:0]), buckets).encode(values)
    np.testing.assert_array_equal(encoded, hashing.buckets_of(ours, buckets) + 3)


def test_hashes_never_change_between_versions() -> None:
    """A release that was made before must be answered from after an update."""
    assert hashing.hash_values([0, -1]).tolist() == [16294208416658607535, 16490336266968443936]
    assert hashing.hash_values(["", "é"]).tolist() == [13020603013274838756, 3394012004367669963]


def test_what_does_not_fit_together_is_told_by_training_and_server(compiled: Compiled) -> None:
    uneven = {**NULLS, "words": ["a", "b"], "weights": [1.0]}
    with pytest.raises(InvalidRequest, match=r"column 'words'.*row 0: has another number of weights"):
        compiled.transform.compute(columns_of([uneven], compiled.inputs))
    short = {**NULLS, "vector": [1.0]}
    with pytest.raises(InvalidRequest, match="column 'vector': row 0: a vector of 1 numbers, expected 3"):
        compiled.transform.compute(columns_of([short], compiled.inputs))
    frame = training_frame()
    for row, message in ((uneven, "1 weights of 2 values"), (short, "a vector of 1 numbers, expected 3")):
        changed = pd.concat([frame, pd.DataFrame([row])], ignore_index=True)
        with pytest.raises(DataError, match=message):
            compiled.fitted.transform(changed)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ({"number": Continuous(clip_min=2.0, clip_max=1.0)}, "clip_min must be below clip_max"),
        ({"number": Bucketized(edges=(2.0, 1.0))}, "edges must rise strictly"),
        ({"word": Categorical(vocabulary="w", hash_buckets=3)}, "every value is hashed"),
        ({"x": Cross(of=("word", "number"))}, "x, number: kind 'cross' needs integers or strings"),
        ({"x": Cross(of=("word", "nosuch"))}, "x, nosuch: no such column"),
        (
            {"x": Cross(of=("word", "integer"), edges={"number": (1.0,)})},
            "edges are of columns that `of` does not",
        ),
        (
            {"word": Categorical(vocabulary="w"), "integer": Categorical(vocabulary="w")},
            "share the vocabulary 'w'",
        ),
        (
            {"word": Categorical(vocabulary="w"), "words": MultiHot(vocabulary="w", max_size=3)},
            "share the vocabulary 'w' and differ in max_size",
        ),
        ({"when": Age(until="nosuch")}, "when, nosuch: no such column"),
        ({"word": Time(part="hour")}, "kind 'time' needs integers or floats"),
        ({"vector": Embedding(trainable=True)}, "the vectors of a column cannot be trained; put them into a file"),
        ({"words": MultiHot(weights="word")}, "words, word: kind 'multi-hot' needs lists of floats"),
        ({"words": [MultiHot(name="a", weights="weights"), MultiHot(name="a_weight")]}, "would be called 'a"),
        ({"integer": Categorical(name="ok"), "a b": Categorical()}, "a tower's input cannot be called 'a b'"),
    ],
)
def test_a_feature_that_cannot_be_is_refused(features: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        describe(training_frame(), plan(FeatureSide(features=features), "query.features"), "query.features")


def test_partitions_change_nothing_but_approximate_quantiles(compiled: Compiled, tmp_path: Any) -> None:
    """Fitted and applied on three partitions; one has nothing but empty lists."""
    frame = training_frame()
    planned, inputs = compiled.fitted.planned, compiled.inputs
    rows = canonical(frame, inputs)
    parts = [rows.iloc[:7], canonical(frame.iloc[[5, 10, 15]].assign(words=None, weights=None), inputs), rows.iloc[7:]]
    assert describe(frame, planned, "query.features") == inputs
    workflow = build_workflow(planned, str(tmp_path))
    with quiet():
        workflow.fit(Dataset(dd.concat([dd.from_pandas(part, npartitions=1) for part in parts]), cpu=True))
    whole = pd.concat([frame, frame.iloc[[5, 10, 15]].assign(words=None, weights=None)], ignore_index=True)
    expected = Compiled(FeatureSide(features=FEATURES), whole, tmp_path / "one").fitted.transform(frame)
    parted = compiled.fitted
    features = type(parted)(planned, inputs, workflow, False).transform(frame)
    del features["quantiles"], expected["quantiles"]
    assert_equal(features, expected)
