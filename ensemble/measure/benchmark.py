"""Benchmarks a running server with perf_analyzer: latency, throughput and CPU time of the server per row."""

from __future__ import annotations

import csv
import json
import math
import re
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np

from ensemble.client import RetrievalClient
from ensemble.client.tensors import CLICKS, NO_ITEM, InvalidRequest, Query, Signature, tensors
from ensemble.measure import perf_analyzer
from ensemble.measure.counters import read_counters
from ensemble.measure.points import Point
from workflows.columns import Columns
from workflows.errors import ServerError, StageError
from workflows.progress import Progress, silent

WINDOWS = 3
"""perf_analyzer reports the mean of this many measurement windows."""

_LONGER = (1, 4, 16)
"""A window in which no request both began and ended makes perf_analyzer fail; then it gets one so much longer."""


class BenchmarkError(ServerError):
    """perf_analyzer or the server failed during a measurement; the message is the tool's own."""


@dataclass(frozen=True)
class Target:
    """The server and model to measure."""

    address: str
    model: str = "retrieval"
    layout: str = "fused"
    """How the points are labelled."""
    server_pid: int | None = None
    """Process whose CPU time counts, with its children (Triton's Python stubs); None for a server elsewhere."""
    measurement_interval_ms: int = 2000


def draw_requests(run: Path, count: int, *, top_k: int | None = None, seed: int = 42) -> Query:
    """Draw real requests from the test interactions of a run; frequent users come as often as they did.

    They are user ids and times, one row per interaction, `count` or all that there are. Playlists that are held out
    whole are unknown to the release; then the requests come from the validation part. Raise StageError if there are no
    features.
    """
    import pyarrow.parquet

    stated = run / "features" / "features.json"
    if not stated.is_file():
        raise StageError(f"{stated}: no such file; run `retrieval features` first")
    part = "valid" if json.loads(stated.read_bytes()).get("asked") == "continued" else "test"
    path = run / "features" / part / "interactions.parquet"
    table = pyarrow.parquet.read_table(path, columns=[Columns.User, Columns.Timestamp])
    rows = np.random.default_rng(seed).permutation(len(table))[:count]
    users, times = (table[name].to_numpy()[rows].tolist() for name in (Columns.User, Columns.Timestamp))
    return Query(user_ids=users, top_k=top_k, timestamps=times)


def benchmark(
    target: Target,
    requests: Query,
    *,
    batches: Sequence[int] = (1,),
    concurrencies: Sequence[int] = (1, 4, 16),
    progress: Progress = silent,
) -> list[Point]:
    """Measure every batch size (rows per request) at every concurrency (requests in flight): one point for each.

    `requests` are rows that are sent in turn.

    Raises
    ------
    BenchmarkError
        perf_analyzer reports an error.
    ClientError, DownloadError, ServerError
        The server does not answer; perf_analyzer cannot be found, fetched or started.
    """
    tool = perf_analyzer.find(progress=progress)
    with RetrievalClient(target.address, target.model) as client:
        signature = client.signature()
    points = []
    with tempfile.TemporaryDirectory(prefix="retrieval-bench-") as directory:
        for batch in batches:
            data = Path(directory) / f"requests-{batch}.json"
            data.write_text(json.dumps(input_data(signature, requests, batch)), encoding="utf-8")
            for concurrency in concurrencies:
                progress(f"{target.layout}: batch {batch}, concurrency {concurrency}")
                points.append(measure(tool, target, data, batch, concurrency))
    return points


def input_data(signature: Signature, requests: Query, batch: int) -> dict[str, list[dict[str, Any]]]:
    """Return the rows in perf_analyzer's `--input-data` form, one entry per row.

    perf_analyzer only joins `batch` entries of one shape, so ragged lists are padded for batches.
    """
    if not len(requests.user_ids):
        raise InvalidRequest("the benchmark has no requests; expected at least one row")
    arrays = tensors(signature, requests)
    rows = []
    for row in range(len(requests.user_ids)):
        entry: dict[str, Any] = {name: array[row].tolist() for name, array in arrays.items()}
        if any(isinstance(value, float) and not math.isfinite(value) for values in entry.values() for value in values):
            raise InvalidRequest(f"row {row} holds NaN or infinity, which perf_analyzer's input cannot; leave it out")
        for names in (("exclude_item_ids",), CLICKS):
            entry.update(_ragged({name: entry[name] for name in names if name in entry}, signature, batch > 1))
        rows.append(entry)
    return {"data": rows}


def _ragged(lists: dict[str, list[Any]], signature: Signature, padded: bool) -> dict[str, Any]:
    """Return lists that belong together, item ids first, with their shape; padded if `padded`."""
    ragged = lists
    if lists and not padded:
        name, ids = next(iter(lists.items()))
        real = [item != NO_ITEM[signature.inputs[name]] for item in ids]
        ragged = {name: list(compress(values, real)) for name, values in lists.items()}
    return {name: {"content": values, "shape": [len(values)]} for name, values in ragged.items()}


def measure(tool: perf_analyzer.PerfAnalyzer, target: Target, data: Path, batch: int, concurrency: int) -> Point:
    """Run perf_analyzer once. CPU time and rows are the server's over the whole run, warm-up included."""
    report = data.with_suffix(".csv")
    report.unlink(missing_ok=True)
    before = read_counters(target.address, target.model, target.server_pid)
    output = _run(tool, target, ["--input-data", str(data), "-b", str(batch), "-f", str(report)], concurrency)
    after = read_counters(target.address, target.model, target.server_pid)
    rows = after.rows - before.rows
    if rows <= 0 or not report.is_file():
        raise BenchmarkError(f"perf_analyzer wrote no report, or Triton counts no answered row: {_complaint(output)}")
    return Point(
        layout=target.layout,
        batch=batch,
        concurrency=concurrency,
        server_cpu_ms_per_row=None if target.server_pid is None else 1000 * after.cpu_seconds_since(before) / rows,
        spread=_spread(output),
        **read_report(report.read_text(encoding="utf-8"), concurrency),
    )


def read_report(text: str, concurrency: int) -> dict[str, float]:
    """Read perf_analyzer's CSV report: microseconds, and inferences (rows) per second."""
    lines = [line for line in csv.DictReader(text.splitlines()) if line.get("Concurrency") == str(concurrency)]
    if len(lines) != 1:
        raise BenchmarkError(f"perf_analyzer's report has {len(lines)} lines for concurrency {concurrency}, expected 1")
    try:
        latencies = {f"p{percent}_ms": float(lines[0][f"p{percent} latency"]) / 1000 for percent in (50, 90, 95, 99)}
        return {"rows_per_s": float(lines[0]["Inferences/Second"]), **latencies}
    except (KeyError, ValueError) as error:
        raise BenchmarkError(f"perf_analyzer's report is of a form not known here: {error!r}") from None


def _run(tool: perf_analyzer.PerfAnalyzer, target: Target, options: Sequence[str], concurrency: int) -> str:
    """Run perf_analyzer and return its output; retry with longer windows if no request fitted into one."""
    server = ["-m", target.model, "-u", target.address, "-i", "grpc", "-v"]
    command = [str(tool.binary), *server, *options, "--concurrency-range", str(concurrency)]
    for factor in _LONGER:
        status, output = _try(tool, command, factor * target.measurement_interval_ms)
        if status == 0:
            return output
        if "No valid requests recorded" not in output:
            break
    raise BenchmarkError(f"perf_analyzer failed (exit status {status}): {_complaint(output)}")


def _try(tool: perf_analyzer.PerfAnalyzer, command: Sequence[str], interval_ms: int) -> tuple[int, str]:
    # Left to itself the tool gives up, without a report, when windows differ by 10 %; here three windows always count,
    # and how far they differ is reported.
    windows = ["--max-trials", str(WINDOWS), "--stability-percentage", "100000"]
    command = [*command, *windows, "--measurement-interval", str(interval_ms)]
    limit_s = 60 + 10 * WINDOWS * interval_ms / 1000
    try:
        done = subprocess.run(command, env=tool.environment(), cwd="/", capture_output=True, text=True, timeout=limit_s)
    except subprocess.TimeoutExpired:
        raise BenchmarkError(
            f"perf_analyzer did not end within {limit_s:.0f} s; does the server still answer?"
        ) from None
    return done.returncode, f"{done.stdout}\n{done.stderr}"


def _complaint(output: str) -> str:
    """Return the lines in which perf_analyzer reports an error, otherwise the last ones."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    telling = [line for line in lines if re.search(r"error|fail|unable|expected", line, re.IGNORECASE)]
    return "; ".join(dict.fromkeys((telling or lines)[-3:])) or "it says nothing"


def _spread(output: str) -> float | None:
    """Return (highest - lowest) / mean of the windows' rows per second."""
    rates = [float(rate) for rate in re.findall(r"Pass \[\d+\] throughput: ([0-9.eE+]+)", output)][-WINDOWS:]
    return (max(rates) - min(rates)) * len(rates) / sum(rates) if sum(rates) else None
