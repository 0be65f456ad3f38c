"""The view of quality on rows and ranks that are made up: every figure by hand."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest

from retrieval.explore.loaded.explored import Explored
from retrieval.explore.loaded.measured import SERVED, Rows
from retrieval.explore.views.map import OTHER, ItemMap, main_categories
from retrieval.explore.views.quality import calibration, differences, recall, recall_curves
from tests.synthetic import Run


def test_recall_is_the_share_of_rows_whose_item_is_among_the_first_k() -> None:
    ranks = np.array([0, 4, 9, 10, 300])
    assert [recall(ranks, k) for k in (1, 5, 10, 11, 400)] == [0.2, 0.4, 0.6, 0.8, 1.0]
    rows = Rows(np.zeros(5), np.zeros(5, np.int64), {SERVED: ranks, "popularity": ranks + 1})
    ours, popularity = recall_curves(rows, None)
    assert (ours.y[0], popularity.y[0]) == (0.2, 0.0)


def test_runs_are_compared_row_by_row_only_on_the_same_rows() -> None:
    users, targets = np.array([7, 7, 8, 9]), np.array([1, 2, 3, 4])
    before = Rows(users, targets, {SERVED: np.array([0, 1, 50, 2])})
    after = Rows(users, targets, {SERVED: np.array([20, 30, 9, 2])})
    assert differences(before, after) == [(7, 2, 2, 0), (8, 1, 0, 1)]
    assert differences(before, after._replace(targets=targets[::-1])) is None


def test_calibration_sets_what_is_answered_beside_what_is_chosen(dated_run: Run) -> None:
    explored = Explored(dated_run.path)
    test = explored.test
    bins = calibration(explored, Rows(test["user_id"], test["item_index"], {}))
    assert sum(chosen for _, chosen, _ in bins) == pytest.approx(1)
    assert sum(answered for _, _, answered in bins) == pytest.approx(1)
    popular = set(np.argsort(-explored.peers.popularity, kind="stable")[:30].tolist())
    assert bins[0][1] == pytest.approx(np.mean([item in popular for item in test["item_index"]]))


def test_the_map_keeps_distances_along_the_axes_that_it_shows() -> None:
    generator = np.random.default_rng(0)
    vectors = np.zeros((500, 8), np.float32)
    vectors[:, [2, 5]] = generator.normal(size=(500, 2)) * [5, 1]
    items = SimpleNamespace(
        vectors=vectors, live=np.arange(500) != 3, tags={}, ids=list(range(500)), titles=list(map(str, range(500)))
    )
    item_map = ItemMap(SimpleNamespace(items=items, peers=SimpleNamespace(popularity=np.ones(500))))  # type: ignore[arg-type]
    points = json.loads(item_map.document)
    assert item_map.variance == pytest.approx(1)
    assert "3" not in points["ids"]
    assert len(points["x"]) == item_map.count == 499
    drawn = np.stack([points["x"], points["y"]], axis=1).astype(float)
    remaining = np.delete(vectors[:, [2, 5]], 3, axis=0)
    scale = np.linalg.norm(drawn[0] - drawn[1]) / np.linalg.norm(remaining[0] - remaining[1])
    pairs = generator.integers(0, 499, (50, 2))
    np.testing.assert_allclose(
        np.linalg.norm(drawn[pairs[:, 0]] - drawn[pairs[:, 1]], axis=1),
        scale * np.linalg.norm(remaining[pairs[:, 0]] - remaining[pairs[:, 1]], axis=1),
        atol=3,
        rtol=0.01,
    )


def test_an_item_is_of_its_rarest_category_that_is_not_too_rare() -> None:
    values = [["drama", "war"], ["drama"], "war", None, [], ["drama", "noir"], *[["drama"]] * 94]
    assert main_categories(values) == ["war", "drama", "war", OTHER, OTHER, "drama", *["drama"] * 94]


def test_a_map_in_a_report_is_of_fewer_items(dated_run: Run) -> None:
    explored = Explored(dated_run.path)
    item_map = ItemMap(explored, 20)
    assert item_map.count == len(item_map.points["titles"]) == len(item_map.points["x"]) == 20 < len(explored.items)
