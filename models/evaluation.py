"""Stage evaluate: the exported towers on the test part, beside popularity."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from models.data import join, users_and_seen, with_history
from models.metrics import Float32Array, Int64Array, rank_targets, rank_users
from models.onnx import run_tower
from workflows import features
from workflows.columns import Columns
from workflows.features import FeatureSet


def evaluate(features_dir: Path, towers_dir: Path, protocol: str) -> dict[str, Any]:
    """Measure the towers by exact search over the whole catalogue.

    Returns
    -------
    dict
        `rows`, `items`, `users`, `protocol`; `all` (every item competes) and `unseen` (the user's training and
        validation items are taken out), each with the metrics of `models.metrics.Ranking`; and `popularity` with the
        same two for the items ordered by their number of training and validation interactions.
    """
    data = features.load(features_dir)
    known = join([data.train, data.valid]).interactions
    targets = data.test.interactions[Columns.ItemIndex].to_numpy(np.int64)
    users, seen = users_and_seen(data.test.interactions, known)
    items = len(data.catalogue)
    counts = np.bincount(known[Columns.ItemIndex], minlength=items).astype(np.float32)

    def popularity(askers: Int64Array) -> Float32Array:
        return np.broadcast_to(counts, (len(askers), items))

    ours = rank_targets(tower_scores(data, towers_dir), targets, users, seen, items)
    peer = rank_users(popularity, targets, users, seen, items)
    return {
        "rows": len(targets),
        "items": items,
        "users": len(np.unique(users)),
        "protocol": protocol,
        **{name: ranking.metrics() for name, ranking in ours.items()},
        "popularity": {name: ranking.metrics() for name, ranking in peer.items()},
    }


def tower_scores(data: FeatureSet, towers_dir: Path) -> Callable[[slice], Float32Array]:
    """Return what scores a slice of the test rows against the catalogue, as the exported towers do."""
    known = join([data.train, data.valid]).interactions
    vectors = np.load(towers_dir / "item_vectors.npy", allow_pickle=False)
    queries = run_tower(towers_dir / "query.onnx", with_history(data.test, data.query_specs, known).query)
    return lambda rows: queries[rows] @ vectors.T
