"""Playlist continuation: the challenge's metrics against a plain reading of their definitions, and its scenarios."""

from __future__ import annotations

from math import log2
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.evaluation.playlist_scenarios import SCENARIOS, Scenario, challenge
from models.evaluation.playlists import ANSWERS, METRICS, continue_playlists, playlist_metrics
from models.metrics import SeenItems
from workflows.config import Playlists
from workflows.features.stage import FeatureSet, Part
from workflows.sources import playlists
from workflows.sources.playlists_generator import generate
from workflows.tables.store import Tables

ITEMS = 40


def reference(answered: list[int], hidden: set[int], artist: list[int]) -> tuple[float, float, float]:
    """The three metrics of one playlist as the papers write them, in sets and loops."""
    first = answered[: len(hidden)]
    tracks = len(set(first) & hidden)
    artists = len({artist[track] for track in first} & {artist[track] for track in hidden})
    gain = sum(1 / log2(place + 1) for place, track in enumerate(answered, start=1) if track in hidden)
    ideal = sum(1 / log2(place + 1) for place in range(1, min(len(hidden), ANSWERS) + 1))
    clicks = 51.0
    for place, track in reversed(list(enumerate(answered, start=1))):
        if track in hidden:
            clicks = float((place - 1) // 10)
    return (tracks + 0.25 * artists) / len(hidden), gain / ideal, clicks


def csr(rows: list[list[int]]) -> SeenItems:
    queries = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    return SeenItems.of(queries, np.array([item for row in rows for item in row], np.int64), len(rows))


one_playlist = st.tuples(
    st.permutations(range(ITEMS)).flatmap(lambda order: st.integers(0, ITEMS).map(lambda k: list(order[:k]))),
    st.sets(st.integers(0, ITEMS - 1), min_size=1),
)


@given(st.lists(one_playlist, min_size=1, max_size=5), st.lists(st.integers(0, 9), min_size=ITEMS, max_size=ITEMS))
def test_metrics_are_those_of_the_papers(cases: list[tuple[list[int], set[int]]], artist: list[int]) -> None:
    answers = np.array([[*answered, *[-1] * (ITEMS - len(answered))] for answered, _ in cases])
    metrics = playlist_metrics(answers, csr([sorted(hidden) for _, hidden in cases]), np.array(artist))
    expected = [reference(answered, hidden, artist) for answered, hidden in cases]
    np.testing.assert_allclose(np.array([metrics[name] for name in METRICS]).T, expected)


def test_an_example_by_hand() -> None:
    """Hidden 1, 2, 3, 4 by artists a, a, b, c. Answered 9 (a), 2, 8 (d), 7 (d), then eight others, then 4.

    Of the first four one is hidden, and of its artists {a, d} one is: (1 + 0.25) / 4. The hits are at 2 and 13.
    """
    artist = np.array([9, 0, 0, 1, 2, 9, 9, 3, 3, 0, *range(10, 30)])
    answers = np.array([[9, 2, 8, 7, *range(10, 18), 4]])
    metrics = playlist_metrics(answers, csr([[1, 2, 3, 4]]), artist)
    assert metrics["r_precision"][0] == pytest.approx(0.3125)
    ideal = 1 + 1 / log2(3) + 1 / 2 + 1 / log2(5)
    assert metrics["ndcg"][0] == pytest.approx((1 / log2(3) + 1 / log2(14)) / ideal)
    assert metrics["clicks"][0] == 0
    assert playlist_metrics(np.array([[*range(5, 17)]]), csr([[16]]), artist)["clicks"][0] == 1
    assert playlist_metrics(np.array([[5, 6]]), csr([[1]]), artist)["clicks"][0] == 51


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> FeatureSet:
    """Generated playlists, all of them held out."""
    place = tmp_path_factory.mktemp("mpd")
    generate(place, 60, 1500, seed=3)
    playlists.fetch(Playlists(path=str(place)), place, str).save(place / "tables")
    tables = Tables.load(place / "tables")
    index = pd.Series(np.arange(len(tables.items)), index=tables.items["item_id"])
    rows = tables.interactions.assign(item_index=index.loc[tables.interactions["item_id"]].to_numpy())
    part = Part({}, rows.sample(frac=1, random_state=0, ignore_index=True))  # the order is that of the times
    return FeatureSet(part, part, part, {}, [], [], tables.items, tables.users, "continued")


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_a_scenario_gives_what_it_says_and_hides_the_rest(data: FeatureSet, scenario: Scenario) -> None:
    task = challenge(data, data.test, scenario)
    assert task is not None
    users = data.users.set_index("user_id")
    for row, query in enumerate(task.queries.itertuples(index=False)):
        tracks = data.test.interactions[data.test.interactions["user_id"] == query.user_id].sort_values("timestamp")
        items = tracks["item_index"].tolist()
        seeds = task.seeds[task.seeds["user_id"] == row]
        seed_items = seeds["item_index"].tolist()
        assert len(seed_items) == scenario.seeds
        assert scenario.drawn or seed_items == items[: scenario.seeds]
        remaining = iter(items)
        assert all(seed in remaining for seed in seed_items), "the seeds are not in the playlist's order"
        hidden = task.hidden.items[task.hidden.offsets[row] : task.hidden.offsets[row + 1]]
        assert set(hidden) == set(items) - set(seed_items)
        assert (query.timestamp - seeds["timestamp"]).tolist() == list(range(scenario.seeds, 0, -1))
        assert query.name == (users.loc[query.user_id, "name"] if scenario.title else None)
        facts = data.catalogue.iloc[seed_items]
        if seed_items:
            assert query.num_tracks == scenario.seeds
            assert query.num_artists == facts["artist_uri"].nunique()
            assert query.num_albums == facts["album_uri"].nunique()
            assert query.duration_ms == facts["track_duration_ms"].sum()
        else:
            assert pd.isna([query.num_tracks, query.num_artists, query.num_albums, query.duration_ms]).all()
        assert pd.isna([query.modified_at, query.num_followers, query.num_edits, query.collaborative]).all()


def test_counts_of_the_first_seeds_are_those_of_the_training_row(data: FeatureSet) -> None:
    """What a query tells of its seeds is what a row of the training part says of the tracks before it."""
    task = challenge(data, data.test, SCENARIOS[4])
    assert task is not None
    rows = data.test.interactions.set_index(["user_id", "timestamp"])
    for query in task.queries.itertuples(index=False):
        row = rows.loc[(query.user_id, query.timestamp)]
        for name in playlists.COUNTS:
            assert getattr(query, name) == row[name]


def test_seeds_are_not_answered(data: FeatureSet) -> None:
    task = challenge(data, data.test, SCENARIOS[2])
    assert task is not None
    items = len(data.catalogue)
    scores = np.random.default_rng(0).normal(size=(len(task.queries), items)).astype(np.float32)
    answers = continue_playlists(lambda rows: scores[rows], task, items)
    for row, answered in enumerate(answers):
        seeds = set(task.given.items[task.given.offsets[row] : task.given.offsets[row + 1]])
        expected = [item for item in np.argsort(-scores[row], kind="stable") if item not in seeds]
        assert answered[answered >= 0].tolist() == expected[:ANSWERS]


def test_the_generator_writes_the_same_again(tmp_path: Path) -> None:
    paths = [generate(tmp_path / folder, 30, 50, seed=5)[0].read_bytes() for folder in ("one", "two")]
    assert paths[0] == paths[1]
    assert generate(tmp_path / "three", 30, 50, seed=6)[0].read_bytes() != paths[0]
