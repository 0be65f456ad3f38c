"""Faults that must not be seen by clients: releases swapped under load, a long time under load, fuzzed requests."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from itertools import cycle
from typing import Any

import numpy as np
import psutil
import tritonclient.grpc as grpc

from benchmarks.faults.fuzz import Fuzz
from benchmarks.faults.load import Counts, Load, Question, listed, percentile_ms
from benchmarks.faults.questions import Answer, Subject, known_answers, right_questions
from benchmarks.faults.work import Work
from benchmarks.harness import served
from ensemble.client.channels import channel_options
from ensemble.deploy.swap import deploy
from ensemble.layouts import CHAINED, FUSED
from ensemble.measure.counters import read_memory_mb
from ensemble.server.server import TritonServer
from ensemble.triton.model_control import ModelControl

IN_FLIGHT = 16
QUESTIONS = 200
CAPACITY_SHARE = 0.8
BAD_SHARE = 0.1
GROWTH_MB = 5.0
"""More than this between the second and the last quarter of a soak is growth; below it is noise of the allocators."""
PATIENCE = 6
"""A request whose strings are no strings fails those that Triton 2.51 hands to the model with it; they ask again."""
_SAMPLE_S = 2.0


def hot_swap(work: Work) -> dict[str, Any]:
    """Deploy two releases in turns under load on both layouts; every answer has to be that of the release it names."""
    from ensemble.triton.export import export_repository

    releases, times = [run / "release" for run in (work.runs.first(), work.runs.second())], work.times(20, 2)
    repository = export_repository(releases[0], work.scratch / "triton", "both")
    with served(repository) as server, ModelControl(server.addresses.grpc, repository) as control:
        address = server.addresses.grpc
        subject = Subject.of(address, releases[0])
        requests = [subject.inputs(query) for query in subject.queries(QUESTIONS)]
        known = [known_answers(address, FUSED, requests)]
        deploy(releases[1], repository, control)
        known.append(known_answers(address, FUSED, requests))
        judge = _Judge(known)
        questions = [
            Question(model, inputs, wrong=judge.of(number), about=model)
            for number, inputs in enumerate(requests)
            for model in (FUSED, CHAINED)
        ]
        seconds = []
        with Load(address, cycle(questions), IN_FLIGHT) as load:
            for number in range(times):
                began = time.monotonic()
                deploy(releases[number % 2], repository, control)
                seconds.append(time.monotonic() - began)
                _check_live(address, requests[0], known[number % 2][0], judge)
                work.say(f"swap {number + 1}/{times}: {seconds[-1]:.1f} s, {load.seen.counts}")
    return {
        "requests": load.seen.counts,
        "swaps": times,
        "seconds_per_swap_median": round(statistics.median(seconds), 2),
        "failed": load.seen.counts.sent - load.seen.counts.answered,
        "answers_by_release": judge.seen,
        "errors": [*listed(load.seen.ended), *judge.late],
        "p99_ms": percentile_ms(load.seen.latency_s, 99),
        "slowest_ms": percentile_ms(load.seen.latency_s, 100),
        "holds": load.seen.counts.answered == load.seen.counts.sent and not judge.late and len(judge.seen) == 2,
    }


class _Judge:
    """Says whether an answer is wholly that of the release, and of the version, that it names."""

    def __init__(self, known: Sequence[Sequence[Answer]]) -> None:
        first, second = known
        alike = sum(before.differs(after) is None for before, after in zip(first, second, strict=True))
        if alike or first[0].release == second[0].release:
            raise RuntimeError(f"the two releases give the same answer to {alike} requests: they prove nothing")
        self._known = {answers[0].release: answers for answers in known}
        self._versions: dict[str, str] = {}
        self.seen: dict[str, int] = {}
        self.late: list[str] = []
        """What was answered by the old release after a deployment had ended."""

    def of(self, number: int) -> Any:
        """Return what judges answers to a question."""
        return lambda result: self._wrong(number, result)

    def _wrong(self, number: int, result: Any) -> str | None:
        answer, version = Answer.of(result), result.get_response().model_version
        if answer.release not in self._known:
            return f"of an unknown release {answer.release}"
        if self._versions.setdefault(version, answer.release) != answer.release:
            return f"version {version} names two releases"
        self.seen[answer.release] = self.seen.get(answer.release, 0) + 1
        return self._known[answer.release][number].differs(answer)


def _check_live(address: str, inputs: list[Any], expected: Answer, judge: _Judge) -> None:
    with grpc.InferenceServerClient(address, **channel_options(address)) as channel:
        for model in (FUSED, CHAINED):
            release = Answer.of(channel.infer(model, inputs)).release
            if release != expected.release:
                judge.late.append(f"{model} answers with {release} after {expected.release} went live")


def soak(work: Work) -> dict[str, Any]:
    """Ask right and wrong requests at 80 % of the capacity and watch errors and memory."""
    run, minutes = work.runs.first(), 0.5 if work.options.quick else work.options.soak_minutes
    log: list[str] = []
    with served(run / "triton", on_log=log.append) as server:
        address = server.addresses.grpc
        questions = _mixed(address, Subject.of(address, run / "release"))
        capacity = _capacity(address, questions, 10.0 if minutes > 1 else 3.0)
        work.say(
            f"capacity {capacity:.0f} requests/s; asking {CAPACITY_SHARE * capacity:.0f}/s for {minutes:g} minutes"
        )
        memory: list[tuple[float, float]] = []
        with Load(address, cycle(questions), 4 * IN_FLIGHT, CAPACITY_SHARE * capacity, PATIENCE) as load:
            began, reported = time.monotonic(), 0.0
            while (now := time.monotonic() - began) < 60 * minutes:
                memory.append((now, read_memory_mb(server.process_id)))
                if now - reported > 60:
                    reported = now
                    work.say(f"{now / 60:.0f} min: {memory[-1][1]:.1f} MB, {load.seen.counts}")
                time.sleep(_SAMPLE_S)
        seconds = time.monotonic() - began
    good = [request for request in load.seen.unexpected if request.about == "a right request"]
    growth = _quarter(memory, 3) - _quarter(memory, 1)
    return {
        "requests": load.seen.counts,
        "minutes": minutes,
        "capacity_per_s": round(capacity, 1),
        "asked_per_s": round(load.seen.counts.sent / seconds, 1),
        "errors_on_good_requests": len(good),
        "asked_again_after_a_malformed_neighbour": load.seen.asked_again,
        "otherwise_than_specified": len(load.seen.unexpected),
        "errors": listed(load.seen.unexpected),
        "memory_mb_start": round(memory[0][1], 1),
        "memory_mb_end": round(memory[-1][1], 1),
        "memory_growth_mb": round(growth, 2),
        "memory_mb_per_hour": round(_slope(memory), 2),
        "p50_ms": percentile_ms(load.seen.latency_s, 50),
        "p99_ms": percentile_ms(load.seen.latency_s, 99),
        "tracebacks_in_log": sum("Traceback" in line for line in log),
        "holds": not load.seen.unexpected and not load.seen.counts.lost and growth < GROWTH_MB,
    }


def _mixed(address: str, subject: Subject) -> list[Question]:
    """Return right and wrong requests, shuffled; a fixed set, so that what grows is not what it is to remember."""
    good = right_questions(address, subject, 1800)
    fuzz = Fuzz(subject, seed=1, wrong=1.0)
    bad = [question for question in fuzz(2000) if sum(len(tensor._raw_content) for tensor in question.inputs) < 20_000]
    mixed = good + bad[: round(len(good) * BAD_SHARE / (1 - BAD_SHARE))]
    return [mixed[place] for place in np.random.default_rng(0).permutation(len(mixed))]


def _capacity(address: str, questions: list[Question], seconds: float) -> float:
    """Return how many of the questions are answered or refused per second, as fast as it goes."""
    with Load(address, cycle(questions), IN_FLIGHT, patience=PATIENCE) as load:
        time.sleep(1.0)
        ended, began = load.ended, time.monotonic()
        time.sleep(seconds)
        return (load.ended - ended) / (time.monotonic() - began)


def _quarter(memory: list[tuple[float, float]], number: int) -> float:
    size = len(memory) // 4
    return statistics.median(mb for _, mb in memory[number * size : (number + 1) * size])


def _slope(memory: list[tuple[float, float]]) -> float:
    """Return the least-squares growth in MB per hour over all but the first quarter."""
    seconds, mb = np.array(memory[len(memory) // 4 :]).T
    return float(np.polyfit(seconds, mb, 1)[0] * 3600)


def fuzz(work: Work) -> dict[str, Any]:
    """Send fuzzed requests to both layouts of each run; nothing crashes, each is answered or refused as specified."""
    from ensemble.triton.export import export_repository

    runs, scratch, seed = [work.runs.first(), work.runs.shop()], work.scratch, work.options.seed
    count = work.times(work.options.fuzzed, 2000)
    total, counts = Counts(), dict[str, Any]()
    unexpected, again, deaths, tracebacks, slowest = [], 0, 0, 0, 0.0
    for number, run in enumerate(runs):
        repository, log = export_repository(run / "release", scratch / run.name, "both"), list[str]()
        with served(repository, on_log=log.append) as server:
            address, before = server.addresses.grpc, _stubs(server)
            for model, share in ((FUSED, 0.8), (CHAINED, 0.2)):
                subject = Subject.of(address, run / "release", model)
                canaries = right_questions(address, subject, 50, seed=9)
                load = _fuzzed(address, subject, canaries, round(count * share / len(runs)), seed + number, work.say)
                total += load.seen.counts
                again += load.seen.asked_again
                unexpected += load.seen.unexpected
                unexpected += [
                    request for request in load.seen.ended if "Traceback" in request.message or ".py" in request.message
                ]
                slowest = max(slowest, percentile_ms(load.seen.latency_s, 100) or 0.0)
                counts[f"{run.name} {model}"] = load.seen.counts
            deaths += before != _stubs(server)
        tracebacks += sum("Traceback" in line for line in log)
    return {
        "requests": total,
        "seed": seed,
        "by_model": counts,
        "asked_again_after_a_malformed_neighbour": again,
        "otherwise_than_specified": len(unexpected),
        "errors": listed(unexpected, 20),
        "servers_whose_processes_changed": deaths,
        "tracebacks_in_log": tracebacks,
        "slowest_answer_ms": slowest,
        "holds": not unexpected and not total.lost and not deaths and not tracebacks,
    }


def _fuzzed(address: str, subject: Subject, canaries: list[Question], count: int, seed: int, say: Any) -> Load:
    """Ask fuzzed requests, and after every twenty-fifth one whose answer is known."""

    def interleaved() -> Iterator[Question]:
        for number, question in enumerate(Fuzz(subject, seed)(count)):
            if number % 25 == 0:
                yield canaries[number // 25 % len(canaries)]
            yield question

    with Load(address, interleaved(), IN_FLIGHT, patience=PATIENCE) as load:
        reported = time.monotonic()
        while load._thread.is_alive():
            load._thread.join(1.0)
            if time.monotonic() - reported > 20:
                reported = time.monotonic()
                say(f"{subject.signature.model}: {load.seen.counts}, {len(load.seen.unexpected)} not as specified")
        load.wait()
    return load


def _stubs(server: TritonServer) -> list[int]:
    """Return the processes of a server: a stub that died and came again has another number."""
    below = psutil.Process(server.process_id).children(recursive=True)
    return sorted(process.pid for process in below if "stub" in process.name())
