"""Search for the `[serving]` options with the most rows per second within a latency objective.

Each setting is a copy of the release with other options, exported and served like any other. It is measured with real
requests, with more and more of them in flight until the latency exceeds the objective.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from ensemble.client.tensors import InvalidRequest, Query
from ensemble.measure.benchmark import Target, benchmark
from ensemble.measure.points import Point
from ensemble.server.ports import free_ports
from ensemble.server.server import TritonServer
from ensemble.serving.files.release import MANIFEST, Release, manifest_text, release_id
from workflows.progress import Progress, silent

DELAYS_MICROSECONDS = (0, 200, 1000)
_HOPELESS = 2.0
"""Past this many times the objective, more requests in flight cannot help: latency grows with them."""
_BEHIND = 0.7
"""A setting with less than this share of the best rows/s, at a higher latency, is not measured further."""
_LEVEL = 0.97
"""Of settings within 3 %, which is noise, the one with fewer processes and threads is taken."""


class Setting(Struct, frozen=True, kw_only=True, order=True):
    """Options of the recipe's `[serving]`, ordered by what they cost."""

    instances: int = 1
    threads: int = 1
    max_queue_delay_microseconds: int = 0

    def recipe(self) -> str:
        """Return the options as lines for a recipe."""
        lines = [f"{name} = {value}" for name, value in msgspec.structs.asdict(self).items()]
        return "\n".join(["[serving]", *lines])


class Measured(Struct, frozen=True, kw_only=True):
    """One setting at one load."""

    setting: Setting
    point: Point


class Sweep(Struct, frozen=True, kw_only=True):
    """The result of a search."""

    p99_ms: float
    """The objective."""
    best: Measured | None
    """Most rows/s with `p99_ms` met; None: no setting met it."""
    measured: list[Measured]
    left_out: int
    """Settings for which there was no time."""

    def frontier(self) -> list[Measured]:
        """Return the results that no other one beats in both rows/s and p99, by ascending rows/s."""
        best: list[Measured] = []
        for result in sorted(self.measured, key=lambda result: (-result.point.rows_per_s, result.point.p99_ms)):
            if not best or result.point.p99_ms < best[-1].point.p99_ms:
                best.append(result)
        return best[::-1]


@dataclass(frozen=True)
class Objective:
    """The latency objective, the load, and the time for the search."""

    p99_ms: float
    minutes: float
    batches: Sequence[int] = (1,)
    concurrencies: Sequence[int] = (1, 4, 16, 64)
    interval_ms: int = 500

    def __post_init__(self) -> None:
        """Raise InvalidRequest for a number that is out of range."""
        for name in ("p99_ms", "minutes"):
            if not getattr(self, name) > 0:
                raise InvalidRequest(f"{name}: got {getattr(self, name)!r}, expected a number above 0")


def sweep(release: Path, requests: Query, objective: Objective, progress: Progress = silent) -> Sweep:
    """Measure settings of a release until all are done or the time is up; the release's own comes first.

    `requests` are rows that are sent in turn. Raise BenchmarkError, ClientError or ServerError if a server does not
    start, or fails during a measurement.
    """
    deadline = time.monotonic() + 60 * objective.minutes
    stated = Release.open(release).manifest["serving"]
    own = Setting(**{name: stated[name] for name in Setting.__struct_fields__})
    to_measure = list(dict.fromkeys([own, *settings(os.cpu_count() or 1)]))
    measured: list[Measured] = []
    left_out = 0
    for number, setting in enumerate(to_measure, start=1):
        left_s = deadline - time.monotonic()
        if left_s < 0 and measured:
            left_out = len(to_measure) - number + 1
            break
        shown = ", ".join(f"{name} {value}" for name, value in msgspec.structs.asdict(setting).items())
        progress(f"setting {number} of {len(to_measure)}, at most {max(0.0, left_s) / 60:.1f} min left: {shown}")
        with served(release, setting, objective) as target:
            for point in _loads(target, requests, objective, measured, progress):
                measured.append(Measured(setting=setting, point=point))
    best = best_of(measured, objective.p99_ms)
    return Sweep(p99_ms=objective.p99_ms, best=best, measured=measured, left_out=left_out)


def settings(cores: int) -> list[Setting]:
    """Return the settings to try on so many cores: never more busy processes and threads than cores."""
    counts = sorted({1, 2, cores // 2, cores} - {0})
    pairs = [(instances, threads) for instances, threads in product(counts, (1, cores)) if instances * threads <= cores]
    return [
        Setting(instances=instances, threads=threads, max_queue_delay_microseconds=delay)
        for delay in DELAYS_MICROSECONDS
        for instances, threads in dict.fromkeys(pairs)
    ]


def best_of(measured: Sequence[Measured], p99_ms: float) -> Measured | None:
    """Return the result with the most rows/s within the objective; among nearly equal ones, the cheapest setting."""
    within = [result for result in measured if result.point.p99_ms <= p99_ms]
    if not within:
        return None
    most = max(result.point.rows_per_s for result in within)
    level = [result for result in within if result.point.rows_per_s >= _LEVEL * most]
    return min(level, key=lambda result: (result.setting, result.point.concurrency, -result.point.rows_per_s))


def _loads(
    target: Target, requests: Query, objective: Objective, measured: Sequence[Measured], progress: Progress
) -> Iterator[Point]:
    """Yield the points of one setting, until more load is hopeless or it is far behind another setting."""
    for batch in objective.batches:
        for concurrency in sorted(objective.concurrencies):
            (point,) = benchmark(target, requests, batches=(batch,), concurrencies=(concurrency,), progress=silent)
            progress(f"  {batch} x {concurrency}: {point.rows_per_s:,.0f} rows/s, p99 {point.p99_ms:.1f} ms")
            yield point
            if point.p99_ms > _HOPELESS * objective.p99_ms or _is_behind(point, measured):
                break


def _is_behind(point: Point, measured: Sequence[Measured]) -> bool:
    load = point.batch, point.concurrency
    others = [result.point for result in measured if (result.point.batch, result.point.concurrency) == load]
    return any(other.p99_ms < point.p99_ms and point.rows_per_s < _BEHIND * other.rows_per_s for other in others)


@contextmanager
def served(release: Path, setting: Setting, objective: Objective) -> Iterator[Target]:
    """Serve a release with other options inside the block; yield the target of the measurement."""
    from ensemble.triton.export import export_repository

    with tempfile.TemporaryDirectory(prefix="retrieval-sweep-") as scratch:
        copy = with_options(release, msgspec.structs.asdict(setting), Path(scratch) / "release")
        repository = export_repository(copy, Path(scratch) / "triton", "fused")
        grpc_port, metrics_port = free_ports("127.0.0.1", 2)
        server = TritonServer(repository, grpc_port=grpc_port, metrics_port=metrics_port)
        with server:
            interval = objective.interval_ms
            yield Target(server.addresses.grpc, server_pid=server.process_id, measurement_interval_ms=interval)


def with_options(release: Path, options: Mapping[str, Any], place: Path) -> Path:
    """Write a copy of a release with other `[serving]` options to `place`; return its path."""
    shutil.copytree(release, place)
    manifest = dict(Release.open(release).manifest)
    manifest["serving"] = {**manifest["serving"], **options}
    manifest["release"] = release_id(manifest)
    (place / MANIFEST).write_text(manifest_text(manifest), encoding="utf-8")
    return place
