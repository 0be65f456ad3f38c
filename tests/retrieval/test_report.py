"""The report stands alone and shows text as text."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.explore.loaded.explored import Explored
from retrieval.explore.loaded.measured import TOWERS
from retrieval.explore.views.quality import quality_page, recall
from retrieval.report.charts import Axis, Series, line_chart
from retrieval.report.examples import pick_users
from retrieval.report.page import render
from retrieval.report.tables import Example, Item
from retrieval.runs.run import Run
from retrieval.runs.stages import STAGES

FIGURES = st.floats(-1e6, 1e6).map(lambda value: round(value, 3))


class Tags(HTMLParser):
    """Collects what a page loads or runs."""

    def __init__(self) -> None:
        super().__init__()
        self.outside: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("script", "link", "iframe", "b") and not (tag == "b" and not attrs):
            self.outside.append(tag)
        self.outside += [value or "" for name, value in attrs if name in ("src", "href", "onclick", "onerror")]


def test_the_report_loads_nothing_from_outside(run_dir: Path) -> None:
    page = (run_dir / "report.html").read_text(encoding="utf-8")
    tags = Tags()
    tags.feed(page)
    assert tags.outside == []
    assert not re.search(r"https?://|@import|url\(", page)
    assert page.count('<g class="series-other"') == 1, "the item vectors by genre"


def test_a_title_with_markup_is_shown_not_run(run_dir: Path) -> None:
    evil = "<script>alert(1)</script>"
    shown = [Example(evil, evil, [Item(1, evil, evil, 5.0)], [Item(2, evil, evil, 0.5)])]
    page = render(Run.open(run_dir, STAGES), shown)
    assert "<script" not in page
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 6


def test_examples_are_the_same_users_every_time(run_dir: Path) -> None:
    users = pick_users(run_dir, 4, seed=1)
    assert len(set(users)) == 4
    assert users == pick_users(run_dir, 4, seed=1)


@given(st.lists(FIGURES, min_size=1, max_size=20), st.booleans())
def test_an_axis_holds_its_values_and_has_few_ticks(values: list[float], from_zero: bool) -> None:
    axis = Axis.over(values, from_zero)
    assert 2 <= len(axis.ticks()) <= 9
    assert all(-1e-6 <= axis.place(value) <= 1 + 1e-6 for value in values)


@given(st.text(st.characters(exclude_categories=["C"])), st.lists(FIGURES, min_size=1, max_size=5))
def test_a_chart_is_well_formed_whatever_its_names(name: str, values: list[float]) -> None:
    svg = ElementTree.fromstring(line_chart([Series(name, values, values, [name] * len(values))], name, name))
    assert len(svg.findall(".//circle")) == len(values)


@pytest.mark.parametrize("points", [1, 3])
def test_a_chart_of_one_point_is_drawn(points: int) -> None:
    assert line_chart([Series("p50", [5.0] * points, [1.0] * points)], "x", "y").count("<circle") == points


def test_the_quality_view_measures_what_metrics_json_says(run_dir: Path) -> None:
    explored = Explored(run_dir)
    rows, metrics = explored.measured.rows, explored.metrics
    expected = {TOWERS: metrics["unseen"], "popularity": metrics["popularity"]["unseen"]}
    expected |= {one["name"]: one["unseen"] for one in metrics["comparison"]["models"][2:] if "unseen" in one}
    assert rows.ranks.keys() == expected.keys()
    assert len(rows.ranks) >= 3
    for name, ranks in rows.ranks.items():
        for k in (10, 100):
            assert recall(ranks, k) == pytest.approx(expected[name][f"recall@{k}"]), (name, k)
    page = quality_page(explored, None) if explored.exposure.answers.size else {}
    [lengths] = [groups for title, groups in page["tables"] if title.startswith("by length")]
    longest = metrics["groups"]["users of 100 items or more"]
    assert lengths[-1].rows == longest["rows"]
    assert lengths[-1].recalls[:2] == pytest.approx([longest[side]["recall@10"] for side in ("unseen", "popularity")])
