"""Processes at work, idle, stopped and past their time are told apart by what each says of itself."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import psutil
import pytest

from ensemble.serving.triton.pulse import Pulse, PulseReader
from ensemble.supervision.hangs import Hangs, Limits
from ensemble.supervision.model_processes import Stub
from tests.waiting import until

BODY = """
import sys
from ensemble.serving.triton.pulse import Pulse
pulse = Pulse(float(sys.argv[2]))
if int(sys.argv[1]) >= 0:
    pulse.begin([int(sys.argv[1])], 256)
print(flush=True)
while sys.argv[3:]:
    pulse.begin([7], 256)
    pulse.end()
sys.stdin.read()
"""
Start = Callable[..., Stub]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start processes that say that they are at work on so many rows; -1: on none."""
    with ExitStack() as stack:

        def begun(rows: int, permitted_seconds: float = 1.0, *more: str) -> Stub:
            command = [sys.executable, "-c", BODY, str(rows), str(permitted_seconds), *more]
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            stack.callback(process.communicate)
            stack.callback(process.kill)
            assert process.stdout is not None
            process.stdout.readline()
            return Stub(psutil.Process(process.pid), "retrieval", "1")

        yield begun


def test_a_request_waits_for_work_but_not_for_an_idle_process(start: Start) -> None:
    idle, busy = start(-1), start(256)
    hangs, now = Hangs(), time.monotonic()
    assert hangs.at_work([[busy]], now)
    assert hangs.at_work([[idle, busy]], now)
    assert not hangs.at_work([[idle]], now), "it could have answered"
    assert hangs.at_work([[idle]], now - 600), "it has answered others since"
    assert hangs.at_work([[busy], [idle]], now), "the step before has not come to it yet"
    assert hangs.at_work([[idle], [busy]], now - 600)
    assert not hangs.at_work([[idle], [busy]], now)
    assert not hangs.found([idle, busy])


def test_what_is_read_while_it_is_written_is_what_was_said(start: Start) -> None:
    """A state half written was once read as work on 0 rows since the machine was started, and the process killed."""
    began, reader = time.monotonic(), PulseReader(start(-1, 1.0, "writing").process.pid)
    beats = {reader.beat() for _ in range(200_000)}
    assert len(beats) > 1
    assert {beat.rows for beat in beats} <= {None, 7}
    assert all(began - 0.001 <= beat.since <= time.monotonic() for beat in beats)
    assert {beat.permitted_seconds for beat in beats} == {1.0}


def test_a_process_past_the_time_that_a_batch_may_take_hangs(start: Start) -> None:
    late, patient, idle = start(64, 0.0), start(64, 1000.0), start(-1, 0.0)
    hangs = Hangs(Limits(batch_seconds=0.0))
    (hang,) = hangs.found([late, patient, idle])
    assert hang[0] == late
    assert "at work on a batch of 64 rows" in hang[1]
    assert not hangs.at_work([[late]], time.monotonic())


@pytest.mark.parametrize("rows", [-1, 256])
def test_a_stopped_process_hangs_whatever_it_was_doing(start: Start, rows: int) -> None:
    stub = start(rows)
    hangs = Hangs(Limits(stopped_seconds=0.0))
    assert not hangs.found([stub])
    stub.process.suspend()
    assert until(lambda: hangs.found([stub]))[0][1].startswith("stopped for")


def test_a_canary_after_large_requests_does_not_make_them_look_small() -> None:
    """Whether a server is restarted goes by how many batches wait, and a canary has one row."""
    pulse = Pulse(1.0)
    for rows in ([64], [1], [1]):
        pulse.begin(rows, 256)
    assert PulseReader(os.getpid()).beat().per_batch < 20


def test_of_a_process_that_says_nothing_nothing_is_known() -> None:
    hangs, own = Hangs(), Stub(psutil.Process(), "retrieval", "1")
    assert not hangs.found([own])
    assert not hangs.at_work([[own]], 0.0)
