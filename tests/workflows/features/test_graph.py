"""The recipe's features become the right graph, or the recipe is refused with the key, the reason and the remedy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from nvtabular import Workflow

from workflows.config import Bucketized, Categorical, Continuous, FeatureSide, MultiHot, Text
from workflows.errors import DataError, RecipeError
from workflows.features.canonical import canonical, describe
from workflows.features.plan import plan
from workflows.features.workflow import wants_gpu
from workflows.fitting.fit import FittedSide, PartedRows, quiet
from workflows.fitting.learned import Learned
from workflows.operators.text import tokens

FRAME = pd.DataFrame(
    {
        "user_id": [7, 7, 9],
        "age": [30.0, np.nan, 50.0],
        "price": [1.25, 2.5, 3.75],
        "name": ["a", None, "b"],
        "tags": [["x"], [], None],
        "empty": [None, None, None],
        "mixed": ["a", 1, None],
        "when": pd.to_datetime(["2020-01-01"] * 3),
    }
)


def fitted(features: dict[str, Any], frame: pd.DataFrame, directory: Path) -> FittedSide:
    planned = plan(FeatureSide(features=features), "query.features")
    inputs = describe(frame, planned, "query.features")
    return FittedSide.fit(planned, inputs, PartedRows.of(frame), False, directory / "workflow")


@pytest.mark.parametrize(
    ("column", "feature", "message"),
    [
        ("nosuch", Categorical(), r"\[query.features\] nosuch: no such column; there are: user_id, age"),
        ("name", Continuous(), r"\[query.features\] name: kind 'continuous' needs integers or floats.*holds strings"),
        ("name", Bucketized(), "needs integers or floats"),
        ("name", MultiHot(), "needs lists of strings or lists of integers"),
        ("tags", Categorical(), "holds lists of strings"),
        ("tags", Text(), "needs strings"),
        ("price", Categorical(), "holds floats"),
        ("empty", Categorical(), "holds nothing but nulls"),
        ("mixed", Categorical(), "holds values of type mixed"),
        ("when", Continuous(), "holds values of type datetime"),
    ],
)
def test_a_feature_that_does_not_fit_its_column_is_refused(column: str, feature: Any, message: str) -> None:
    planned = plan(FeatureSide(features={column: feature}), "query.features")
    with pytest.raises(RecipeError, match=message):
        describe(FRAME, planned, "query.features")


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ({}, "is empty"),
        ({"age": [Continuous(), Continuous(fill=1.0)]}, "two features would be called 'age_continuous'"),
        ({"age_continuous": Categorical(), "age": [Continuous(), Bucketized()]}, "'age_continuous'"),
        ({"age": Categorical(min_frequency=2, max_size=5)}, "min_frequency and max_size cannot be combined"),
    ],
)
def test_impossible_combinations_are_refused(features: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        plan(FeatureSide(features=features), "query.features")


def test_a_gpu_that_is_not_there_is_refused_and_never_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    from merlin.core import compat

    monkeypatch.setattr(compat, "HAS_GPU", False)
    with pytest.raises(RecipeError, match='device = "gpu": no GPU is visible; use'):
        wants_gpu("gpu")
    assert not wants_gpu("auto")
    assert not wants_gpu("cpu")


def test_the_cpu_is_used_where_cudf_and_a_gpu_are_there_but_the_recipe_says_cpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from merlin.core import compat

    monkeypatch.setattr(compat, "HAS_GPU", True)
    monkeypatch.setattr(compat, "cudf", object())
    assert not wants_gpu("cpu")
    assert wants_gpu("auto")
    assert wants_gpu("gpu")


def test_integers_beside_a_null_keep_every_digit() -> None:
    frame = pd.DataFrame({"id": pd.Series([2**63 - 1, None, -(2**63)], dtype=object)})
    inputs = describe(frame, plan(FeatureSide(features={"id": Categorical()}), "s"), "s")
    assert canonical(frame, inputs)["id"].tolist() == [2**63 - 1, pd.NA, -(2**63)]


def test_an_integer_id_that_pandas_made_a_float_is_an_integer_again() -> None:
    inputs = describe(FRAME, plan(FeatureSide(features={"age": Categorical()}), "s"), "s")
    assert inputs[0].dtype == "int64"
    bucketized = describe(FRAME, plan(FeatureSide(features={"age": Bucketized()}), "s"), "s")
    assert bucketized[0].dtype == "float64"


def test_a_value_of_another_type_later_on_is_refused_with_its_column() -> None:
    inputs = describe(FRAME, plan(FeatureSide(features={"name": Categorical()}), "s"), "s")
    with pytest.raises(DataError, match="column 'name': expected string: got 3"):
        canonical(pd.DataFrame({"name": ["a", 3]}), inputs)


def test_buckets_are_equally_wide_and_cover_the_training_range(tmp_path: Path) -> None:
    def edges_of(values: list[float]) -> list[float]:
        directory = tmp_path / str(len(list(tmp_path.iterdir())))
        return Learned(fitted({"x": Bucketized(buckets=5)}, pd.DataFrame({"x": values}), directory).workflow).edges("x")

    assert edges_of([0.0, 10.0, np.nan, np.inf]) == [2.0, 4.0, 6.0, 8.0]
    assert edges_of([4.0, 4.0]) == [4.0]
    with pytest.raises(DataError, match="column 'x': no finite value"):
        edges_of([np.nan, np.inf])
    with pytest.raises(DataError, match="too wide"):
        edges_of([-1.7e308, 1.7e308])


@pytest.mark.parametrize("feature", [MultiHot(), MultiHot(weights="relevance")])
def test_the_first_list_may_be_empty(feature: MultiHot, tmp_path: Path) -> None:
    """Merlin takes the type of a column's lists from the first entry of the first row."""
    frame = pd.DataFrame({"tags": [[], ["a"], ["b", "a"]], "relevance": [[], [0.5], [2.0, 1.0]]})
    codes = fitted({"tags": feature}, frame, tmp_path).transform(frame)["tags"]
    assert (codes > 0).sum(axis=1).tolist() == [0, 1, 2]
    assert codes[1, 0] == codes[2, 1]


def test_bucket_codes_leave_room_for_null_and_unseen(tmp_path: Path) -> None:
    side = fitted({"price": Bucketized(buckets=3)}, pd.DataFrame({"price": [0.0, 3.0]}), tmp_path)
    codes = side.transform(pd.DataFrame({"price": [-9.0, 0.5, 1.0, 1.5, 2.0, np.inf, np.nan]}))["price"]
    assert codes.tolist() == [3, 3, 4, 4, 5, 5, 1]
    assert side.specs()[0].cardinality == 6


def test_categories_are_numbered_by_falling_frequency(tmp_path: Path) -> None:
    frame = pd.DataFrame({"name": ["b", "c", "c", "c", "b", "a", None]})
    side = fitted({"name": Categorical()}, frame, tmp_path)
    codes = side.transform(pd.DataFrame({"name": ["c", "b", "a", "never seen", None, ""]}))["name"]
    assert codes.tolist() == [3, 4, 5, 2, 1, 2]


@pytest.mark.parametrize(
    ("features", "column", "values"),
    [
        ({"x": Categorical()}, "x", [np.nan, np.nan]),
        ({"x": Text()}, "x", ["!!!", "?"]),
        ({"x": Continuous()}, "x", [1.0, np.inf]),
    ],
)
def test_a_training_column_that_teaches_nothing_is_refused(
    features: dict[str, Any], column: str, values: list[Any], tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="column 'x'"):
        fitted(features, pd.DataFrame({column: values}), tmp_path)


def test_a_vocabulary_whose_values_are_all_too_rare_codes_all_as_unseen(tmp_path: Path) -> None:
    side = fitted({"name": Categorical(min_frequency=9)}, FRAME, tmp_path)
    assert side.transform(FRAME)["name"].tolist() == [2, 1, 2]
    assert side.specs()[0].cardinality == 3


def test_a_constant_and_a_single_row_normalise_to_zero(tmp_path: Path) -> None:
    side = fitted({"price": Continuous()}, pd.DataFrame({"price": [4.0]}), tmp_path)
    assert side.transform(pd.DataFrame({"price": [4.0, 5.0]}))["price"].tolist() == [0.0, 1.0]


def test_fitting_twice_does_not_bring_back_an_old_vocabulary(tmp_path: Path) -> None:
    """NVTabular caches vocabularies by path for the life of the process."""
    first = fitted({"name": Categorical()}, pd.DataFrame({"name": ["a", "b"]}), tmp_path / "1")
    first.transform(pd.DataFrame({"name": ["a"]}))
    second = fitted({"name": Categorical()}, pd.DataFrame({"name": ["z"]}), tmp_path / "2")
    assert second.transform(pd.DataFrame({"name": ["z", "a"]}))["name"].tolist() == [3, 2]


def test_the_saved_workflow_loads_from_where_it_was_moved_to(tmp_path: Path) -> None:
    side = fitted({"name": Categorical(), "tags": MultiHot()}, FRAME, tmp_path)
    expected = side.transform(FRAME)
    (tmp_path / "workflow").rename(tmp_path / "moved")
    side.workflow = Workflow.load(tmp_path / "moved")
    with quiet():
        features = side.transform(FRAME)
    assert all(np.array_equal(features[name], expected[name]) for name in expected)


@pytest.mark.parametrize(
    ("text", "ngrams", "expected"),
    [
        (None, 1, []),
        ("", 2, []),
        ("Toy  Story!", 2, ["toy", "story", "toy story"]),
        ("a_b C-3", 1, ["a", "b", "c", "3"]),
        ("the the", 2, ["the", "the the"]),
        ("ŻÓŁĆ 日本", 1, ["żółć", "日本"]),
    ],
)
def test_words_are_runs_of_unicode_letters_and_digits(text: str | None, ngrams: int, expected: list[str]) -> None:
    assert tokens(text, ngrams) == expected
