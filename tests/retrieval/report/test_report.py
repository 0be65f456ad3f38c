"""The report stands alone and shows text as text."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import msgspec
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ensemble.client.tensors import Query
from ensemble.serving.errors import InvalidRelease
from retrieval.explore.loaded.explored import Explored
from retrieval.explore.loaded.measured import SERVED
from retrieval.explore.request.answers import InProcess
from retrieval.explore.views.quality import quality_page, recall
from retrieval.recipes.recipe import Card
from retrieval.report.card import NOT_STATED
from retrieval.report.charts import Axis, Series, line_chart
from retrieval.report.examples import Catalogue, pick_users
from retrieval.report.page import render, write_report
from retrieval.runs.run import Run
from retrieval.runs.stages import STAGES

FIGURES = st.floats(-1e6, 1e6).map(lambda value: round(value, 3))


class Tags(HTMLParser):
    """Collects what a page would load, and what it would run."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.outside: list[str] = []
        self.scripts: list[str | None] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("link", "iframe", "img", "object", "form", "base"):
            self.outside.append(tag)
        if tag == "script":
            self.scripts.append(dict(attrs).get("type"))
        for name, value in attrs:
            within = name == "href" and (value or "").startswith("#")
            if name in ("src", "action", "href") or name.startswith("on"):
                self.outside += [] if within else [value or ""]


@pytest.fixture(scope="module")
def page(run_dir: Path) -> str:
    return (run_dir / "report.html").read_text(encoding="utf-8")


def test_the_report_loads_nothing_from_outside_and_runs_the_map_alone(page: str) -> None:
    tags = Tags(page)
    assert tags.outside == []
    assert tags.scripts == ["application/json", None]
    assert not re.search(r"https?://|@import|url\(", page)
    script = page.rpartition("<script>")[2].partition("</script>")[0]
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{allowed}'" in page
    assert len(page.encode()) < 5_000_000


def test_the_report_answers_its_users_as_the_release_does(run_dir: Path, page: str) -> None:
    explored = Explored(run_dir)
    for user in pick_users(run_dir, 4, Run.open(run_dir, STAGES).recipe.seed):
        [answer] = InProcess(explored).ask(_amid_the_test_rows(explored, user))
        section = page.partition(f'id="user-{user}"')[2].partition("</section>")[0].partition("ours")[2]
        shown = re.findall(r'data-item="([^"]*)" data-score="([^"]*)"', section)
        assert [item for item, _ in shown] == [str(item) for item in answer.item_ids]
        assert [float(score) for _, score in shown] == pytest.approx(answer.scores)


def test_the_model_card_says_what_the_recipe_says_and_what_was_measured(run_dir: Path) -> None:
    run = Run.open(run_dir, STAGES)
    own_card = Card(licence="CC-BY-4.0", data_licence="<b>ours</b>", limits=("not for children",))
    page = render(run.with_recipe(msgspec.structs.replace(run.recipe, card=own_card), STAGES))
    card = unescape(page.partition('class="modelcard"')[2].partition("</table>")[0])
    metrics = json.loads(run.metrics.read_bytes())
    for text in ("CC-BY-4.0", "not for children", metrics["protocol"], f"{metrics['unseen']['recall@10']:.4f}"):
        assert text in card
    assert "<b>ours" not in page
    assert card.count(NOT_STATED) == 2


def test_a_title_with_markup_is_shown_not_run(tmp_path: Path, run_dir: Path) -> None:
    evil = "</script><script>alert(1)</script><!--"
    run = Path(shutil.copytree(run_dir, tmp_path / "run"))
    catalogue = run / "features" / "catalogue.parquet"
    pd.read_parquet(catalogue).assign(title=evil, year=None).to_parquet(catalogue)
    opened = Run.open(run, STAGES)
    opened.execute(STAGES[-1], tmp_path, str)
    page = render(opened)
    assert Tags(page).scripts == ["application/json", None]
    assert unescape(page).count(evil) > 20


def test_a_damaged_release_is_named_and_the_old_report_kept(run_dir: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(run_dir, tmp_path / "run"))
    vectors = run / "release" / "items" / "vectors.npy"
    vectors.write_bytes(vectors.read_bytes()[:-8])
    before = (run / "report.html").read_bytes()
    with pytest.raises(InvalidRelease, match=r"items/vectors\.npy"):
        write_report(Run.open(run, STAGES))
    assert (run / "report.html").read_bytes() == before


def test_an_item_is_told_whatever_its_cells_hold() -> None:
    rows = {"title": ["A", None, "C"], "year": [1999.0, np.nan, np.nan], "genres": ["Drama", None, ["War", "Drama"]]}
    catalogue = Catalogue(pd.DataFrame({"item_id": [1, 2, 3], **rows}))
    told = [(item.title, item.genres) for item in map(catalogue.item, (1, 2, 3, 4))]
    assert told == [("A (1999)", "Drama"), ("2", ""), ("C", "War, Drama"), ("4", "")]


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
    expected = {SERVED: metrics["unseen"], "popularity": metrics["popularity"]["unseen"]}
    expected |= {model["name"]: model["unseen"] for model in metrics["comparison"]["models"][2:] if "unseen" in model}
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


def _amid_the_test_rows(explored: Explored, user: Any) -> Query:
    seconds = sorted(explored.test["timestamp"][explored.test["user_id"] == user])
    return Query([user], 10, timestamps=[seconds[(len(seconds) - 1) // 2]] if explored.dated else None)
