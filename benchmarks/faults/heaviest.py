"""The heaviest permitted requests, below `retrieval serve`: load, and no fault. Nothing may be killed for it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.faults.load import REFUSED, ClientLoad, Load, Question, listed, percentile_ms
from benchmarks.faults.questions import Subject, drawn, malformed
from benchmarks.faults.server import serving
from benchmarks.faults.work import Work
from ensemble.client.tensors import Query
from ensemble.serving.files.release import Release
from ensemble.serving.search.attributes import Tags, read_attributes
from ensemble.serving.search.filters import MAX_IDS, MAX_VALUES
from ensemble.supervision.events import kept

IN_FLIGHT = 16
NEIGHBOURS = 2
NEIGHBOUR_P99_MS = 2000.0
_REPAIRS = ("process_killed", "process_died", "model_reloaded", "restarting", "canary_failed")


def worst_requests(work: Work) -> dict[str, Any]:
    """Send the worst permitted requests for a minute, with small ones beside them, and follow the supervisor."""
    run, seconds = work.runs.first(), work.times(60, 10)
    with serving(run) as server:
        subject = Subject.of(server.address, run / "release")
        questions = list(_worst(subject, run / "release"))
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
        (state,) = (state_of for port, state_of in kept(run / "triton").items() if server.address.endswith(f":{port}"))
        events = state["counts"]
        after = {process.pid for process in server.stubs()}
    p99 = percentile_ms(neighbours.seen.latency_s, 99)
    invalid = [
        request for request in load.seen.ended if request.outcome == REFUSED and request.status == "INVALID_ARGUMENT"
    ]
    return {
        "requests": load.seen.counts,
        "rows_of_a_request": subject.limits["max_batch_size"],
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


def _worst(subject: Subject, release: Path) -> Iterator[Question]:
    """Yield a full request of each heavy kind; one above the budget is to be refused, and that is right, too."""
    random, rows = np.random.default_rng(0), subject.limits["max_batch_size"]
    ids = drawn(random, subject.items, MAX_IDS)
    excluded = ids[: subject.limits["max_exclude_item_ids"]]
    kinds: dict[str, dict[str, Any]] = {
        "the longest answers": {},
        "allowed ids": {"filters": [json.dumps({"allow": ids})] * rows},
        "denied ids": {"filters": [json.dumps({"deny": ids[row:]}) for row in range(rows)]},
        "excluded ids": {"exclude_item_ids": [excluded] * rows},
    }
    for name, attribute in read_attributes(Release.open(release), len(subject.items)).items():
        if not isinstance(attribute, Tags):
            continue
        crowding = {"attribute": name, "limit": 1}
        kinds[f"crowding of {name}"] = {"filters": [json.dumps({"crowding": crowding})] * rows}
        for test in ("any", "all"):
            filters = [
                {"tags": {name: {test: [drawn(random, attribute.values, 1)[0]] * MAX_VALUES}}} for _ in range(rows)
            ]
            kinds[f"{test} of {name}"] = {"filters": list(map(json.dumps, filters))}
    for about, options in kinds.items():
        query = Query(drawn(random, subject.users, rows), subject.limits["max_top_k"], **options)
        yield Question(subject.signature.model, subject.inputs(query), "", wrong=malformed, about=about)
