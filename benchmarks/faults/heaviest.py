"""The heaviest permitted requests, below `retrieval serve`: load, and no fault. Nothing may be killed for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from itertools import cycle
from typing import Any

from tritonclient.utils import np_to_triton_dtype

from benchmarks.faults.load import REFUSED, ClientLoad, Load, Question, listed, percentile_ms
from benchmarks.faults.questions import Subject, malformed
from benchmarks.faults.server import serving
from benchmarks.faults.work import ITEMS, Work
from benchmarks.serving.worst_release import make_release
from benchmarks.serving.worst_requests import ROWS, Kinds
from ensemble.client.retry import as_input
from ensemble.supervision.events import kept

IN_FLIGHT = 16
NEIGHBOURS = 2
NEIGHBOUR_P99_MS = 2000.0
HEAVY = (
    *("plain", "allowed ids", "denied ids", "excluded ids", "crowding"),
    *("tag repeated, any", "tag repeated, all"),
)
"""Kinds of requests, each with as many answers as may be."""
_REPAIRS = ("process_killed", "process_died", "model_reloaded", "restarting", "canary_failed")


def worst_requests(work: Work) -> dict[str, Any]:
    """Send the worst permitted requests for a minute, with small ones beside them, and follow the supervisor."""
    place, seconds = work.made_up(), work.times(60, 10)
    made = make_release(place, ITEMS)
    with serving(place / "triton") as server:
        subject = Subject.of(server.address, made.path)
        questions = list(_worst(Kinds(made)))
        before = {process.pid for process in server.stubs()}
        with (
            Load(server.address, cycle(questions), IN_FLIGHT) as load,
            ClientLoad(server.address, cycle(subject.queries(200)), NEIGHBOURS) as neighbours,
        ):
            for seconds_left in range(int(seconds), 0, -10):
                work.say(
                    f"{seconds_left} s to go: {load.seen.counts.answered} answered, {load.seen.counts.refused} refused"
                )
                threading.Event().wait(min(10.0, seconds_left))
            asked_until = time.monotonic()
        states = kept(place / "triton").items()
        (events,) = (state["counts"] for port, state in states if server.address.endswith(f":{port}"))
        after = {process.pid for process in server.stubs()}
    p99 = percentile_ms(neighbours.seen.latency_s, 99)
    invalid = [
        request for request in load.seen.ended if request.outcome == REFUSED and request.status == "INVALID_ARGUMENT"
    ]
    return {
        "requests": load.seen.counts,
        "rows_of_a_request": ROWS,
        "in_flight": IN_FLIGHT,
        "worst_p50_ms": percentile_ms(load.seen.latency_s, 50),
        "worst_max_ms": percentile_ms(load.seen.latency_s, 100),
        "over_the_budget": len(invalid),
        "answered_to_the_last_s": round(asked_until - max(load.seen.answered_at, default=0.0), 1),
        "neighbours": neighbours.seen.counts,
        "neighbours_p50_ms": percentile_ms(neighbours.seen.latency_s, 50),
        "neighbours_p99_ms": p99,
        "neighbours_max_ms": percentile_ms(neighbours.seen.latency_s, 100),
        "neighbours_errors": listed(neighbours.seen.ended, 5),
        "errors": listed(load.seen.ended, 5),
        "events": events,
        "processes_changed": len(before ^ after),
        "holds": before == after
        and not any(repair in events for repair in _REPAIRS)
        and not load.seen.counts.lost
        and p99 is not None
        and p99 <= NEIGHBOUR_P99_MS
        and not neighbours.seen.counts.lost,
    }


def _worst(kinds: Kinds) -> Iterator[Question]:
    """Yield a full request of each heavy kind; one above the budget is to be refused, and that is right, too."""
    asked = kinds.all()
    for name in HEAVY:
        inputs = {**asked[name](ROWS), **kinds.k(ROWS)}
        tensors = [as_input(name, np_to_triton_dtype(array.dtype), array) for name, array in inputs.items()]
        yield Question("retrieval", tensors, "", wrong=malformed, about=name)
