"""Users whom the release does not know, and clicks that it does not know either: on items that came after it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ensemble.catalogue.publish import publish, writing
from ensemble.serving.files.release import Release
from ensemble.serving.retriever import Answer, Retriever
from tests.livecatalogue import Items, make_live_run, new_id, write_items
from tests.synthetic import make_release

NOW = 1_000


@pytest.fixture(scope="module", params=["int64", "string"])
def items(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Items:
    """A run whose query tower takes a history of five, and its release."""
    items = make_live_run(tmp_path_factory.mktemp("newcomers"), request.param, last=5)
    make_release(items.run)
    return items


def wire(values: list[Any]) -> np.ndarray:
    """Return one row as the wire has it."""
    encoded = [value.encode() if isinstance(value, str) else value for value in values]
    return np.array([encoded], dtype=object if any(isinstance(value, str) for value in values) else np.int64)


def ask(items: Items, retriever: Retriever, clicks: list[tuple[Any, int]], age: float = 30.0) -> Answer:
    """Ask for everything that there is for a user whom nobody knows."""
    is_text = items.run.users["user_id"].dtype == object
    sent = {
        "user_id": wire(["nobody" if is_text else -1]),
        "age": np.array([[age]]),
        "timestamp": np.array([[NOW]]),
        "top_k": np.array([[400]], dtype=np.int32),
        "history_item_ids": wire([item for item, _ in clicks]) if clicks else np.zeros((1, 0), dtype=np.int64),
        "history_timestamps": np.array([[when for _, when in clicks]], dtype=np.int64).reshape(1, len(clicks)),
    }
    return retriever.answer(retriever.reader.read([sent]))


def by_hand(items: Items, codes: list[int], ages: list[int]) -> np.ndarray:
    """Return the vector of an unknown user of 30 with a history, by NumPy alone."""
    weights = items.run.weights
    history = np.zeros((1, 5), dtype=np.int64), np.zeros((1, 5))
    history[0][0, : len(codes)], history[1][0, : len(ages)] = codes, ages
    parts = [weights["user"][[2]], weights["occupation"][[1]], [[-1.0]], items.run.pooled(*history)]
    hidden = np.concatenate(parts, axis=1) @ weights["out"].astype(np.float64)
    return (hidden / np.linalg.norm(hidden)).astype(np.float32)[0]


def test_a_new_user_with_three_clicks_gets_an_answer_of_their_own(items: Items) -> None:
    retriever, ids = Retriever.load(items.run.path / "release"), items.run.items["item_id"].tolist()
    nobody = ask(items, retriever, []).item_id[0].tolist()
    for three in ([3, 150, 80], [200, 12, 99]):
        answer = ask(items, retriever, [(ids[row], NOW - 10 * place) for place, row in enumerate(three)])
        scores = items.run.vectors @ by_hand(items, [row + 3 for row in three], [0, 10, 20])
        expected = [row for row in np.argsort(-scores, kind="stable").tolist() if row not in three]
        assert not answer.user_known[0]
        assert answer.item_id[0, :297].tolist() == [ids[row] for row in expected]
        assert answer.item_id[0, :10].tolist() != nobody[:10]


def test_a_click_on_an_item_that_came_later_counts_as_unseen_and_is_not_recommended(
    items: Items, tmp_path: Path
) -> None:
    release, ids = Release.open(items.run.path / "release"), items.run.items["item_id"].tolist()
    new = [new_id(ids[0], number) for number in range(2)]
    rows = [{"item_id": item, "title": "new", "genres": [], "weight": 0.5} for item in new]
    (tmp_path / "delta").mkdir()
    with writing(release, tmp_path / "delta") as live:
        publish(live, live.adding(write_items(tmp_path / "new.jsonl", rows)))
        publish(live, live.removing([str(ids[7])]))
    served = Retriever.load(release.path, tmp_path / "delta")
    answer = ask(items, served, [(new[0], NOW - 1), (ids[7], NOW - 2), (ids[8], NOW - 3)])
    answered = answer.item_id[0, : answer.count[0]].tolist()
    assert len(answered) == len(set(answered)) == 302 - 3  # the removed one and both clicks that still live
    assert {new[0], ids[7], ids[8]} & set(answered) == set()
    # The tower has a vector of what was removed, and none of what came later: that is its unknown item.
    vector = by_hand(items, [2, 7 + 3, 8 + 3], [1, 2, 3])
    state = {**items.rows(), **{row["item_id"]: row for row in rows}}
    scores = dict(zip(state, items.vectors(state) @ vector, strict=True))
    np.testing.assert_allclose(answer.score[0, : answer.count[0]], [scores[item] for item in answered], atol=1e-5)
