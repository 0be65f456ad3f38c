"""The peers against their definitions, and the rules of a fair comparison."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from models.baselines import baseline as interface
from models.baselines.als import Als
from models.baselines.baseline import Peer, Refused
from models.baselines.bootstrap import interval, resampled_means
from models.baselines.comparison import FIGURES, OURS, fit_peers, summarise
from models.baselines.ease import Ease
from models.baselines.item_knn import ItemKnn, RecentItemKnn
from models.baselines.popularity import Popularity
from models.baselines.random_walk import RandomWalk
from models.baselines.search import FAMILIES, Family, fit_best, search
from models.baselines.task import Task, count_later, validation_task
from models.config import Ignored, Threshold
from models.metrics import Ranking, SeenItems, rank_users
from workflows.features import stage as features


@st.composite
def interactions(draw: st.DrawFn) -> csr_matrix:
    """A few users' items; some users and items have none."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = draw(st.integers(1, 12)), draw(st.integers(1, 9))
    return csr_matrix((random.random(shape) < draw(st.sampled_from([0.0, 0.2, 0.6]))).astype(np.float32))


def grouped_task(rows: int = 1200, seed: int = 0) -> Task:
    """60 users who choose among the 10 of 40 items that are their group's; and (user, item) rows to be found."""
    random = np.random.default_rng(seed)
    users = random.integers(0, 60, rows)
    items = users % 4 + 4 * random.integers(0, 10, rows)
    known = rows * 2 // 3
    matrix = csr_matrix((np.ones(known, np.float32), (users[:known], items[:known])), shape=(60, 40))
    matrix.data[:] = 1
    seen = SeenItems.of(users[:known], items[:known], 60)
    return Task(matrix, seen, users[known:], items[known:])


def tasks() -> tuple[Task, Task]:
    return grouped_task(seed=0), grouped_task(seed=1)


@given(interactions(), st.sampled_from([0.5, 10.0]))
def test_ease_solves_its_constrained_regression(x: csr_matrix, l2: float) -> None:
    weights, dense = Ease(l2).weights(x).astype(np.float64), x.toarray().astype(np.float64)
    assert np.all(np.diag(weights) == 0)
    # At the minimum the gradient is zero wherever the diagonal's constraint leaves a freedom.
    gradient = dense.T @ (dense @ weights - dense) + l2 * weights
    np.testing.assert_allclose(gradient - np.diag(np.diag(gradient)), 0, atol=1e-4)


@given(interactions(), st.integers(1, 12), st.sampled_from([0.0, 3.0]))
def test_knn_sums_the_similarities_of_the_nearest_items(x: csr_matrix, neighbours: int, shrinkage: float) -> None:
    dense = x.toarray()
    items = dense.shape[1]
    similar = np.zeros((items, items))
    for i in range(items):
        for j in range(items):
            if i != j and dense[:, i] @ dense[:, j]:
                norm = np.sqrt(dense[:, i].sum() * dense[:, j].sum())
                similar[i, j] = dense[:, i] @ dense[:, j] / (norm + shrinkage)
    similarities = ItemKnn(neighbours, shrinkage).similarities(x).toarray()
    for own, theirs in zip(similar, similarities, strict=True):  # which of two equally near is kept is open
        np.testing.assert_allclose(
            np.sort(theirs)[::-1], [*np.sort(own)[::-1][:neighbours], *[0] * items][:items], 1e-5
        )
        assert np.all((theirs == 0) | np.isclose(theirs, own))
    known = np.flatnonzero(dense.sum(axis=1))
    scores = ItemKnn(neighbours, shrinkage).fit(x)(known)
    np.testing.assert_allclose(scores, dense[known] @ similarities.T, rtol=1e-5, atol=1e-6)


def test_knn_in_blocks_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    x = grouped_task().interactions
    whole = ItemKnn(5, 1.0).similarities(x).toarray()
    monkeypatch.setattr("models.baselines.item_knn._ROWS_AT_ONCE", 7)
    np.testing.assert_array_equal(ItemKnn(5, 1.0).similarities(x).toarray(), whole)


def test_popularity_orders_items_by_their_users() -> None:
    x = csr_matrix(np.array([[0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 1, 1]], np.float32))
    assert np.argsort(-Popularity().fit(x)(np.array([0, 2])), axis=1, kind="stable").tolist() == [[2, 1, 3, 0]] * 2


def test_als_counts_a_like_by_how_few_have_the_item() -> None:
    """The same as ALS of interactions that are weighted by hand, whatever they are multiplied with."""
    pytest.importorskip("implicit")
    x = grouped_task().interactions
    weights = np.bincount(x.indices)[x.indices] ** -0.5
    by_hand = csr_matrix((weights.astype(np.float32), x.indices, x.indptr), x.shape)
    scale = np.exp(np.log(weights).mean())
    someone = np.arange(5)
    scores = [Als(8, 1.0, 4.0, 0.5).fit(x)(someone), Als(8, 1.0, 4.0 / scale).fit(by_hand)(someone)]
    np.testing.assert_allclose(*scores, rtol=1e-3, atol=1e-4)
    assert not np.allclose(scores[0], Als(8, 1.0, 4.0).fit(x)(someone), rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("peer", [Ease(10.0), ItemKnn(10, 0.0), Als(8, 1.0, 1.0)])
def test_a_peer_finds_what_popularity_cannot_and_gives_a_newcomer_the_popular(peer: Peer) -> None:
    if isinstance(peer, Als):
        pytest.importorskip("implicit")
    task, _ = tasks()
    task.interactions.data[task.interactions.indptr[7] : task.interactions.indptr[8]] = 0
    task.interactions.eliminate_zeros()
    recall = [
        task.rank(model.fit(task.interactions))["unseen"].metrics()["recall@10"] for model in (peer, Popularity())
    ]
    assert recall[0] > 4 * recall[1]
    someone = np.array([7])
    np.testing.assert_array_equal(peer.fit(task.interactions)(someone), Popularity().fit(task.interactions)(someone))


NEIGHBOURS = Family("item KNN", ItemKnn(3, 0), {"neighbours": (1, 3, 30)})


def test_settings_are_chosen_without_the_test_rows() -> None:
    valid, test = tasks()
    searched = search(NEIGHBOURS, valid, seconds=60)
    by_hand = {
        number: valid.rank(ItemKnn(number, 0).fit(valid.interactions))["unseen"].metrics()["recall@10"]
        for number in (1, 3, 30)
    }
    assert searched.complete
    assert {trial["neighbours"]: trial["recall@10"] for trial in searched.tried}.items() <= by_hand.items()
    assert searched.peer == ItemKnn(max(by_hand, key=lambda number: by_hand[number]), 0)
    spoilt = test._replace(targets=(test.targets + 1) % 40)
    chosen = [fit_best(NEIGHBOURS, valid, task, 60).searched.peer for task in (test, spoilt)]
    assert chosen == [searched.peer] * 2


def test_a_search_ends_when_its_time_is_up_with_the_best_so_far() -> None:
    valid, _ = tasks()
    messages: list[str] = []
    searched = search(FAMILIES["knn"], valid, seconds=1e-9, progress=messages.append)
    assert not searched.complete
    assert searched.peer == FAMILIES["knn"].start
    assert len(searched.tried) == 1
    assert "were up after 1 settings" in messages[-1]


def test_settings_are_climbed_to_until_no_neighbour_is_better() -> None:
    valid, _ = tasks()
    family = FAMILIES["ease"]
    searched = search(family, valid, seconds=60)
    figures = {trial["l2"]: trial["recall@10"] for trial in searched.tried}
    at = family.grid["l2"].index(searched.peer.settings()["l2"])
    for place in (at - 1, at + 1):
        if 0 <= place < len(family.grid["l2"]):
            assert figures[family.grid["l2"][place]] <= figures[searched.peer.settings()["l2"]]


def test_the_last_fit_uses_all_that_is_known() -> None:
    valid, test = tasks()
    expected = test.rank(Ease(20).fit(test.interactions))
    fitted = fit_best(Family("EASE", Ease(20), {}), valid, test, 60)
    np.testing.assert_array_equal(fitted.rankings["all"].ranks, expected["all"].ranks)


def test_recent_items_count_more_by_how_many_came_after_them() -> None:
    users, items, times = (np.array(values) for values in ([0, 0, 1, 0, 1, 0], [2, 0, 1, 1, 0, 2], [5, 3, 9, 4, 9, 1]))
    later = count_later(users, items, times, (2, 3))
    assert later is not None
    assert {(u, i): int(later[u, i]) for u, i in zip(*later.nonzero(), strict=True)} == {
        (0, 1): 1, (0, 0): 2, (1, 1): 1,
    }  # fmt: skip
    assert count_later(users, items, np.zeros(6, np.int64), (2, 3)) is None
    x = csr_matrix((np.ones(5, np.float32), later.indices, later.indptr), shape=(2, 3))
    weights = np.array([[0.25, 0.5, 1.0], [1.0, 0.5, 0.0]])
    neighbours = ItemKnn(3, 1).similarities(x).toarray()
    scores = RecentItemKnn(3, 1, decay=0.5).fit(x, later)(np.array([0, 1]))
    np.testing.assert_allclose(scores, weights @ neighbours.T, rtol=1e-5)
    with pytest.raises(Refused, match="no time"):
        RecentItemKnn().fit(x)


def test_weights_of_ease_lie_by_rows_as_sparse_products_want_them() -> None:
    assert Ease(20).weights(grouped_task().interactions).flags.c_contiguous


def test_a_random_walk_goes_to_users_of_an_item_and_on_to_their_items() -> None:
    x = grouped_task().interactions
    dense = x.toarray()
    users, items = np.maximum(dense.sum(axis=1, keepdims=True), 1), np.maximum(dense.sum(axis=0, keepdims=True), 1)
    chances = (dense / items).T ** 0.6 @ (dense / users) ** 0.6 / items**0.3
    np.fill_diagonal(chances, 0)
    known = np.flatnonzero(users[:, 0] * dense.any(axis=1))
    scores = RandomWalk(x.shape[1], 0.6, 0.3).fit(x)(known)
    np.testing.assert_allclose(scores, (dense @ chances)[known], rtol=1e-4, atol=1e-6)
    few = RandomWalk(3, 0.6, 0.3).item_scores(x)
    np.testing.assert_allclose(few.max(axis=1).toarray()[:, 0], chances.max(axis=1), rtol=1e-4)
    assert np.diff(few.indptr).max() <= 3


def test_ease_of_the_items_of_most_users_alone_is_that_of_a_catalogue_of_these() -> None:
    x = grouped_task().interactions
    popular = np.sort(np.argsort(-np.asarray(x.sum(axis=0)).ravel(), kind="stable")[:25])
    scores = Ease(10, most_items=25).fit(x)(np.arange(60))
    np.testing.assert_allclose(scores[:, popular], Ease(10).fit(x[:, popular])(np.arange(60)), atol=1e-5)
    assert not np.delete(scores, popular, axis=1).any()


def test_without_implicit_the_other_peers_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [name for name in sys.modules if name.split(".")[0] == "implicit"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "implicit", None)
    fitted, skipped = fit_peers(FAMILIES, *tasks(), seconds=1, seed=0, progress=lambda _: None)
    assert list(fitted) == ["popularity", "item KNN", "EASE"]
    reasons = {entry["name"]: entry["skipped"] for entry in skipped}
    assert list(reasons) == ["recent item KNN", "ALS"]
    assert "merlin-retrieval[peers]" in reasons["ALS"]


def test_a_catalogue_too_large_for_a_dense_matrix_is_refused_before_it_is_made() -> None:
    million = csr_matrix((10, 1_000_000), dtype=np.float32)
    with pytest.raises(Refused, match=r"1,000,000 x 1,000,000 items .* GiB"):
        Ease(100.0, most_items=1_000_000).fit(million)
    with pytest.raises(Refused, match="1,000,000 items takes too long"):
        ItemKnn(100, 0.0).fit(million)


def test_memory_that_is_not_free_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interface, "MEMORY", 1000)
    with pytest.raises(Refused, match="dense matrix of 40 x 40 items"):
        Ease(100.0).fit(grouped_task().interactions)


def test_the_bootstrap_draws_users_with_all_their_rows() -> None:
    users = np.array([0, 0, 0, 1])
    values = np.array([[1.0, 5.0], [1.0, 5.0], [1.0, 5.0], [0.0, 5.0]])
    means = resampled_means(values, users, seed=0)
    assert set(means[:, 0]) == {0.0, 0.75, 1.0}  # user 1 twice, each once, user 0 twice
    assert np.all(means[:, 1] == 5)
    np.testing.assert_array_equal(means, resampled_means(values, users, seed=0))


def test_an_interval_is_as_wide_as_the_binomial_error_of_independent_rows() -> None:
    random = np.random.default_rng(0)
    rows = 4000
    means = resampled_means((random.random((rows, 1)) < 0.3).astype(float), np.arange(rows), seed=1)
    low, high = interval(means[:, 0])
    assert (high - low) / (2 * 1.96) == pytest.approx(np.sqrt(0.3 * 0.7 / rows), rel=0.15)


def test_the_summary_s_figures_are_the_metrics() -> None:
    task, _ = tasks()
    measured: dict[str, tuple[dict, dict[str, Ranking]]] = {
        OURS: ({}, task.rank(Ease(20.0).fit(task.interactions))),
        "popularity": ({}, task.rank(Popularity().fit(task.interactions))),
    }
    ours, popular = summarise(measured, task.users, seed=0)
    for row, (_, rankings) in zip((ours, popular), measured.values(), strict=True):
        for protocol, name in FIGURES:
            assert row[protocol][name] == pytest.approx(rankings[protocol].metrics()[name])
            low, high = row["intervals"][protocol][name]
            assert low <= row[protocol][name] <= high
    for name in ("recall@10", "ndcg@10"):
        assert ours["lead"][name] == [0, 0, 0]
        assert popular["lead"][name][0] == pytest.approx(ours["unseen"][name] - popular["unseen"][name])


def test_users_own_items_are_left_out_of_unseen() -> None:
    task, _ = tasks()
    user = int(task.users[0])
    own = task.interactions[user].indices[:1].astype(np.int64)
    scores = Popularity().fit(task.interactions)
    ranked = rank_users(scores, own, np.array([user]), task.seen, 40)
    assert ranked["all"].ranks[0] < 40
    assert ranked["unseen"].ranks[0] == 40


def test_items_below_the_threshold_are_seen_but_not_learned_from(grouped: Path) -> None:
    data = features.load(grouped)
    ratings = np.where(np.arange(len(data.train.interactions)) % 2, 5.0, 2.0)
    disliked = data.train._replace(interactions=data.train.interactions.assign(rating=ratings))
    task = validation_task(data._replace(train=disliked), Threshold(positive_from=4.0))
    everything = validation_task(data, Ignored())
    np.testing.assert_array_equal(task.seen.items, everything.seen.items)
    assert 0 < task.interactions.nnz < everything.interactions.nnz
