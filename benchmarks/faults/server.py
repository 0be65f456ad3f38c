"""Faults of a running `retrieval serve`: its python stub killed, and a stop, both under load."""

from __future__ import annotations

import compileall
import re
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from benchmarks.faults.load import (
    LOST,
    REFUSED,
    ClientLoad,
    Counts,
    Ended,
    Load,
    listed,
    percentile_ms,
    rate_over,
    until,
)
from benchmarks.faults.questions import Subject, right_questions
from benchmarks.faults.work import Work
from ensemble.release.sign import new_keys, sign
from ensemble.server.ports import free_ports
from ensemble.triton.export import export_repository

IN_FLIGHT = 16
QUESTIONS = 200
BACK_S = 5.0
"""Capacity has to be back after so long."""
_GIVEN_UP_S = 30.0
_WINDOW_S = 0.25
_START_S = 120.0


@dataclass
class Serving:
    """A running `retrieval serve`."""

    process: subprocess.Popen[str]
    address: str
    log: list[str] = field(default_factory=list)

    def stubs(self) -> list[psutil.Process]:
        """Return the python stubs that run."""
        below = psutil.Process(self.process.pid).children(recursive=True)
        return [process for process in below if "stub" in process.name() and process.status() != psutil.STATUS_ZOMBIE]

    def triton(self) -> list[psutil.Process]:
        """Return tritonserver, in a list; an empty one while there is none."""
        return [process for process in psutil.Process(self.process.pid).children() if "tritonserver" in process.name()]


@contextmanager
def serving(source: Path, *options: object) -> Iterator[Serving]:
    """Run `retrieval serve SOURCE` as a user does, on free ports; stop it after the block."""
    grpc_port, metrics_port = free_ports("127.0.0.1", 2)
    ports = ["--grpc-port", grpc_port, "--metrics-port", metrics_port]
    command = [*map(str, [sys.executable, "-m", "retrieval", "serve", source, *ports, *options])]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        started = Serving(process, f"127.0.0.1:{grpc_port}")
        reader = threading.Thread(target=_follow, args=(process, started.log), daemon=True)
        reader.start()
        try:
            if not until(lambda: any(line.startswith("ready:") for line in started.log), _START_S):
                raise RuntimeError(f"`retrieval serve` did not get ready: {started.log[-5:]}")
            yield started
        finally:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
            reader.join(10)


def _without_address(ended: Ended) -> Ended:
    """Return it without the port, which would make each message another one."""
    return ended._replace(message=re.sub(r"127\.0\.0\.1:\d+", "it", ended.message))


def _follow(process: subprocess.Popen[str], log: list[str]) -> None:
    assert process.stdout is not None
    log.extend(iter(process.stdout.readline, ""))


def kill_stub(work: Work) -> dict[str, Any]:
    """Kill the python stub under load and follow how the capacity comes back."""
    run, times = work.runs.first(), work.times(20, 2)
    with serving(run) as server:
        subject = Subject.of(server.address, run / "release")
        questions = right_questions(server.address, subject, QUESTIONS)
        queries = cycle(subject.queries(QUESTIONS))
        with (
            Load(server.address, cycle(questions), IN_FLIGHT) as load,
            ClientLoad(server.address, queries, 2) as users,
        ):
            kills = list[Kill]()
            for number in range(times):
                kills.append(_one_kill(load, server.stubs))
                work.say(f"stub killed {number + 1}/{times}: back after {kills[-1].back_s} s")
                if kills[-1].back is None:
                    break
        back = [kill.back_s for kill in kills if kill.back_s is not None]
        per_kill = _figures(kills, load.seen.ended)
        return {
            "requests": load.seen.counts,
            "calls_of_our_client": users.seen.counts,
            "kills": len(kills),
            "back_s_median": round(statistics.median(back), 2) if back else None,
            "back_s_max": max(back, default=None),
            "failed_in_the_stub": sum(figures["in_it"] for figures in per_kill),
            "failed_while_dead": sum(figures["while_dead"] for figures in per_kill),
            "failed_after_it_was_back": sum(figures["after_it_was_back"] for figures in per_kill),
            "statuses": dict(load.seen.statuses),
            "errors": listed(map(_without_address, load.seen.ended), 5),
            "client_errors": listed(map(_without_address, users.seen.ended), 5),
            "each": per_kill,
            "holds": len(back) == times
            and max(back) <= BACK_S
            and not load.seen.counts.lost
            and users.seen.counts.answered == users.seen.counts.sent
            and not any(figures["after_it_was_back"] for figures in per_kill),
        }


class Kill(NamedTuple):
    """When a stub was killed and when the capacity was back (`time.monotonic`), None if it did not come."""

    killed: float
    back: float | None

    @property
    def back_s(self) -> float | None:
        """Return how long it took."""
        return None if self.back is None else round(self.back - self.killed, 2)


def verify_kills(work: Work) -> dict[str, Any]:
    """Kill Triton and the stub of a server that verifies in turns under load.

    The run was served before by a server that does not verify, and its code was imported by another Python.
    """
    run, scratch, times = work.runs.first(), work.scratch, work.times(20, 2)
    new_keys(scratch / "key.pem", scratch / "key.pub.pem")
    shutil.copytree(run / "release", scratch / "release")
    sign(scratch / "release", scratch / "key.pem")
    export_repository(scratch / "release", scratch / "triton")
    with serving(scratch / "triton"):
        compileall.compile_dir(scratch / "triton", quiet=2)
    with serving(scratch / "triton", "--verify", scratch / "key.pub.pem") as server:
        subject = Subject.of(server.address, scratch / "release")
        questions = right_questions(server.address, subject, QUESTIONS)
        kills: dict[str, list[Kill]] = {"triton": [], "stub": []}
        with Load(server.address, cycle(questions), IN_FLIGHT) as load:
            for number in range(times):
                what, victims = (("triton", server.triton), ("stub", server.stubs))[number % 2]
                kills[what].append(_one_kill(load, victims))
                work.say(f"{what} killed {number + 1}/{times}: back after {kills[what][-1].back_s} s")
        events = Counter(re.findall(r'"event": ?"(\w+)"', "".join(server.log)))
    back = {what: [kill.back_s for kill in ones if kill.back_s is not None] for what, ones in kills.items()}
    bytecode = sorted(str(path.relative_to(scratch)) for path in scratch.rglob("__pycache__"))
    return {
        "requests": load.seen.counts,
        "kills": times,
        **{f"back_s_median_{what}": round(statistics.median(ones), 2) if ones else None for what, ones in back.items()},
        **{f"back_s_max_{what}": max(ones, default=None) for what, ones in back.items()},
        "verification_failed": events["verification_failed"],
        "events": dict(events),
        "written_into_what_is_served": bytecode,
        "statuses": dict(load.seen.statuses),
        "errors": listed(map(_without_address, load.seen.ended), 5),
        "holds": sum(map(len, back.values())) == times
        and not load.seen.counts.lost
        and not bytecode
        and not events["verification_failed"],
    }


def _one_kill(load: Load, victims: Callable[[], list[psutil.Process]]) -> Kill:
    """Kill the `victims` once and wait until the capacity is back."""
    time.sleep(3.0)  # a rate to compare with, and time enough for the repair before to hold
    now = time.monotonic()
    before = rate_over(load.seen.answered_at, now - 1.5, now)
    for victim in victims():
        victim.kill()
    killed = time.monotonic()

    def back() -> bool:
        now = time.monotonic()
        return now - killed > 2 * _WINDOW_S and rate_over(load.seen.answered_at, now - _WINDOW_S, now) > 0.5 * before

    is_back = until(back, _GIVEN_UP_S)
    return Kill(killed, time.monotonic() - _WINDOW_S if is_back else None)


def _figures(kills: list[Kill], ended: list[Ended]) -> list[dict[str, Any]]:
    """Return for each death what failed: in the process, while it was dead (Triton goes on giving it requests), after.

    A request belongs to the last death before it ended.
    """
    figures = []
    for number, kill in enumerate(kills):
        until_ = kills[number + 1].killed if number + 1 < len(kills) else float("inf")
        failed = [request.sent_at for request in ended if kill.killed <= request.ended_at < until_]
        inside = sum(sent <= kill.killed for sent in failed)
        after = sum(sent > (kill.back or float("inf")) for sent in failed)
        facts = {"in_it": inside, "while_dead": len(failed) - inside - after, "after_it_was_back": after}
        figures.append({"back_s": kill.back_s, **facts})
    return figures


def stop_under_load(work: Work) -> dict[str, Any]:
    """Stop `retrieval serve` with SIGTERM under load; what was sent before the signal is answered.

    What was sent at the very moment of the signal may reach Triton after it: then it has to be refused, not lost.
    """
    run, times = work.made_up() if work.options.quick else work.runs.first(), work.times(10, 1)
    total, cut, after, statuses, seconds = Counts(), list[Ended](), list[Ended](), set[int | None](), []
    latency: list[float] = []
    for number in range(times):
        with serving(run / "triton") as server:
            subject = Subject.of(server.address, run / "release")
            questions = right_questions(server.address, subject, QUESTIONS)
            with Load(server.address, cycle(questions), IN_FLIGHT) as load:
                time.sleep(1.0)
                signalled = time.monotonic()
                server.process.send_signal(signal.SIGTERM)
                server.process.wait(60)
                seconds.append(round(time.monotonic() - signalled, 2))
                statuses.add(server.process.returncode)
        inside = [request for request in load.seen.ended if request.sent_at <= signalled]
        cut += inside
        after += [request for request in load.seen.ended if request.sent_at > signalled]
        latency.append(percentile_ms(load.seen.latency_s, 100) or 0.0)
        total += load.seen.counts
        work.say(
            f"stopped {number + 1}/{times}: {len(inside)} of those in flight not answered, ended after {seconds[-1]} s"
        )
    return {
        "requests": total,
        "stops": times,
        "in_flight": IN_FLIGHT,
        "in_flight_refused": sum(request.outcome == REFUSED for request in cut),
        "in_flight_lost": sum(request.outcome == LOST for request in cut),
        "refused_after_the_signal": len(after),
        "errors": listed(cut, 5),
        "refusals": listed(map(_without_address, (request for request in after if request.outcome == REFUSED)), 3),
        "losses": listed(map(_without_address, (request for request in after if request.outcome == LOST)), 5),
        "exit_statuses": sorted(map(str, statuses)),
        "seconds_to_end_max": max(seconds),
        "slowest_answer_ms": max(latency),
        "holds": not total.lost and statuses == {0},
    }
