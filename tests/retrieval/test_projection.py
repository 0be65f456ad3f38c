"""The report's picture of the items: whose colour an item has, and what the plane shows."""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np
import pytest

from retrieval.report.projection import OTHER, main_categories, neighbours_alike, plane, scatter

NAMES = ("<war> & sea", "love", "work")
MAINS = [*np.repeat(NAMES, 40), *[OTHER] * 5]


def made_up() -> np.ndarray:
    """Three categories, told apart by the first three of ten directions only; the others vary more."""
    random = np.random.default_rng(0)
    vectors = random.normal(size=(125, 10)) * ([0.1] * 3 + [1.0] * 7)
    vectors[:120, :3] += np.repeat(np.eye(3), 40, axis=0)
    return vectors


def test_the_plane_tells_categories_apart_that_the_largest_variance_does_not() -> None:
    points, codes = plane(made_up(), MAINS, NAMES)[:120], np.repeat(range(3), 40)
    means = np.stack([points[codes == one].mean(axis=0) for one in range(3)])
    nearest = np.linalg.norm(points[:, None] - means, axis=2).argmin(axis=1)
    assert (nearest == codes).mean() > 0.95


@pytest.mark.parametrize("shown", [(), NAMES[:1], NAMES])
def test_it_is_drawn_for_any_number_of_categories(shown: tuple[str, ...]) -> None:
    svg = ElementTree.fromstring(scatter(plane(made_up(), MAINS, shown), MAINS, shown))
    groups = {one.find("./title").text: len(one.findall("./circle")) for one in svg.findall("./g")}
    assert groups == {OTHER: 125 - 40 * len(shown), **dict.fromkeys(shown, 40)}


def test_an_item_is_of_its_rarest_category_that_is_not_too_rare() -> None:
    values = [["drama", "war"], ["drama"], "war", None, [], ["drama", "noir"], *[["drama"]] * 94]
    assert main_categories(values) == ["war", "drama", "war", OTHER, OTHER, "drama", *["drama"] * 94]


def test_neighbours_of_separate_categories_are_alike() -> None:
    vectors = np.repeat(np.eye(2), 20, axis=0) + np.random.default_rng(1).normal(size=(40, 2)) * 0.01
    assert neighbours_alike(vectors, ["a"] * 20 + ["b"] * 20) == (1.0, 0.5)
    assert neighbours_alike(vectors[:1], ["a"]) == (0.0, 0.0)
