"""The map: the vectors of all items in the plane in which they vary most."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from retrieval.explore.loaded.explored import Explored

MOST_ITEMS, IN_REPORT = 100_000, 10_000
"""Of a larger catalogue as many are drawn, evenly: in the browser, and in a report, which is sent around."""
LONGEST_TITLE = 80
COLOURS = 6
"""So many tags have a colour of their own."""
GRID = 65_535
"""Places are whole numbers from 0 to this."""
LEAST_SHARE = 0.02
"""A category that fewer of the items have is nobody's main one."""
OTHER = "other"


class ItemMap:
    """What the page draws."""

    def __init__(self, explored: Explored, most: int = MOST_ITEMS) -> None:
        self._items, self._popularity = explored.items, explored.peers.popularity
        live = np.flatnonzero(explored.items.live)
        self._rows = live[np.unique(np.linspace(0, len(live) - 1, min(most, len(live))).astype(np.int64))]

    @property
    def count(self) -> int:
        """Return how many items are drawn."""
        return len(self._rows)

    @cached_property
    def variance(self) -> float:
        """Return the share of the vectors' variance that the plane shows."""
        return self._plane[1]

    @cached_property
    def groups(self) -> list[str]:
        """Return the names of the colours: the most frequent tags, and the rest."""
        names, counts = np.unique([tag for tag in self._mains if tag != OTHER], return_counts=True)
        return [*names[np.argsort(-counts, kind="stable")][:COLOURS].tolist(), OTHER]

    @property
    def about(self) -> dict[str, Any]:
        """Return what the page says beside the points."""
        return {"count": self.count, "variance": self.variance, "groups": self.groups}

    @cached_property
    def points(self) -> dict[str, Any]:
        """Return the points: ids, titles, places x and y, `group` (a place in `groups`) and popularity."""
        codes = {name: code for code, name in enumerate(self.groups)}
        places = _on_grid(self._plane[0])
        chosen = np.log1p(self._popularity[self._rows])
        rows: list[int] = self._rows.tolist()
        return {
            "ids": [str(self._items.ids[row]) for row in rows],
            "titles": [self._items.titles[row][:LONGEST_TITLE] for row in rows],
            "x": places[:, 0].tolist(),
            "y": places[:, 1].tolist(),
            "group": [codes.get(name, len(codes) - 1) for name in self._mains],
            "popularity": (255 * chosen / max(1e-9, float(chosen.max(initial=0)))).astype(int).tolist(),
        }

    @cached_property
    def document(self) -> str:
        """Return the points as JSON."""
        return json.dumps(self.points, separators=(",", ":"))

    @cached_property
    def _mains(self) -> list[str]:
        """Return each item's rarest tag that is not a rarity."""
        tags = next(iter(self._items.tags.values()), None)
        return main_categories([[] if tags is None else tags.values_of(row) for row in self._rows.tolist()])

    @cached_property
    def _plane(self) -> tuple[np.ndarray, float]:
        """Return the vectors on their first two principal components, float [n, 2], and the share of the variance."""
        vectors = np.asarray(self._items.vectors[self._rows], np.float64)
        centred = vectors - vectors.mean(axis=0)
        values, axes = np.linalg.eigh(centred.T @ centred)
        axes = axes[:, ::-1][:, :2]
        axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
        points = np.zeros((len(vectors), 2))
        points[:, : axes.shape[1]] = centred @ axes
        return points, float(values[::-1][:2].sum() / max(values.sum(), 1e-12))


def _on_grid(points: np.ndarray) -> np.ndarray:
    """Return places as whole numbers, one scale for both axes."""
    low, span = points.min(axis=0), max(float(np.ptp(points, axis=0).max()), 1e-12)
    return ((points - low + (span - np.ptp(points, axis=0)) / 2) / span * GRID).round().astype(int)


def main_categories(values: Sequence[Any]) -> list[str]:
    """Return each item's rarest category, but not one that fewer than LEAST_SHARE of the items have; else OTHER."""
    lists = [categories(value) for value in values]
    counts = Counter(name for names in lists for name in set(names))
    common = {name: count for name, count in counts.items() if count >= LEAST_SHARE * len(lists)}
    return [min((name for name in names if name in common), key=common.__getitem__, default=OTHER) for names in lists]


def categories(value: Any) -> list[str]:
    """Return the categories in a cell, which holds several, one or none."""
    if isinstance(value, (list, tuple, np.ndarray)):
        return [str(category) for category in value]
    return [] if value is None or value != value else [str(value)]
