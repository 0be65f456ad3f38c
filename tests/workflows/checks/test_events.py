"""Kinds of events: made up with the structure that is promised, and checked against those that a recipe names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from workflows.checks.columns import event_findings
from workflows.config import Synthetic
from workflows.sources.synthetic import fetch
from workflows.tables.store import Tables, open_tables

SHARES = {"view": 0.8, "click": 0.1, "purchase": 0.1}
PLAIN = Synthetic(interactions=6000, users=300, items=200, clusters=10)
EVENTFUL = Synthetic(interactions=6000, users=300, items=200, clusters=10, events=SHARES)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("events")
    for name, config in (("plain", PLAIN), ("eventful", EVENTFUL)):
        fetch(config, directory, lambda line: None).save(directory / name)
    return directory


def test_purchases_are_of_the_user_s_cluster_and_suit_the_age_and_views_are_as_without_events(shop: Path) -> None:
    plain, eventful = Tables.load(shop / "plain"), Tables.load(shop / "eventful")
    rows = eventful.interactions.merge(eventful.users, on="user_id").merge(eventful.items, on="item_id")
    own = rows["city"].str[-3:].astype(int) % 10 == rows["topic"].str[-3:].astype(int)
    suits = (rows["price"] > eventful.items["price"].median()) == (rows["age"] >= 52)
    by_kind = pd.DataFrame({"own": own, "suits": suits}).groupby(rows["event"]).mean()
    assert by_kind["own"].to_dict() == {"view": pytest.approx(0.73, abs=0.05), "click": 1.0, "purchase": 1.0}
    assert by_kind["suits"].to_dict() == {
        "view": pytest.approx(0.5, abs=0.1),
        "click": pytest.approx(0.5, abs=0.1),
        "purchase": pytest.approx(1.0, abs=0.03),
    }
    shares = eventful.interactions["event"].value_counts(normalize=True)
    assert shares.to_dict() == pytest.approx(SHARES, abs=0.02)
    views = (eventful.interactions["event"] == "view").to_numpy()
    columns = [*plain.interactions.columns]
    pd.testing.assert_frame_equal(plain.interactions[views], eventful.interactions.loc[views, columns])


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        ([], []),
        ([*SHARES], []),
        (["view", "purchase"], [("error", 1, "click")]),
        ([*SHARES, "cart"], [("warning", 0, "'cart'")]),
    ],
)
def test_kinds_that_are_not_named_or_not_there_are_found(
    shop: Path, kinds: list[str], expected: list[tuple[str, int, str]]
) -> None:
    findings = [*event_findings(open_tables(shop / "eventful"), kinds)]
    clicks = int(np.sum(Tables.load(shop / "eventful").interactions["event"] == "click"))
    assert [(finding.severity, finding.rows) for finding in findings] == [
        (level, rows and clicks) for level, rows, _ in expected
    ]
    assert all(what in finding.message for finding, (_, _, what) in zip(findings, expected, strict=True))


def test_a_recipe_that_tells_events_apart_needs_the_column(shop: Path) -> None:
    (finding,) = event_findings(open_tables(shop / "plain"), ["view"])
    assert (finding.severity, finding.column) == ("error", "event")
