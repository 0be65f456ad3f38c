"""Compares a release with the training side: both must give the same answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from ensemble.release.columns import entries_of
from ensemble.serving.files.release import Release
from ensemble.serving.index.engine import PARAMETERS
from ensemble.serving.query.transform import Column
from ensemble.serving.retriever import Retriever
from ensemble.serving.search.ranker import Ranker
from ensemble.serving.search.search import no_exclusions
from ensemble.serving.triton.tensors import Request
from workflows.columns import Columns
from workflows.errors import ReleaseError
from workflows.features.files import read_rows

Reference = Callable[[pd.DataFrame], np.ndarray]
"""From raw query columns, n rows, to query vectors, float32 [n, d]."""
RankingReference = Callable[[pd.DataFrame, np.ndarray], np.ndarray]
"""From raw query columns, n rows, and item indices, int64 [n, m], to ranking scores, float32 [n, m]."""

TOLERANCE = 1e-5
_SAMPLES = 64


def check_congruence(
    release: Release, features: Path, reference: Reference | None, ranking: RankingReference | None = None
) -> None:
    """Ask the release, which may still be a draft, and the training side for sample queries; raise ReleaseError if they
    differ.

    Query vectors must be equal within `TOLERANCE` of their largest number or of 1, the ranker's scores within that of
    the largest one or of 1, and the items those of an exact search in float64, except where scores are tied. An
    approximate index must score its items rightly and return them in order. A reference that is None is not compared.
    """
    retriever = Retriever(release)
    queries = sample_queries(features, [column["name"] for column in release.json("query/transform.json")["inputs"]])
    columns = raw_columns(queries, release)
    user_rows = retriever.users.rows_of(columns[Columns.User].values)
    encoded = retriever.features.compute(columns, user_rows)
    vectors = retriever.tower.encode(encoded)
    if reference is not None:
        _check_vectors(vectors, np.asarray(reference(queries)), queries)
    _check_items(retriever, vectors, columns)
    if retriever.ranker is not None and ranking is not None:
        _check_ranking(retriever, retriever.ranker, encoded, vectors, lambda items: ranking(queries, items))


def sample_queries(features: Path, names: list[str], part: str = "test", count: int = _SAMPLES) -> pd.DataFrame:
    """Return the raw query columns of `count` rows spread over a part, with their users' columns."""
    rows = read_rows(features / part)
    rows = rows.iloc[np.unique(np.linspace(0, len(rows) - 1, count).astype(int))] if len(rows) else rows
    users = pd.read_parquet(features / "users.parquet")
    columns = [name for name in rows if name in names or name == Columns.User]
    joined = rows[columns].merge(
        users[[name for name in users if name == Columns.User or name not in columns]], on=Columns.User
    )
    return joined[list(dict.fromkeys([Columns.User, *names]))]


def raw_columns(queries: pd.DataFrame, release: Release) -> dict[str, Column]:
    """Return the columns of a frame in the form that the query transform takes."""
    stated = {column["name"]: column for column in release.json("query/transform.json")["inputs"]}
    stated.setdefault(Columns.User, {"dtype": release.manifest["id_dtype"][Columns.User], "list": False})
    present = [name for name in stated if name in queries]
    return {name: as_column(queries[name], stated[name]["dtype"], stated[name]["list"]) for name in present}


def as_column(values: pd.Series, dtype: str, is_list: bool) -> Column:
    """Convert a pandas column to the `Column` of the serving code; None and NaN become missing."""
    offsets = None
    if is_list:
        offsets, values = entries_of(values)
    missing = values.isna().to_numpy(dtype=bool)
    filled = values.astype(object).where(~missing, "" if dtype == "string" else 0).to_numpy()
    plain = filled if dtype == "string" else filled.astype(dtype)
    return Column(plain, missing if missing.any() else None, offsets)


def _check_vectors(vectors: np.ndarray, expected: np.ndarray, queries: pd.DataFrame) -> None:
    if vectors.shape != expected.shape:
        raise ReleaseError(f"no release was made: query vectors are {vectors.shape}, by training {expected.shape}")
    apart = np.abs(vectors - expected).max(axis=1) if len(vectors) else np.zeros(0)
    if not (apart <= TOLERANCE * np.abs(expected).max(axis=1, initial=1.0)).all():  # NaN included
        row = int(np.argmax(np.nan_to_num(apart, nan=np.inf)))
        raise ReleaseError(
            f"no release was made: for {queries.iloc[row].to_dict()} the query vector differs from training's "
            f"by {apart[row]:.3g}, expected at most {TOLERANCE} of its largest number: the compiled transform or the "
            "exported tower is wrong"
        )


def _check_items(retriever: Retriever, vectors: np.ndarray, columns: dict[str, Column]) -> None:
    k = min(retriever.serving["top_k"], len(retriever.search.vectors))
    rows = len(vectors)
    request = Request(columns, np.full(rows, k), np.ones(rows, dtype=bool), no_exclusions())
    answer = retriever.nearest(vectors, np.full(rows, -1), request)
    parameters = retriever.release.json(PARAMETERS)
    scores = exact_scores(vectors.astype(np.float64), retriever.search.vectors.astype(np.float64), parameters["metric"])
    best = -np.sort(-scores, axis=1)[:, :k]
    own = np.take_along_axis(scores, answer.item_index, axis=1)
    if not parameters["is_exact"]:
        # Which items it finds is measured when it is built; what it says of them must be true.
        best = -np.sort(-own, axis=1)
    # The item in each place has the score that belongs in that place: equal items wherever scores are not tied.
    apart, scale = np.maximum(np.abs(own - best), np.abs(answer.score - best)), np.abs(best).max(axis=1, initial=1.0)
    if not (apart <= TOLERANCE * scale[:, np.newaxis]).all():  # NaN included
        raise ReleaseError("no release was made: its search does not return the items with the best scores")


def _check_ranking(
    retriever: Retriever,
    ranker: Ranker,
    features: Mapping[str, np.ndarray],
    vectors: np.ndarray,
    reference: Callable[[np.ndarray], np.ndarray],
) -> None:
    rows, m = len(vectors), min(ranker.candidates, len(retriever.search.vectors))
    request = Request({}, np.full(rows, m), np.ones(rows, dtype=bool), no_exclusions())
    ranked = ranker.rank(
        features, vectors, retriever.nearest(vectors, np.full(rows, -1), request).item_index, request.top_k
    )
    expected = reference(ranked.item_index)
    worst = float(np.abs(ranked.score - expected).max(initial=0) / np.abs(expected).max(initial=1.0))
    if not worst <= TOLERANCE:
        raise ReleaseError(
            f"no release was made: the ranker's scores differ from training's by {worst:.3g} of the largest, expected "
            f"at most {TOLERANCE}: the compiled transform or the exported ranker is wrong"
        )


def exact_scores(queries: np.ndarray, items: np.ndarray, metric: str) -> np.ndarray:
    """Return the scores of all items, float64 [n, items], as `ItemSearch` defines them."""
    if metric == "l2":
        return -((queries**2).sum(axis=1)[:, None] + (items**2).sum(axis=1) - 2 * queries @ items.T)
    if metric == "cosine":
        lengths = [np.linalg.norm(side, axis=1, keepdims=True) for side in (queries, items)]
        safe = [np.where(length > 0, length, 1) for length in lengths]
        queries, items = queries / safe[0], items / safe[1]
    return queries @ items.T
