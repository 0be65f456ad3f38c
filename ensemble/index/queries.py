"""Real queries for measuring an index: rows of the run, encoded by the release itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ensemble.index.building import QUERIES, sample_of
from ensemble.index.tuning import AT
from ensemble.release.congruence import raw_columns, sample_queries
from ensemble.serving.files.arrays import read_values
from ensemble.serving.files.lookup import IdTable
from ensemble.serving.files.release import Release
from ensemble.serving.index.engines import load_index
from ensemble.serving.query.features import QueryFeatures
from ensemble.serving.query.history import History
from ensemble.serving.query.tower import Tower
from ensemble.serving.search.search import ItemSearch, no_exclusions
from ensemble.serving.triton.tensors import USER


def query_vectors(release: Release, features: Path, part: str, count: int = QUERIES) -> np.ndarray:
    """Return the query vectors, float32 [n, d], of up to `count` rows of a part of the run's features.

    An index is tuned on the part `valid` and reported on the part `test`. The release may still lack its index.
    """
    names = [column["name"] for column in release.json("query/transform.json")["inputs"]]
    columns = raw_columns(sample_queries(features, names, part, count), release)
    ids = IdTable(read_values(release, "items/ids", release.manifest["id_dtype"]["item_id"]))
    query_features = QueryFeatures(release, History(release), ids)
    users = query_features.users.rows_of(columns[USER].values)
    return Tower(release, threads=release.manifest["serving"]["threads"]).encode(query_features.compute(columns, users))


def measured_on_test(release: Release, features: Path) -> dict[str, Any]:
    """Return `queries`, and `index_recall@k`: the share of the true k nearest items that is found for test rows."""
    index = load_index(release)
    if index is None or index.is_exact:
        return {"queries": 0, **{f"index_recall@{k}": 1.0 for k in AT}}
    vectors = release.array("items/vectors.npy", np.float32, dimensions=2)
    sample = sample_of(vectors, query_vectors(release, features, "test"), index.metric)
    k = np.full(len(sample.queries), sample.truth.shape[1])
    search = ItemSearch(vectors, index, metric=index.metric)
    recalls = sample.recalls(search.nearest(sample.queries, k, *no_exclusions()).item_index)
    means = {f"index_recall@{at}": round(float(recall.mean()), 5) for at, recall in recalls.items()}
    return {"queries": len(k), **means}
