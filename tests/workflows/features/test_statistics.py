"""What is learned of numbers that come in several parts is what NumPy says of all of them together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from workflows.config import Aggregate, Bucketized, Continuous, FeatureSide
from workflows.errors import DataError
from workflows.features.canonical import describe
from workflows.features.plan import plan
from workflows.fitting.aggregates import fit_aggregates
from workflows.fitting.fit import FittedSide, PartedRows
from workflows.fitting.learned import Learned

HOUR = 3600


def fitted(feature: Any, parts: list[np.ndarray], directory: Path) -> FittedSide:
    directory.mkdir(exist_ok=True)
    frames = [pd.DataFrame({"x": part}) for part in parts]
    planned = plan(FeatureSide(features={"x": feature}), "query.features")
    sample = pd.concat(frames, ignore_index=True)
    inputs = describe(sample, planned, "query.features")
    rows = PartedRows(frames.__getitem__, len(frames), sample)
    return FittedSide.fit(planned, inputs, rows, False, directory / "workflow")


@pytest.mark.parametrize("least", [1.7e9, -1e12, 0.1])
def test_normalising_keeps_the_spread_of_numbers_that_are_large_beside_it(tmp_path: Path, least: float) -> None:
    """Unix times within an hour; one part is empty, one holds one row, one is later than the others."""
    random = np.random.default_rng(0)
    parts = [least + random.random(n) * HOUR + later for n, later in ((70, 0), (0, 0), (1, 0), (200, HOUR))]
    together = np.concatenate(parts)
    side = fitted(Continuous(), parts, tmp_path)
    assert Learned(side.workflow).shift_and_scale("x") == pytest.approx(
        (together.mean(), together.std(ddof=1)), rel=1e-7
    )
    normalised = side.transform(pd.DataFrame({"x": together}))["x"]
    assert normalised.std(ddof=1) == pytest.approx(1.0, rel=1e-4)


def test_equal_numbers_are_zero_whatever_they_round_to(tmp_path: Path) -> None:
    side = fitted(Continuous(), [np.full(7, 0.1), np.full(10, 0.1)], tmp_path)
    assert side.transform(pd.DataFrame({"x": [0.1, 1.1]}))["x"].tolist() == [0.0, 1.0]


@pytest.mark.parametrize("buckets", [2, 30])
def test_quantile_buckets_of_several_parts_hold_equally_many_rows(tmp_path: Path, buckets: int) -> None:
    """Parts that differ in size and in where their numbers lie, as tables that are sorted by time have them."""
    random = np.random.default_rng(buckets)
    parts = [random.lognormal(0, 2, 47_000), 1e4 + random.random(23_000), random.random(31) - 5, random.random(12_000)]
    together = np.concatenate(parts)
    edges = Learned(fitted(Bucketized(method="quantile", buckets=buckets), parts, tmp_path).workflow).edges("x")
    shares = np.bincount(np.searchsorted(edges, together, side="right"), minlength=buckets) / len(together)
    assert np.abs(shares - 1 / buckets).max() <= 2e-4


def test_quantiles_of_few_rows_are_exact_in_however_many_parts(tmp_path: Path) -> None:
    numbers = np.random.default_rng(1).normal(size=300)
    for number, parts in enumerate(([numbers], np.split(numbers, [10, 10, 250]))):
        side = fitted(Bucketized(method="quantile", buckets=7), parts, tmp_path / str(number))
        np.testing.assert_allclose(
            Learned(side.workflow).edges("x"), np.quantile(numbers, np.arange(1, 7) / 7), rtol=1e-12
        )


def aggregate(of: str, parts: list[pd.DataFrame]) -> np.ndarray:
    """Return the figures of a user's aggregates by code, float32 [users + 3, statistics]."""
    feature = Aggregate(of=of, statistics=("count", "mean"))
    planned = plan(FeatureSide(features={"user_id": feature}), "query.features")
    return fit_aggregates(planned, parts.__getitem__, len(parts))["user_id"].figures


def rows(users: list[str], stars: list[Any]) -> pd.DataFrame:
    return pd.DataFrame({"user_id": pd.Categorical(users), "timestamp": range(len(users)), "stars": stars})


def test_the_mean_of_an_aggregate_leaves_out_rows_without_a_value() -> None:
    """a: 10, null, null and 30, so 20; b: 10; c has none, and gets the mean over the ids, as one that is unknown."""
    parts = [rows(["c", "a", "a"], [None, 10.0, None]), rows(["b", "a", "a"], [10.0, None, 30.0])]
    figures = aggregate("stars", parts)
    np.testing.assert_allclose(figures[:, 1], [0, 0, 0, 1, -1, 0], atol=1e-6)
    counts = np.log1p([4, 1, 1])
    np.testing.assert_allclose(figures[3:, 0], (counts - counts.mean()) / counts.std(), rtol=1e-5)


def test_a_figure_that_is_the_same_for_all_ids_is_not_blown_up() -> None:
    figures = aggregate("stars", [rows(["a", "b", "c"] * 2, [0.1] * 6)])
    assert not figures[3:].any()
    assert figures[0, 0] == pytest.approx(-np.log1p(2)), "an id without interactions"


@pytest.mark.parametrize(("stars", "message"), [([1.0, np.inf], "an infinity"), (["x", "y"], "needs numbers")])
def test_what_has_no_mean_is_refused_by_column(stars: list[Any], message: str) -> None:
    with pytest.raises(DataError, match=f"column 'stars': .*{message}"):
        aggregate("stars", [rows(["a", "b"], stars)])
