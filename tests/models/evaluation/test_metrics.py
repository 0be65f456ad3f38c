"""The metrics against their definitions, written out one row at a time."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models import metrics
from models.data import distinct_rows
from models.metrics import KS, Products, Ranking, SeenItems, rank_in_one_order, rank_targets, rank_users


@st.composite
def problems(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[tuple[int, int]]]:
    """Scores with many ties, targets, users and (user, item) pairs already seen."""
    items, rows, users = draw(st.integers(1, 130)), draw(st.integers(1, 12)), draw(st.integers(1, 4))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scores = random.integers(0, draw(st.integers(1, 200)), (rows, items)).astype(np.float32)
    for odd in draw(st.lists(st.sampled_from([np.nan, np.inf, -np.inf]), max_size=3)):
        scores[random.random(scores.shape) < 0.2] = odd
    if draw(st.booleans()):
        scores[random.integers(0, rows)] = np.nan  # a query without a finite vector
    pairs = [(int(u), int(i)) for u, i in zip(random.integers(0, users, 9), random.integers(0, items, 9), strict=True)]
    return scores, random.integers(0, items, rows), random.integers(0, users, rows), pairs[: draw(st.integers(0, 9))]


def by_definition(scores: np.ndarray, targets: np.ndarray, users: np.ndarray, seen: set) -> dict[str, float]:
    """Every metric, from full sorted lists: NaN stands before all, and what is not finite is not found or shown."""
    scores, answers = np.where(np.isnan(scores), np.inf, scores), []
    for row, user in zip(scores, users, strict=True):
        order = sorted(range(len(row)), key=lambda item: (-row[item], item))
        answers.append([item if np.isfinite(row[item]) else None for item in order if (user, item) not in seen])
    places = [a.index(t) if t in a else math.inf for a, t in zip(answers, targets, strict=True)]
    metrics = {"mrr": np.mean([1 / (p + 1) for p in places])}
    for k in KS:
        metrics[f"recall@{k}"] = np.mean([p < k for p in places])
        metrics[f"ndcg@{k}"] = np.mean([1 / math.log2(p + 2) if p < k else 0 for p in places])
        hit = {u for u, p in zip(users, places, strict=True) if p < k}
        metrics[f"hit_rate@{k}"] = len(hit) / len(set(users))
        metrics[f"coverage@{k}"] = len({i for a in answers for i in a[:k]} - {None}) / scores.shape[1]
    return metrics


@settings(deadline=None, max_examples=60)
@given(problems())
def test_metrics_are_what_their_definitions_say(problem) -> None:
    scores, targets, users, pairs = problem
    seen = SeenItems.of(
        np.array([u for u, _ in pairs], np.int64), np.array([i for _, i in pairs], np.int64), int(users.max()) + 1 + 4
    )
    rankings = rank_targets(lambda rows: scores[rows], targets, users, seen, scores.shape[1])
    assert rankings["all"].metrics() == pytest.approx(by_definition(scores, targets, users, set()))
    assert rankings["unseen"].metrics() == pytest.approx(by_definition(scores, targets, users, set(pairs)))


@settings(deadline=None)
@given(problems())
def test_one_answer_per_user_is_ranked_as_the_same_answer_in_every_row(problem) -> None:
    scores, targets, users, pairs = problem
    of_user = np.random.default_rng(len(targets)).integers(0, 9, (users.max() + 1, scores.shape[1])).astype(np.float32)
    of_user[:, ::3][of_user[:, ::3] > 6] = np.nan
    seen = SeenItems.of(np.array([u for u, _ in pairs], np.int64), np.array([i for _, i in pairs], np.int64), 4)
    by_row = rank_targets(lambda rows: of_user[users[rows]], targets, users, seen, scores.shape[1])
    for name, ranking in rank_users(lambda askers: of_user[askers], targets, users, seen, scores.shape[1]).items():
        np.testing.assert_array_equal(ranking.ranks, by_row[name].ranks)
        np.testing.assert_array_equal(ranking.shown, by_row[name].shown)


@settings(deadline=None)
@given(problems())
def test_one_order_for_all_users_is_ranked_as_the_same_answer_for_each(problem) -> None:
    scores, targets, users, pairs = problem
    common = np.nan_to_num(scores[0], posinf=3.0, neginf=-3.0)
    seen = SeenItems.of(np.array([u for u, _ in pairs], np.int64), np.array([i for _, i in pairs], np.int64), 4)
    by_user = rank_users(lambda askers: np.tile(common, (len(askers), 1)), targets, users, seen, len(common))
    for name, ranking in rank_in_one_order(common, targets, users, seen).items():
        np.testing.assert_array_equal(ranking.ranks, by_user[name].ranks)
        np.testing.assert_array_equal(ranking.shown, by_user[name].shown)


@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from([0.0, -0.0, 1.5]), st.booleans()), min_size=1))
def test_rows_are_one_query_where_they_are_alike_in_every_column(rows: list[tuple[int, float, bool]]) -> None:
    columns = [np.array([row[0] for row in rows]), np.array([[row[1], 1.0] for row in rows], np.float32)]
    columns.append(np.array([row[2] for row in rows]))
    first, kinds = distinct_rows(columns)
    texts = [f"{user} {number} {flag}" for user, number, flag in rows]  # which tells 0.0 and -0.0 apart, too
    assert [texts[row] for row in first] == list(dict.fromkeys(texts))
    assert [texts[first[kind]] for kind in kinds] == texts


@pytest.mark.parametrize("rows", [1, 50])
def test_a_query_without_a_finite_score_finds_nothing(rows: int) -> None:
    """Many rows of one query are ranked in another way than few."""
    targets, users = np.arange(rows) % 10, np.zeros(rows, np.int64)
    for value in (np.nan, np.inf, -np.inf):
        scores = np.full((1, 10), value, np.float32)
        nobody = SeenItems.of(np.zeros(0, np.int64), np.zeros(0, np.int64), 1)
        for ranking in rank_users(lambda _, scores=scores: scores, targets, users, nobody, 10).values():
            assert set(ranking.metrics().values()) == {0.0}


def test_evaluating_in_slices_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    scores, targets = random.random((50, 20), np.float32), random.integers(0, 20, 50)
    users, seen = random.integers(0, 5, 50), SeenItems.of(random.integers(0, 5, 30), random.integers(0, 20, 30), 5)

    def ranked() -> dict[str, Ranking]:
        return rank_targets(lambda rows: scores[rows], targets, users, seen, 20)

    def ranked_by_user() -> dict[str, Ranking]:
        return rank_users(lambda askers: scores[askers], targets, users, seen, 20)

    whole, by_user = ranked(), ranked_by_user()
    vectors = random.random((50, 4), np.float32), random.random((20, 4), np.float32)
    products = rank_targets(lambda rows: vectors[0][rows] @ vectors[1].T, targets, users, seen, 20)
    monkeypatch.setattr(metrics, "_SCORES_AT_ONCE", 7 * 20)
    monkeypatch.setattr(metrics, "_QUERIES_AT_ONCE", 1)
    in_one_memory = rank_targets(Products(*vectors), targets, users, seen, 20)
    for before, after in ((whole, ranked()), (by_user, ranked_by_user()), (products, in_one_memory)):
        for name, ranking in after.items():
            np.testing.assert_array_equal(ranking.ranks, before[name].ranks)
            np.testing.assert_array_equal(ranking.shown, before[name].shown)


@pytest.mark.parametrize("odd", [1, np.nan])
def test_scores_of_the_caller_stay_what_they_are(odd: float) -> None:
    scores = np.array([[odd, 1, 1]], np.float32)
    seen = SeenItems.of(np.array([0]), np.array([1]), 1)
    rank_targets(lambda rows: scores[rows], np.array([0]), np.array([0]), seen, 3)
    np.testing.assert_array_equal(scores, [[odd, 1, 1]])
