"""The rows that may wait for a model: counted from what Triton tells, which is requests."""

from __future__ import annotations

import pytest

from ensemble.serving.triton.backlog import Line, Reading, reading

LIMIT, FULL = 1024, 256


def line_with(waiting: int, limit: int = LIMIT) -> Line:
    """Return a line in which so many requests wait."""
    line = Line(limit)
    line.read(Reading(0, waiting), line.mark())
    return line


def outcomes(line: Line, requests: list[int], row_seconds: float = 0.0) -> list[bool]:
    """Hand over requests of so many rows, one at a time, and take so long for a row; return which are refused."""
    refused = []
    for rows in requests:
        refused += line.begin([rows])
        line.end(1, rows * row_seconds)
    return refused


@pytest.mark.parametrize("rows", [1, 64, FULL])
def test_as_many_rows_are_answered_as_may_wait_however_they_come(rows: int) -> None:
    refused = outcomes(line_with(2000), [rows] * 2000)
    assert refused.index(True) * rows == LIMIT
    assert all(refused[refused.index(True) :])


def test_what_came_later_did_not_wait_for_what_was_done_before() -> None:
    line = line_with(8)
    assert outcomes(line, [FULL] * 8) == [False] * 4 + [True] * 4
    line.read(Reading(8, 8), line.mark())
    assert outcomes(line, [FULL] * 8) == [False] * 4 + [True] * 4
    assert outcomes(line, [FULL] * 8) == [False] * 8, "of these nobody knows that they waited"


def test_what_comes_while_a_batch_is_at_work_does_not_wait_for_all_of_it() -> None:
    line = line_with(0)
    line.begin([FULL])
    line.read(Reading(0, 5), line.mark())
    line.end(1, 0.4)
    assert outcomes(line, [FULL] * 5, 0.0015) == [False, False, True, True, True]


def test_what_clients_gave_up_is_not_taken_for_what_still_waits() -> None:
    line = line_with(500)
    assert outcomes(line, [1] * 10) == [False] * 10
    line.read(Reading(10, 0), line.mark())
    assert outcomes(line, [FULL] * 20) == [False] * 20


def test_slow_rows_count_for_the_time_they_take_and_a_small_request_finds_its_place() -> None:
    assert outcomes(line_with(8), [FULL] * 6 + [1, 1], 0.0015) == [False, False, True, True, True, True, False, False]


def test_whatever_it_costs_a_request_that_did_not_wait_is_answered() -> None:
    line = line_with(3)
    assert outcomes(line, [FULL] * 3, 0.02) == [False, True, True]
    line.read(Reading(3, 2), line.mark())
    assert outcomes(line, [FULL] * 2, 0.02) == [False, True]


def test_the_requests_of_other_processes_and_versions_are_told_apart() -> None:
    """Two processes: one answered 6 of the 10 that came; none of the others waited for what this one does."""
    line = line_with(10)
    assert outcomes(line, [FULL] * 4) == [False] * 4
    line.read(Reading(10, 4), line.mark())
    assert outcomes(line, [FULL] * 4) == [False] * 4
    text = """
nv_inference_request_success{model="retrieval",version="1"} 7
nv_inference_request_success{model="retrieval",version="2"} 100
nv_inference_request_failure{model="retrieval",reason="CANCELED",version="1"} 2
nv_inference_request_failure{model="retrieval",reason="REJECTED",version="1"} 1000
nv_inference_pending_request_count{model="retrieval",version="1"} 3
nv_inference_pending_request_count{model="retrieval_search",version="1"} 30
"""
    assert reading(text, ('model="retrieval"', 'version="1"')) == Reading(9, 3)
    with pytest.raises(ValueError, match="none of this model"):
        reading(text, ('model="retrieval"', 'version="3"'))
