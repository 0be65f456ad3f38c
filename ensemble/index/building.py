"""Input and output of the builder of an index."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ensemble.config import Index
from ensemble.index.tuning import AT, Point, Sample, nearest
from ensemble.serving.files.release import Release
from ensemble.serving.index.faiss_index import FILE
from workflows.progress import Progress

QUERIES = 500
Queries = np.ndarray | Callable[[], np.ndarray] | None


class Built(NamedTuple):
    """The content of `index/` in a release."""

    content: bytes | None
    """`index/items.faiss`, in FAISS's own format; None: every item is compared."""
    parameters: dict[str, Any]
    """`index/params.json`."""
    files: Mapping[str, bytes] = {}
    """An engine's own files, by path in the release."""

    def write(self, release: Path) -> None:
        """Write all files but the parameters into the directory of a release."""
        named = {**self.files, **({} if self.content is None else {FILE: self.content})}
        for name, content in named.items():
            (release / name).parent.mkdir(exist_ok=True)
            (release / name).write_bytes(content)


@dataclass(frozen=True)
class Building:
    """The input of a builder."""

    vectors: np.ndarray
    """float32 [items, d]."""
    config: Index
    queries: Queries
    """Queries to measure on, float32 [n, d], or a function that returns them; None: the items themselves."""
    progress: Progress
    draft: Callable[[], Release] | None = None
    """Returns the unfinished release, which lacks its index; None: there is none."""

    def sample(self) -> Sample:
        """Draw the queries for measuring."""
        return sample_of(self.vectors, self.queries() if callable(self.queries) else self.queries, self.config.metric)

    def stated(self, **own: Any) -> dict[str, Any]:
        """Return `index/params.json`: the fields of every index, and those given."""
        config = self.config
        common = {"format": 1, "metric": config.metric, "items": len(self.vectors)}
        return {**common, "recall_target": config.recall_target, **own}

    def measures(self, best: Point, frontier: Sequence[Point]) -> dict[str, Any]:
        """Return what `index/params.json` says of the measured searches and the one that was chosen."""
        met = best.sure >= self.config.recall_target
        return {"target_met": met, "search": best.search, "frontier": [point.as_json() for point in frontier]}


def sample_of(vectors: np.ndarray, queries: np.ndarray | None, metric: str) -> Sample:
    """Draw QUERIES queries, or items if there are none, and find their nearest neighbours."""
    sampled = vectors if queries is None or not len(queries) else queries
    drawn = np.random.default_rng(0).permutation(len(sampled))[:QUERIES]
    sampled = np.ascontiguousarray(sampled[np.sort(drawn)], dtype=np.float32)
    return Sample(sampled, nearest(vectors, sampled, min(AT[-1], len(vectors)), metric), vectors, metric)
