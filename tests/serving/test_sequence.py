"""The sequence step of a compiled transform, and the client's side of it; tests/congruence has what it makes."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from ensemble.client.tensors import NOW, InvalidRequest, Query, Signature, tensors
from ensemble.serving.errors import InvalidRelease
from ensemble.serving.query.transform import QueryTransform

WIDE = {"list": True, "max_length": 3}
DOCUMENT: dict[str, Any] = {
    "format": 1,
    "inputs": [{"name": "timestamp", "dtype": "int64", "list": False}],
    "steps": [{"op": "sequence", "input": "timestamp", "output": "history", "max_length": 3}],
    "outputs": [
        {"name": "history", "dtype": "int64", **WIDE},
        {"name": "history_age", "dtype": "float32", **WIDE},
    ],
}
INPUTS = {"user_id": "INT64", "history_item_ids": "BYTES", "history_timestamps": "INT64", "timestamp": "INT64"}
DATED, PLAIN = Signature("m", 4, INPUTS), Signature("m", 4, {"user_id": "INT64"})


@pytest.mark.parametrize(
    ("section", "row", "change"),
    [
        ("steps", 0, {"max_length": 4}),
        ("steps", 0, {"input": "age"}),
        ("steps", 0, {"op": "eval"}),
        ("steps", 0, {"module": "os"}),
        ("inputs", 0, {"dtype": "float64"}),
        ("inputs", 0, {"name": "time"}),
        ("outputs", 0, {"dtype": "float32"}),
        ("outputs", 1, {"max_length": 4}),
        ("outputs", 1, {"name": "age"}),
    ],
)
def test_a_sequence_that_is_not_as_declared_is_refused(
    section: str, row: int, change: dict[str, Any], tmp_path: Path
) -> None:
    place = tmp_path / "transform.json"
    place.write_text(json.dumps(DOCUMENT))
    sequence = QueryTransform.load(tmp_path).sequence
    assert sequence is not None
    assert sequence.last == 3
    document = copy.deepcopy(DOCUMENT)
    document[section][row].update(change)
    place.write_text(json.dumps(document))
    with pytest.raises(InvalidRelease, match=r"transform\.json"):
        QueryTransform.load(tmp_path)


def test_the_client_always_sends_time_and_history_and_pads_them() -> None:
    assert {name: array.tolist() for name, array in tensors(DATED, Query([1])).items()} == {
        "user_id": [[1]],
        "timestamp": [[NOW]],
        "history_item_ids": [[]],
        "history_timestamps": [[]],
    }
    sent = tensors(DATED, Query([1, 2], timestamps=[9, 8], history=[[("a", 3), ("b", 4)], []]))
    assert sent["timestamp"].tolist() == [[9], [8]]
    assert sent["history_item_ids"].tolist() == [["a", "b"], ["", ""]]
    assert sent["history_timestamps"].tolist() == [[3, 4], [0, 0]]


def test_a_model_without_history_is_told_no_time_and_takes_no_clicks() -> None:
    assert tensors(PLAIN, Query([1], timestamps=[9])).keys() == {"user_id"}
    with pytest.raises(InvalidRequest, match="trained without one"):
        tensors(PLAIN, Query([1], history=[[(5, 3)]]))


@pytest.mark.parametrize("history", [[[("a", 3)]], [["a"], []], [[("a", 3.5)], []], [[(7, 3)], []], ["ab", []], []])
def test_clicks_of_another_form_are_refused(history: Any) -> None:
    with pytest.raises(InvalidRequest, match="history"):
        tensors(DATED, Query([1, 2], history=history))
