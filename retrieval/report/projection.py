"""The report's picture of the item vectors: the plane that tells their categories apart best, coloured by them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.linalg import eigh

from retrieval.runs.recipe import Recipe

SHOWN_ITEMS = 2000
"""At most so many points, drawn evenly."""
SHOWN_CATEGORIES = 6
"""As many as the page has colours; the items of others are grey."""
LEAST_SHARE = 0.02
"""A category that fewer of the items have is nobody's main one."""
NEIGHBOURS = 10
RIDGE = 0.1
"""Of the mean variance within categories, added to it in every direction, so that few items make no axis."""
SIZE, MARGIN = 640, 12
OTHER = "other"

Floats = npt.NDArray[np.floating[Any]]


def projection_for_page(recipe: Recipe, run: Path) -> dict[str, Any] | None:
    """Return what the page shows of a run's item vectors; None where no feature of the items is a category."""
    column = category_column(recipe)
    if column is None:
        return None
    values = pd.read_parquet(run / "features" / "catalogue.parquet", columns=[column])[column]
    vectors = np.load(run / "towers" / "item_vectors.npy", mmap_mode="r", allow_pickle=False)
    drawn = np.sort(np.random.default_rng(0).permutation(len(vectors))[:SHOWN_ITEMS])
    sample = np.asarray(vectors[drawn], np.float64)
    mains = main_categories(values.iloc[drawn].tolist())
    shown = [name for name, _ in Counter(one for one in mains if one != OTHER).most_common(SHOWN_CATEGORIES)]
    same, by_chance = neighbours_alike(sample, mains)
    return {
        "column": column,
        "categories": shown,
        "others": any(one not in shown for one in mains),
        "items": len(vectors),
        "shown": len(drawn),
        "neighbours": NEIGHBOURS,
        "same": same,
        "by_chance": by_chance,
        "chart": scatter(plane(sample, mains, shown), mains, shown),
    }


def category_column(recipe: Recipe) -> str | None:
    """Return the first item column, but the id, that the recipe takes as a category or as a list of them."""
    for column, features in msgspec.to_builtins(recipe.item)["features"].items():
        kinds = [one["kind"] for one in (features if isinstance(features, (list, tuple)) else [features])]
        if column != "item_id" and {"categorical", "multi-hot"} & set(kinds):
            return str(column)
    return None


def main_categories(values: Sequence[Any]) -> list[str]:
    """Return each item's rarest category, but not one that fewer than LEAST_SHARE of the items have; else OTHER."""
    lists = [_categories(one) for one in values]
    counts = Counter(name for names in lists for name in set(names))
    common = {name: count for name, count in counts.items() if count >= LEAST_SHARE * len(lists)}
    return [min((one for one in names if one in common), key=common.__getitem__, default=OTHER) for names in lists]


def _categories(value: Any) -> list[str]:
    if isinstance(value, (list, tuple, np.ndarray)):
        return [str(one) for one in value]
    return [] if pd.isna(value) else [str(value)]


def plane(vectors: Floats, mains: Sequence[str], shown: Sequence[str]) -> Floats:
    """Return float `[n, d]` vectors on the plane in which the categories shown lie farthest apart, `[n, 2]`.

    Its axes are the first two linear discriminants (Fisher 1936): directions along which the categories' means vary
    most beside the vectors within them. With one category there is one, and without any the points are zeros.
    """
    centred, points = vectors - vectors.mean(axis=0), np.zeros((len(vectors), 2))
    between, within = np.zeros((2, vectors.shape[1], vectors.shape[1]))
    for name in shown:
        own = centred[[main == name for main in mains]]
        mean = own.mean(axis=0)
        between += len(own) * np.outer(mean, mean)
        within += (own - mean).T @ (own - mean)
    if not shown:
        return points
    within += np.eye(len(within)) * (RIDGE * np.trace(within) / len(within) + 1e-9)
    axes = eigh(between, within)[1][:, ::-1][:, : min(2, len(shown))]
    axes = axes * np.sign(np.take_along_axis(axes, np.abs(axes).argmax(axis=0)[np.newaxis], axis=0))
    points[:, : axes.shape[1]] = centred @ axes
    return points


def neighbours_alike(vectors: Floats, mains: Sequence[str]) -> tuple[float, float]:
    """Return the share of an item's NEIGHBOURS nearest, by inner product, with its main category; and that of any."""
    codes = pd.factorize(pd.Series(mains))[0]
    count = min(NEIGHBOURS, len(vectors) - 1)
    if count < 1:
        return 0.0, 0.0
    scores = vectors @ vectors.T
    np.fill_diagonal(scores, -np.inf)
    nearest = np.argpartition(-scores, count - 1, axis=1)[:, :count]
    shares = np.bincount(codes) / len(codes)
    return float((codes[nearest] == codes[:, np.newaxis]).mean()), float((shares**2).sum())


def scatter(points: Floats, mains: Sequence[str], shown: Sequence[str]) -> str:
    """Return the points as one `<svg>` element; those of category `n` have the CSS class `series-n`, others none."""
    low, span = points.min(axis=0), np.maximum(np.ptp(points, axis=0), 1e-12)
    height = SIZE * 0.62
    places = MARGIN + (points - low) / span * (np.array([SIZE, height]) - 2 * MARGIN)
    groups: dict[str, list[str]] = {name: [] for name in (OTHER, *shown)}
    for (x, y), main in zip(places, mains, strict=True):
        name = main if main in shown else OTHER
        groups[name].append(f'<circle cx="{x:.1f}" cy="{height - y:.1f}" r="2.2"/>')
    parts = [f'<svg viewBox="0 0 {SIZE} {height:.0f}" role="img" aria-label="item vectors by category">']
    for number, (name, circles) in enumerate(groups.items()):
        style = f"series-{number - 1}" if number else "series-other"
        parts.append(f'<g class="{style}" fill-opacity="0.75"><title>{escape(name)}</title>{"".join(circles)}</g>')
    return "\n".join([*parts, "</svg>"])
