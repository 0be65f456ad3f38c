"""Stage evaluate: the exported towers on the test part, beside popularity."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from models.data import join, users_and_seen, with_history
from models.export import run_tower
from models.metrics import rank_targets
from workflows import features
from workflows.columns import Columns


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
    items = np.load(towers_dir / "item_vectors.npy", allow_pickle=False)
    queries = run_tower(towers_dir / "query.onnx", with_history(data.test, data.query_specs, known).query)
    counts = np.bincount(known[Columns.ItemIndex], minlength=len(items)).astype(np.float32)

    def popularity(rows: slice) -> np.ndarray:
        return np.broadcast_to(counts, (len(targets[rows]), len(items)))

    ours = rank_targets(lambda rows: queries[rows] @ items.T, targets, users, seen, len(items))
    peer = rank_targets(popularity, targets, users, seen, len(items))
    return {
        "rows": len(targets),
        "items": len(items),
        "users": len(np.unique(users)),
        "protocol": protocol,
        **{name: ranking.metrics() for name, ranking in ours.items()},
        "popularity": {name: ranking.metrics() for name, ranking in peer.items()},
    }
