"""Index drift since the index was built: the share of changed items, and its recall now."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ensemble.catalogue.changes import LiveItems
from ensemble.index.tuning import AT
from ensemble.serving.files.arrays import read_values
from ensemble.serving.index.engine import PARAMETERS
from ensemble.serving.query.features import QueryFeatures
from ensemble.serving.query.history import History
from ensemble.serving.query.sequence import TIME
from ensemble.serving.query.tower import Tower
from ensemble.serving.query.transform import Column
from ensemble.serving.search.search import ItemSearch
from ensemble.serving.triton.tensors import USER

SHARE_LIMIT = 0.2
RECALL_TARGET = 0.95
_QUERIES = 200


@dataclass(frozen=True)
class Quality:
    """The measured drift."""

    live: int
    """Items that can be answered with."""
    changed: int
    """Items added, updated or removed since the index was built."""
    recall: dict[int, float]
    """Share of the true k nearest that the search finds, by k; over known users' queries."""
    recall_target: float
    """0 if the index missed its target when it was built."""
    share_limit: float

    @property
    def share(self) -> float:
        """Return the number of changed items per live item."""
        return self.changed / max(self.live, 1)

    @property
    def reasons(self) -> list[str]:
        """Return the reasons for a rebuild; none if it is not due."""
        reasons = [
            f"recall@{k} is {recall:.3f}, below {self.recall_target}"
            for k, recall in self.recall.items()
            if recall < self.recall_target
        ]
        if self.share > self.share_limit:
            reasons.append(f"{self.share:.0%} of the items changed, more than {self.share_limit:.0%}")
        return reasons

    @property
    def due(self) -> bool:
        """Return whether a rebuild is due."""
        return bool(self.reasons)

    def as_json(self) -> dict[str, Any]:
        """Return all fields for JSON."""
        return {**asdict(self), "share": self.share, "rebuild_due": self.due, "reasons": self.reasons}


def measure(items: LiveItems, share_limit: float = SHARE_LIMIT) -> Quality:
    """Compare the live search with an exact one, for up to 200 of the release's users, and count the changes.

    A rebuild is due above `share_limit` changed items per live item.
    """
    catalogue, parameters = items.catalogue, items.release.json(PARAMETERS)
    live = catalogue.rows.live
    indexed = int(parameters["items"])
    dead = np.flatnonzero(~live[:indexed])
    touched = np.concatenate([catalogue.rows.ids[indexed:], catalogue.rows.ids[dead]])
    changed = len(set(touched.tolist())) - int(items.release.origin.get("dead_when_indexed", 0))
    # A target that the index never met calls for another recipe: building it again would not help.
    target = float(parameters.get("recall_target", RECALL_TARGET)) if parameters.get("target_met", True) else 0.0
    recall = _recall(items, queries_of(items), str(parameters["metric"]))
    return Quality(int(live.sum()), changed, recall, target, share_limit)


def queries_of(items: LiveItems) -> np.ndarray:
    """Return the query vectors, float32 [n, d], of users spread over the table, just after the last interaction."""
    release = items.release
    features = QueryFeatures(release, History(release), items.catalogue.trained_ids)
    users = read_values(release, f"users/{USER}", release.manifest["id_dtype"][USER])
    rows = np.unique(np.linspace(0, len(users) - 1, min(len(users), _QUERIES)).astype(np.int64))
    now = int(release.array("history/timestamp.npy", np.int64).max(initial=0)) + 1
    columns = {USER: Column(users[rows]), TIME: Column(np.full(len(rows), now, dtype=np.int64))}
    return Tower(release).encode(features.compute(columns, rows))


def _recall(items: LiveItems, queries: np.ndarray, metric: str) -> dict[int, float]:
    search, live = items.catalogue.search, items.catalogue.rows.live
    exact = ItemSearch(search.vectors, None, metric=metric, live=live)
    none = np.zeros(0, dtype=np.int64)
    recalls = {}
    for k in sorted({min(k, int(live.sum())) for k in AT} - {0}):
        counts = np.full(len(queries), k)
        worst = exact.nearest(queries, counts, none, none).score[:, k - 1 :]
        recalls[k] = float((search.nearest(queries, counts, none, none).score >= worst).mean())
    return recalls
