"""Large vocabularies: what the lookup of ten million ids takes, on disk, in memory and in time.

    .venv/bin/python -m benchmarks.serving.vocabulary              100 thousand, one and ten million ids, some 4 minutes
    .venv/bin/python -m benchmarks.serving.vocabulary --quick      100 thousand, seconds

Writes a vocabulary of integers and one of strings (`user-` and ten digits or so), adds the lookup as a release does,
and loads it in fresh processes. In benchmarks/results/vocabulary.json, one object per vocabulary:

- `bytes_per_id_over_raw`: bytes of all files over those of the ids themselves (8 for an integer, UTF-8 for a string)
- `lookup_us`: one row, known and unknown ids in turns, each asked once; median, and `lookup_p99_us`
- `load_ms`: opening the vocabulary of a verified release, its types and ranges checked
- `verify_ms`: its part of verifying the release before: the SHA-256 of every byte, once per process at its start, which
  also brings the files into the page cache
- `private_mb_per_process`: what a process holds that it does not share: anonymous memory, after load and a few lookups
- `build_s`: what the lookup adds to making a release
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import ROOT, Parser, write
from ensemble.release.columns import write_lookup
from ensemble.serving.files.lookup import Strings
from retrieval.console import Terminal, terminal

_WORKER = """
import json, sys, time
from pathlib import Path
import numpy as np
from ensemble.serving.files.release import sha256_of
from ensemble.serving.query.vocabulary import UNSEEN, load_integers, load_strings
directory, kind, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
begin = time.perf_counter()
for place in sorted(directory.iterdir()):
    sha256_of(place)
verify = time.perf_counter() - begin
def anonymous():
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("Anonymous"))
before = anonymous()
begin = time.perf_counter()
vocabulary = (load_strings if kind == "string" else load_integers)(directory, "ids")
load = time.perf_counter() - begin
for one in range(1000):
    vocabulary.encode([f"user-{one * 7919:010d}"] if kind == "string" else np.array([one * 7919]))
private = anonymous() - before
asked = np.random.default_rng(int(sys.argv[4])).integers(0, count, 20_000).tolist()
name = (lambda one: f"user-{one * 7919:010d}") if kind == "string" else (lambda one: one * 7919)
values = [name(one + count * (place % 2)) for place, one in enumerate(asked)]
rows = [[one] for one in values] if kind == "string" else [np.array([one]) for one in values]
times, unknown = [], 0
for row in rows:
    begin = time.perf_counter_ns()
    code = vocabulary.encode(row)
    times.append(time.perf_counter_ns() - begin)
    unknown += int(code[0]) == UNSEEN
assert unknown == len(rows) // 2, unknown
many = [name(one) for one in np.random.default_rng(1).integers(0, count, 100_000).tolist()]
begin = time.perf_counter()
codes = vocabulary.encode(many if kind == "string" else np.array(many))
batch = time.perf_counter() - begin
assert (codes > UNSEEN).all()
print(json.dumps({
    "verify_ms": 1000 * verify, "load_ms": 1000 * load, "lookup_us": float(np.median(times)) / 1000,
    "lookup_p99_us": float(np.percentile(times, 99)) / 1000, "lookup_100000_us_per_row": 10 * batch,
    "private_mb_per_process": private / 1e6,
}), flush=True)
sys.stdin.read()
"""


def main() -> None:
    """Measure and write the results."""
    options = Parser(__doc__, "vocabulary").options()
    counts = (100_000,) if options.quick else (100_000, 1_000_000, 10_000_000)
    points = []
    with terminal() as out:
        for count in counts:
            for kind in ("int64", "string"):
                with tempfile.TemporaryDirectory(prefix="retrieval-vocabulary-") as directory:
                    points.append(measure(Path(directory), kind, count, out))
                out.say(json.dumps(points[-1]))
    write(options.out, points)


def measure(directory: Path, kind: str, count: int, out: Terminal) -> dict[str, Any]:
    """Measure one vocabulary; of times the less, of memory the more of two processes."""
    out.step(f"{count:,} ids, {kind}: writing")
    raw = write_ids(directory, kind, count)
    began = time.perf_counter()
    write_lookup(directory / "ids")
    built = time.perf_counter() - began
    total = sum(place.stat().st_size for place in directory.iterdir())
    out.step(f"{count:,} ids, {kind}: two processes look up")
    figures = in_two_processes(directory, kind, count)
    least = {name: min(process[name] for process in figures) for name in figures[0] if not name.startswith("private")}
    return {
        "ids": count,
        "type": kind,
        "raw_mb": round(raw / 1e6, 1),
        "bytes_per_id_over_raw": round((total - raw) / count, 2),
        **{name: round(value, 3) for name, value in least.items()},
        "private_mb_per_process": round(max(process["private_mb_per_process"] for process in figures), 2),
        "build_s": round(built, 2),
    }


def write_ids(directory: Path, kind: str, count: int) -> int:
    """Write the ids as `workflows/fitting/export.py` does, in no order of theirs; return the bytes of the ids alone."""
    numbers = np.random.default_rng(42).permutation(count).astype(np.int64) * 7919
    if kind == "int64":
        np.save(directory / "ids.npy", numbers)
        return numbers.nbytes
    encoded = [f"user-{number:010d}".encode() for number in numbers.tolist()]
    offsets = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
    blob = np.frombuffer(b"".join(encoded), dtype=np.uint8)
    assert Strings(blob, offsets)[0] == encoded[0].decode()
    np.save(directory / "ids.utf8.npy", blob)
    np.save(directory / "ids.offsets.npy", offsets)
    return blob.nbytes


def in_two_processes(directory: Path, kind: str, count: int) -> list[dict[str, float]]:
    """Return what two processes measure, one after the other, both alive at the end."""
    figures, running = [], []
    try:
        for seed in range(2):
            command = [sys.executable, "-c", _WORKER, str(directory), kind, str(count), str(seed)]
            running.append(
                subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
            )
            assert running[-1].stdout is not None
            figures.append(json.loads(running[-1].stdout.readline()))
    finally:
        for process in running:
            process.communicate()
    return figures


if __name__ == "__main__":
    main()
