"""The compiled transform makes exactly what the NVTabular workflow makes, of every row that anybody can send.

Where stock NVTabular cannot take a row (a frame that is all null, integers beside a null, a null within a list), the
guards of `workflows.operators.codes` say what it means: null is 1, a null within a list is not there. `test_guards_*`
prove that the guards change nothing where the stock operator works.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import nvtabular
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from merlin.io import Dataset
from nvtabular import ops

from ensemble.serving.query.transform import Column, QueryTransform
from tests.transforms import Compiled, assert_equal, columns_of, raw_frame
from workflows.config import Bucketized, Categorical, Continuous, FeatureSide, MultiHot, Text
from workflows.features.canonical import Input
from workflows.features.stage import load
from workflows.fitting.fit import quiet
from workflows.fitting.learned import Learned
from workflows.operators.text import tokens
from workflows.tables.store import Tables

LOW, HIGH = -(2**63), 2**63 - 1
WORDS = ["", " ", "a", "A", "\u00e9", "e\u0301", "日本", "nan", "None", "<NA>", "0", "ß", "İ", "😀", "toy story"]
INTEGERS = [LOW, LOW + 1, HIGH - 1, HIGH, 0, 1, -1, 2**53, 2**53 + 1]
TEXTS = ["Toy Story", "toy toy TOY", "", "!!!", "Ünïcode ŻÓŁĆ 42", "a_b c-d", "İstanbul", "日本 映画", "x" * 300]
NUMBERS = [0.0, -0.0, 1.5, -1e37, 1e37, 1e-320, 3.0, 2.0]

FEATURES: dict[str, Any] = {
    "integer": Categorical(),
    "word": Categorical(),
    "frequent": Categorical(min_frequency=2),
    "few": Categorical(max_size=2),
    "number": [Continuous(fill=-7.25), Bucketized(buckets=7)],
    "count": [Continuous(normalise=False, fill=3.0), Bucketized(buckets=2)],
    "constant": Continuous(),
    "words": MultiHot(max_length=3),
    "integers": MultiHot(max_length=4, max_size=3),
    "text": Text(ngrams=3, max_tokens=20, max_length=5),
}


def training_frame() -> pd.DataFrame:
    rows = 30
    return pd.DataFrame(
        {
            "integer": [INTEGERS[i % len(INTEGERS)] for i in range(rows)],
            "word": [None if i == 7 else WORDS[i % len(WORDS)] for i in range(rows)],
            "frequent": [f"once {i}" if i < 5 else f"often {i % 3}" for i in range(rows)],
            "few": [["x", "x", "x", "y", "y", "z"][i % 6] for i in range(rows)],
            "number": [np.nan if i == 3 else i * 1.7 - 11 for i in range(rows)],
            "count": pd.array([None if i == 4 else i * i - 40 for i in range(rows)], dtype="Int64"),
            "constant": [5.0] * rows,
            "words": [None if i == 2 else WORDS[: i % 6] for i in range(rows)],
            "integers": [INTEGERS[i % 5 : i % 9] for i in range(rows)],
            "text": [None if i == 9 else TEXTS[i % len(TEXTS)] for i in range(rows)],
        }
    )


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    return Compiled(FeatureSide(features=FEATURES), training_frame(), tmp_path_factory.mktemp("compiled"))


anything = st.text(st.characters(blacklist_categories=["Cs"]), max_size=12)
integers = st.sampled_from(INTEGERS) | st.integers(LOW, HIGH)
words = st.sampled_from(WORDS) | anything
numbers = st.sampled_from(NUMBERS) | st.floats(-1e37, 1e37) | st.just(np.nan)
row_strategy = st.fixed_dictionaries(
    {
        "integer": st.none() | integers,
        "word": st.none() | words,
        "frequent": st.none() | st.sampled_from(["often 0", "often 1", "once 1"]) | anything,
        "few": st.none() | st.sampled_from(["x", "y", "z", ""]),
        "number": st.none() | numbers,
        "count": st.none() | integers,
        "constant": st.none() | numbers,
        "words": st.none() | st.lists(st.none() | words, max_size=8),
        "integers": st.none() | st.lists(st.none() | integers, max_size=8),
        "text": st.none() | st.sampled_from(TEXTS) | st.lists(words, max_size=12).map(" ".join),
    }
)
NULLS = dict.fromkeys(FEATURES)


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(row_strategy, min_size=1, max_size=120))
def test_generated_rows_give_the_same_features(compiled: Compiled, rows: list[dict[str, Any]]) -> None:
    compiled.check(rows)


def test_training_rows_give_the_same_features(compiled: Compiled) -> None:
    rows = training_frame().astype(object)
    compiled.check(rows.where(rows.notna(), None).to_dict("records"))


@pytest.mark.parametrize("count", [1, 2, 50])
def test_rows_that_are_all_null_are_served(compiled: Compiled, count: int) -> None:
    compiled.check([NULLS] * count)


def test_known_values_are_told_apart_to_the_last_bit(compiled: Compiled) -> None:
    codes = compiled.transform.compute(columns_of([{**NULLS, "integer": value} for value in INTEGERS], compiled.inputs))
    assert sorted(codes["integer"]) == list(range(3, 3 + len(INTEGERS)))
    compiled.check([{**NULLS, "integer": value} for value in [*INTEGERS, 2**53 + 2, LOW + 2, HIGH - 2]])


def test_a_number_on_an_edge_falls_into_the_same_bucket(compiled: Compiled) -> None:
    on = np.array(Learned(compiled.fitted.workflow).edges("number_bucketized"))
    around = np.concatenate([on, np.nextafter(on, -np.inf), np.nextafter(on, np.inf)])
    compiled.check([{**NULLS, "number": value} for value in around.tolist()])


def test_long_batches_and_long_lists_give_the_same_features(compiled: Compiled) -> None:
    long = {**NULLS, "words": WORDS * 500, "integers": INTEGERS * 500, "text": " ".join(TEXTS) * 20, "integer": 1}
    expected = compiled.fitted.transform(raw_frame([long, NULLS] * 100, compiled.inputs))
    assert_equal(compiled.transform.compute(columns_of([long, NULLS] * 100, compiled.inputs)), expected)


def test_no_rows_give_no_features(compiled: Compiled) -> None:
    features = compiled.transform.compute(columns_of([], compiled.inputs))
    assert_equal(features, compiled.fitted.transform(raw_frame([], compiled.inputs)))
    assert {len(values) for values in features.values()} == {0}


def test_codes_stay_below_the_declared_cardinality(compiled: Compiled) -> None:
    rows = training_frame().astype(object)
    features = compiled.transform.compute(
        columns_of(rows.where(rows.notna(), None).to_dict("records"), compiled.inputs)
    )
    for spec in compiled.fitted.specs():
        if spec.kind == "continuous":
            assert spec.cardinality == 0
        else:
            assert features[spec.name].max() < spec.cardinality
    known = {"few": 2, "integers": 3, "frequent": 3}
    for spec in compiled.fitted.specs():
        if spec.name in known:
            assert spec.cardinality == 3 + known[spec.name], "the recipe's size counts values, not reserved codes"


@settings(max_examples=100, deadline=None)
@given(st.none() | anything | st.sampled_from(TEXTS), st.integers(1, 3))
def test_both_tokenisers_are_one(text: str | None, ngrams: int) -> None:
    from ensemble.serving.query.vocabulary import tokens as served

    every = tokens(text, ngrams)
    assert [served(text, ngrams, most) for most in (1, 2, 10**6)] == [every[:1], every[:2], every]


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(st.none() | words, numbers), min_size=1, max_size=40))
def test_guards_change_nothing_where_stock_nvtabular_works(stock: Any, rows: list[tuple[str | None, float]]) -> None:
    workflow, compiled = stock
    # Stock Categorify raises IndexError on a column that is all null: one row that is not is appended.
    frame = pd.DataFrame([*rows, ("a", 0.0)], columns=["word", "number"])
    with quiet():
        theirs = workflow.transform(frame.rename(columns={"number": "bucket"}).assign(scaled=frame["number"]))
    ours = compiled.fitted.transform(frame)
    np.testing.assert_array_equal(ours["word"], theirs["word"])
    np.testing.assert_array_equal(ours["number_continuous"], theirs["scaled"].to_numpy())
    real = frame["number"].notna().to_numpy()
    np.testing.assert_array_equal(ours["number_bucketized"][real], theirs["bucket"].to_numpy()[real] + 3)


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A workflow of stock operators only, and ours, fitted on the same rows."""
    directory = tmp_path_factory.mktemp("stock")
    frame = training_frame()[["word", "number"]]
    side = {"word": Categorical(), "number": [Continuous(fill=0.5), Bucketized(buckets=5)]}
    ours = Compiled(FeatureSide(features=side), frame, directory)
    edges = np.linspace(frame["number"].min(), frame["number"].max(), 6)[1:-1].tolist()
    nodes = ["word"] >> ops.Categorify(out_path=str(directory / "theirs"))
    nodes += ["bucket"] >> ops.Bucketize({"bucket": edges})
    nodes += ["scaled"] >> ops.FillMissing(0.5) >> ops.Normalize(out_dtype=np.float32)
    workflow = nvtabular.Workflow(nodes)
    with quiet():
        renamed = frame.rename(columns={"number": "bucket"}).assign(scaled=frame["number"])
        workflow.fit(Dataset(renamed, cpu=True))
    return workflow, ours


def test_every_real_row_and_item_is_served_as_it_was_trained(run_dir: Path) -> None:
    """Over the features that NVTabular wrote for all interactions, hence all users, and all items of a real run."""
    tables = Tables.load(run_dir / "tables")
    features = load(run_dir / "features")
    query = QueryTransform.load(run_dir / "features" / "query_transform")
    for part in (features.train, features.valid, features.test):
        raw = part.interactions.merge(tables.users, on="user_id", how="left", validate="many_to_one")
        served = query.compute(real_columns(raw, query))
        # The history is no column: test_history.py compares it.
        assert set(served) - set(part.query) <= {"history", "history_age"}
        assert_equal({name: served[name] for name in served if name in part.query}, part.query)
    everyone = pd.concat([part.interactions for part in (features.train, features.valid, features.test)])
    assert set(everyone["user_id"]) == set(tables.users["user_id"])
    item = QueryTransform.load(run_dir / "features" / "item_transform")
    assert_equal(item.compute(real_columns(tables.items, item)), features.items)


def real_columns(frame: pd.DataFrame, transform: QueryTransform) -> dict[str, Column]:
    inputs = [Input(entry["name"], entry["dtype"], entry["list"]) for entry in transform.inputs]
    rows = frame[[entry.name for entry in inputs]].astype(object)
    return columns_of(rows.where(frame[rows.columns].notna(), None).to_dict("records"), inputs)
