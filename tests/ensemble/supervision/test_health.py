"""What health, repairs and metrics are made of, without a server; tests/server/test_supervision.py has the server."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from ensemble.measure.prometheus import parse
from ensemble.server.triton_log import as_json
from ensemble.serving.triton.canary import Answer, Trouble, check
from ensemble.serving.triton.metrics import RequestLog, Tally
from ensemble.supervision.repair import Pace

SCORES = [0.9, 0.5, 0.5, 0.1]
ITEMS = [7, 3, 5, 9]


class Asked:
    """A server that answers as it is told to."""

    def __init__(self, *answers: Answer | Trouble, releases: Sequence[str] = ("r1",), progress: int = 0) -> None:
        self._answers, self._releases, self._progress = list(answers), list(releases), progress
        self._count = 0

    def config(self, model: str) -> Mapping[str, Any]:
        if model != "retrieval":
            raise Trouble("unreachable", "no such model")
        release = self._releases.pop(0) if len(self._releases) > 1 else self._releases[0]
        canary = {"inputs": [], "items": ITEMS, "scores": SCORES}
        return {"parameters": {"canary": {"string_value": json.dumps(canary)}, "release": {"string_value": release}}}

    def infer(self, model: str, inputs: Sequence[Mapping[str, Any]]) -> Answer:
        answer = self._answers.pop(0)
        if isinstance(answer, Trouble):
            raise answer
        return answer

    def answered(self, model: str) -> int:
        self._count += self._progress
        return self._count


def answer(items: Sequence[Any] = ITEMS, scores: Sequence[float] = SCORES, release: str = "r1") -> Answer:
    """Return the known answer, or another."""
    return Answer(items, scores, len(items), release, "1")


@pytest.mark.parametrize(
    "reply",
    [
        answer(),
        answer(scores=[0.90005, 0.5, 0.5, 0.1]),
        answer(items=[7, 5, 3, 9]),  # equal scores
        answer(items=[7, 3, 5, 11]),  # one as good may wait after the last
        answer(items=[1, 2], scores=[0.3, 0.2], release="r1+4"),  # the catalogue has changed
    ],
)
def test_an_answer_that_is_as_good_is_healthy(reply: Answer) -> None:
    assert check(Asked(reply)).healthy


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (answer(scores=[0.91, 0.5, 0.5, 0.1]), "score 0.91 in place 0, expected 0.9"),
        (answer(items=[8, 3, 5, 9]), "item 8 in place 0, expected 7"),
        (answer(items=[7, 3, 5], scores=[0.9, 0.5, 0.5]), "3 items, expected 4"),
        (answer(items=[7, 7, 5, 9]), "twice"),
        (answer(scores=[0.9, float("nan"), 0.5, 0.1]), "finite"),
        (answer(items=[1, 2], scores=[0.2, 0.3], release="r1+4"), "best first"),
    ],
)
def test_a_wrong_answer_is_told(reply: Answer, why: str) -> None:
    result = check(Asked(reply))
    assert result.state == "wrong"
    assert why in result.reason


def test_a_release_that_goes_live_between_the_two_questions_is_no_failure() -> None:
    assert check(Asked(answer(release="r2"), answer(release="r2"), releases=("r1", "r2"))).healthy


@pytest.mark.parametrize(("progress", "state", "alive"), [(0, "late", False), (3, "busy", True)])
def test_late_is_a_failure_only_where_nobody_is_answered(progress: int, state: str, alive: bool) -> None:
    result = check(Asked(Trouble("late", "Deadline Exceeded"), progress=progress))
    assert (result.state, result.alive, result.healthy) == (state, alive, False)


def test_repairs_that_do_not_hold_slow_down_and_those_that_hold_do_not() -> None:
    time = 0.0
    pace = Pace(lambda: time)
    pauses = []
    for _ in range(9):
        pauses.append(pace.pause())
        pace.repaired()
    assert pauses == [0, 0.5, 1, 2, 4, 8, 16, 30, 30]
    time += 3
    assert pace.pause() == 0


def test_log_lines_about_requests_are_limited_and_their_number_is_told() -> None:
    time = 0.0
    log = RequestLog("m", lambda: time)
    lines = [log.line("refused", f"id{number}") for number in range(100)]
    written = [json.loads(line) for line in lines if line is not None]
    assert [entry["request_id"] for entry in written] == [f"id{number}" for number in range(20)]
    time += 60
    assert json.loads(log.line("refused", "id100") or "")["suppressed"] == 80


def test_what_clients_send_names_no_metric() -> None:
    tally = Tally({"top_k", "user_id"})
    messages = ("column 'top_k', row 0: got 0", "column 'x{evil}', row 0", "row 3: the query has no finite vector")
    assert [tally.reason(message) for message in messages] == ["top_k", "query", "query"]


def test_a_line_of_triton_is_one_json_object_whatever_is_in_it() -> None:
    inner = json.dumps({"event": "refused", "request_id": 'a"\n\x1b[31m\u202e'})
    line = f"W1122 08:00:00.000000 12 model_base.py:99] {json.dumps(inner)}"
    converted = as_json(line)
    assert converted.isascii()
    assert "\n" not in converted
    assert {"level": "warning", "event": "refused", "request_id": 'a"\n\x1b[31m\u202e'}.items() <= json.loads(
        converted
    ).items()
    assert json.loads(as_json("Signal (15) received."))["message"] == "Signal (15) received."


def test_quantiles_of_a_histogram_are_prometheus_s() -> None:
    lines = [
        f'h_bucket{{le="{bound}",m="x"}} {count}' for bound, count in (("1", 0), ("2", 50), ("4", 100), ("+Inf", 100))
    ]
    samples = parse("# HELP h\n" + "\n".join(lines) + "\n")
    assert samples.quantile("h", 0.25, m="x") == pytest.approx(1.5)
    assert samples.quantile("h", 0.75, m="x") == pytest.approx(3.0)
    assert samples.quantile("h", 0.5, m="y") is None
