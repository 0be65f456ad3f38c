"""Comparison of two releases: their metrics, their catalogues, and their answers to the same users."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from ensemble.release.sign import open_release
from ensemble.serving.errors import InvalidRelease
from ensemble.serving.files.arrays import read_values
from ensemble.serving.files.parameters import Fields, read_json
from ensemble.serving.files.release import Release
from ensemble.serving.query.sequence import TIME
from ensemble.serving.query.transform import Column
from ensemble.serving.retriever import Retriever
from ensemble.serving.search.search import no_exclusions
from ensemble.serving.selftest import SelfTest
from ensemble.serving.triton.tensors import USER, Request
from workflows.columns import Columns
from workflows.errors import ReleaseError

if TYPE_CHECKING:
    import pandas as pd

_BATCH = 256
_EXAMPLES = 10
_PROTOCOLS = ("unseen", "all")


@dataclass(frozen=True)
class Candidate:
    """A verified release and, where they are known, the metrics of its run."""

    source: str
    """Its name in messages."""
    release: Release
    metrics: Mapping[str, Any] | None = None
    """The run's `metrics.json`."""

    @classmethod
    def open(cls, release: Path, metrics: Path | None, source: str) -> Candidate:
        """Verify a release and read its run's metrics, if that file exists; raise ReleaseError if it is damaged."""
        return cls(source, open_release(release), None if metrics is None else read_metrics(metrics))

    @property
    def id(self) -> str:
        """Return the release's id."""
        return str(self.release.manifest["release"])


def read_metrics(path: Path) -> Mapping[str, Any] | None:
    """Return a run's `metrics.json`, None if there is none; raise ReleaseError unless it has what `compare` takes from
    it.
    """
    if not path.is_file():
        return None
    try:
        measured: Mapping[str, Any] = read_json(path)
        fields = Fields(measured, str(path))
        fields.integer("rows", 0, 1 << 60)
        fields.text("protocol")
        for name in filter(fields.has, _PROTOCOLS):
            fields.object(name)
        if fields.has("continuation"):
            fields.object("continuation").object("mean")
    except InvalidRelease as error:
        raise ReleaseError(f"{error}; run `retrieval evaluate` again") from None
    return measured


class Facts(msgspec.Struct, frozen=True):
    """One of the two releases."""

    source: str
    release: str
    name: str
    created: str
    users: int
    items: int
    interactions: int
    protocol: str | None
    """The protocol of its metrics; None if these are not known."""


class Changes(msgspec.Struct, frozen=True):
    """Users or items by which the second release differs from the first."""

    added: int
    removed: int
    changed: int = 0
    """In both, with another value in a column that both have."""
    columns: dict[str, int] = {}
    """Number of changed items by column."""
    examples: dict[str, list[Any]] = {}
    """Some ids of those `added`, `removed` and `changed`."""


class Answers(msgspec.Struct, frozen=True):
    """Answers to users that both releases know, asked by id alone, without seen items."""

    users: int
    k: int
    overlap: float
    """Mean share of the first k answers that both have in common; 0 where there is no user to ask."""
    same: float
    """Share of the users whose first k answers are the same items."""


class Difference(msgspec.Struct, frozen=True):
    """The differences from release `a` to release `b`."""

    a: Facts
    b: Facts
    metrics: dict[str, tuple[float, float]]
    """Both figures of every metric that both have."""
    catalogue: Changes
    users: Changes
    answers: Answers


def compare(a: Candidate, b: Candidate, k: int, users: int, seed: int = 42) -> Difference:
    """Compare release `b` with release `a`: metrics, items and users that changed, and how far the answers overlap.

    Of the users that both know, a sample of `users` is asked for their best `k`. Raise InvalidRelease if the parts of a
    release do not fit each other.
    """
    before, after = Retriever(a.release), Retriever(b.release)
    known = _user_ids(a.release), _user_ids(b.release)
    return Difference(
        a=_facts(a),
        b=_facts(b),
        metrics=_metrics(a, b),
        catalogue=_catalogue(_items(before), _items(after)),
        users=Changes(len(known[1].difference(known[0])), len(known[0].difference(known[1]))),
        answers=_answers(before, after, _sampled(known[0].intersection(known[1]), users, seed), k),
    )


def _facts(candidate: Candidate) -> Facts:
    manifest, metrics = candidate.release.manifest, candidate.metrics
    counts = manifest["counts"]
    return Facts(
        source=candidate.source,
        release=candidate.id,
        name=str(manifest.get("name", "")),
        created=str(manifest.get("created", "")),
        users=int(counts["users"]),
        items=int(counts["items"]),
        interactions=int(counts["interactions"]),
        protocol=None if metrics is None else f"{metrics['rows']:,} test rows; {metrics['protocol']}",
    )


def _metrics(a: Candidate, b: Candidate) -> dict[str, tuple[float, float]]:
    if a.metrics is None or b.metrics is None:
        return {}
    pairs = [(name, a.metrics.get(name, {}), b.metrics.get(name, {})) for name in _PROTOCOLS]
    if "continuation" in a.metrics and "continuation" in b.metrics:
        pairs.append(("continued", a.metrics["continuation"]["mean"], b.metrics["continuation"]["mean"]))
    return {
        f"{protocol} {name}": (float(old[name]), float(new[name]))
        for protocol, old, new in pairs
        for name in old
        if isinstance(old[name], float) and isinstance(new.get(name), float)
    }


def _items(retriever: Retriever) -> pd.DataFrame:
    """Return the columns of the live items, by id."""
    import pandas as pd

    from ensemble.release.item_columns import items_of

    rows, table = retriever.catalogue.rows, items_of(retriever.release)
    ids = pd.Index(rows.ids[rows.live], name=Columns.Item)
    return table[rows.live].drop(columns=Columns.Item).set_axis(ids, axis="index")


def _catalogue(old: pd.DataFrame, new: pd.DataFrame) -> Changes:
    added, removed = new.index.difference(old.index), old.index.difference(new.index)
    both = old.index.intersection(new.index)
    shared = [str(name) for name in old if name in new]
    differ = {name: _differ(old[name].reindex(both), new[name].reindex(both)) for name in shared}
    changed = np.any(list(differ.values()), axis=0) if shared and len(both) else np.zeros(len(both), dtype=bool)
    lists = {"added": added, "removed": removed, "changed": both[changed]}
    return Changes(
        len(added),
        len(removed),
        int(changed.sum()),
        {name: int(rows.sum()) for name, rows in differ.items() if rows.any()},
        {name: ids[:_EXAMPLES].tolist() for name, ids in lists.items() if len(ids)},
    )


def _differ(old: pd.Series, new: pd.Series) -> np.ndarray:
    """Return which values differ, bool [n]; nulls are equal, lists are compared entry by entry."""
    both_null = (old.isna() & new.isna()).to_numpy(dtype=bool)
    if old.dtype == object or new.dtype == object:
        old, new = old.map(_plain), new.map(_plain)
    different: np.ndarray = old.to_numpy() != new.to_numpy()
    return different & ~both_null


def _plain(value: Any) -> Any:
    """Return lists and arrays in a form that compares as a whole."""
    return tuple(value) if isinstance(value, (list, np.ndarray)) else value


def _user_ids(release: Release) -> pd.Index:
    import pandas as pd

    return pd.Index(read_values(release, f"users/{USER}", release.manifest["id_dtype"][USER]))


def _sampled(ids: pd.Index, count: int, seed: int) -> np.ndarray:
    rows = np.random.default_rng(seed).permutation(len(ids))[:count]
    return np.asarray(ids.sort_values().to_numpy()[np.sort(rows)])


def _answers(before: Retriever, after: Retriever, ids: np.ndarray, k: int) -> Answers:
    if not len(ids):
        return Answers(0, k, 0.0, 0.0)
    # One time for both, after all that either knows: what a release of times answers depends on it.
    now = max(int(SelfTest.load(retriever.release).stated["timestamp"]) for retriever in (before, after))
    pairs = list(zip(_best(before, ids, now, k), _best(after, ids, now, k), strict=True))
    overlap = [len(a & b) / max(len(a), len(b), 1) for a, b in pairs]
    return Answers(len(ids), k, float(np.mean(overlap)), float(np.mean([a == b for a, b in pairs])))


def _best(retriever: Retriever, ids: np.ndarray, now: int, k: int) -> list[set[Any]]:
    best = []
    for start in range(0, len(ids), _BATCH):
        part = ids[start : start + _BATCH]
        columns = {USER: Column(part), TIME: Column(np.full(len(part), now, dtype=np.int64))}
        request = Request(columns, np.full(len(part), k), np.zeros(len(part), dtype=bool), no_exclusions())
        answer = retriever.answer(request)
        best += [set(row[:count].tolist()) for row, count in zip(answer.item_id, answer.count, strict=True)]
    return best
