"""Playlist continuation by the metrics of the RecSys Challenge 2018.

Zamani, Schedl, Lamere and Chen, "An Analysis of Approaches Taken in the ACM RecSys Challenge 2018 for Automatic Music
Playlist Continuation", ACM TIST 10(5), 2019, arXiv:1810.01520; the scenarios are in `playlist_scenarios`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from models.data import known_rows
from models.evaluation.playlist_scenarios import SCENARIOS, Challenge, Transform, challenge, query_features
from models.metrics import Float32Array, Int64Array, SeenItems, answerable, top_items
from models.towers.onnx import run_tower
from workflows.columns import Columns
from workflows.features.stage import FeatureSet, Part
from workflows.sources.playlists import ARTIST

ANSWERS = 500
"""How many tracks a playlist is answered."""
PAGE = 10
"""Tracks that one click shows."""
ARTIST_CREDIT = 0.25
METRICS = ("r_precision", "ndcg", "clicks")

Scores = Callable[[slice], Float32Array]
"""Of some of the playlists against the whole catalogue, float32 `[len(slice), items]`."""
Answer = Callable[[Challenge], Scores]


def measure(data: FeatureSet, part: Part, towers_dir: Path, transform: Transform) -> dict[str, Any]:
    """Continue the playlists of a part in every scenario, by the towers and by what is most popular elsewhere.

    Returns
    -------
    dict
        `answers`; `scenarios`, a list: `name`, `title`, `seeds`, `drawn`, `playlists`, METRICS, and `popularity` with
        the METRICS of the most popular tracks; `mean` of the scenarios, all counting the same, likewise.
        Scenarios for which no playlist is long enough are left out.
    """
    vectors = np.load(towers_dir / "item_vectors.npy", allow_pickle=False)
    counts = _popularity(data)

    def towers(task: Challenge) -> Scores:
        query_vectors = run_tower(towers_dir / "query.onnx", query_features(task, data, transform))
        return lambda rows: query_vectors[rows] @ vectors.T

    def popular(task: Challenge) -> Scores:
        return lambda rows: np.broadcast_to(counts, (rows.stop - rows.start, len(counts)))

    scenarios = []
    for scenario in SCENARIOS:
        task = challenge(data, part, scenario)
        if task is not None:
            facts = {"name": scenario.name, **scenario._asdict(), "playlists": len(task.queries)}
            ours, theirs = (_means(task, answer, data) for answer in (towers, popular))
            scenarios.append({**facts, **ours, "popularity": theirs})
    mean = {name: float(np.mean([scenario[name] for scenario in scenarios])) for name in METRICS}
    theirs = {name: float(np.mean([scenario["popularity"][name] for scenario in scenarios])) for name in METRICS}
    return {"answers": ANSWERS, "scenarios": scenarios, "mean": {**mean, "popularity": theirs}}


def _means(task: Challenge, answer: Answer, data: FeatureSet) -> dict[str, float]:
    answers = continue_playlists(answer(task), task, len(data.catalogue))
    figures = playlist_metrics(answers, task.hidden, artist_numbers(data.catalogue))
    return {name: float(values.mean()) for name, values in figures.items()}


def _popularity(data: FeatureSet) -> Float32Array:
    """Return in how many of the playlists learned from each track is, float32 `[items]`."""
    pairs = known_rows(data).drop_duplicates([Columns.User, Columns.ItemIndex])
    return np.bincount(pairs[Columns.ItemIndex], minlength=len(data.catalogue)).astype(np.float32)


def continue_playlists(score: Scores, task: Challenge, items: int) -> Int64Array:
    """Return the best tracks of every query but its seeds, int64 `[n, min(ANSWERS, items)]`; -1 past the last."""
    step = max(1, (1 << 22) // items)
    answers = []
    for first in range(0, len(task.queries), step):
        block = slice(first, min(first + step, len(task.queries)))
        scores = answerable(score(block))
        scores[task.given.pairs(np.arange(block.start, block.stop))] = -np.inf
        best, value = top_items(scores, min(ANSWERS, items))
        answers.append(np.where(np.isneginf(value), -1, best))
    return np.concatenate(answers)


def playlist_metrics(answers: Int64Array, hidden: SeenItems, artists: Int64Array) -> dict[str, npt.NDArray[np.float64]]:
    """Return each playlist's METRICS, float64 `[n]`.

    With G the hidden tracks and R the answers, best first:
    `r_precision`: with S the first |G| of R, (|S and G| + 0.25 |artists of S and artists of G|) / |G|. An artist counts
    once, and whether or not one of the tracks was found as well, so that it can be more than 1.
    `ndcg`: the sum of 1 / log2(i + 1) over the i from 1 where R_i is in G, over that sum for i up to min(|G|, ANSWERS).
    `clicks`: floor((i - 1) / 10) of the first i where R_i is in G; 51, one more than there can be, if there is none.

    Parameters
    ----------
    answers
        int64 `[n, up to ANSWERS]`, item indices, -1 past the last.
    hidden
        The hidden tracks of each of the n playlists, at least one.
    artists
        int64 `[items]`: a number for each item's artist.
    """
    figures = np.empty((len(answers), len(METRICS)))
    for row, (start, end) in enumerate(zip(hidden.offsets[:-1], hidden.offsets[1:], strict=True)):
        figures[row] = _figures(answers[row], hidden.items[start:end], artists)
    return dict(zip(METRICS, figures.T, strict=True))


def _figures(answered: Int64Array, hidden: Int64Array, artists: Int64Array) -> tuple[float, float, float]:
    answered = answered[answered >= 0]
    hits = np.flatnonzero(np.isin(answered, hidden))
    first = answered[: len(hidden)]
    same_artists = np.intersect1d(artists[first], artists[hidden])
    held = np.count_nonzero(hits < len(hidden))
    precision = (held + ARTIST_CREDIT * len(same_artists)) / len(hidden)
    ideal = np.sum(1 / np.log2(np.arange(min(len(hidden), ANSWERS)) + 2.0))
    gain = np.sum(1 / np.log2(hits + 2.0))
    clicks = hits[0] // PAGE if len(hits) else ANSWERS // PAGE + 1
    return float(precision), float(gain / ideal), float(clicks)


def artist_numbers(catalogue: pd.DataFrame) -> Int64Array:
    """Return a number for each item's artist, int64 `[items]`."""
    return pd.factorize(catalogue[ARTIST])[0].astype(np.int64)
