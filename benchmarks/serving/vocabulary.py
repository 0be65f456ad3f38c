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

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import Parser, in_process, told, write
from ensemble.release.columns import save_values, write_lookup
from ensemble.serving.files.arrays import read_known
from ensemble.serving.files.release import Folder, sha256_of
from ensemble.serving.query.vocabulary import UNSEEN, Vocabulary
from retrieval.console import Terminal, terminal

KINDS: dict[str, Callable[[int], Any]] = {
    "int64": lambda number: number * 7919,
    "string": lambda number: f"user-{number * 7919:010d}",
}
"""Types of ids, and what the id of a number is."""
WARM, ASKED, MANY = 1000, 20_000, 100_000


def main() -> None:
    """Measure and write the results; with --place: load the vocabulary there, and print what it takes."""
    parser = Parser(__doc__, "vocabulary")
    parser.add_argument("--place", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--kind", help=argparse.SUPPRESS)
    parser.add_argument("--count", type=int, help=argparse.SUPPRESS)
    options = parser.options()
    if options.place:
        sys.stdout.write(json.dumps(looked_up(options.place, options.kind, options.count)) + "\n")
        return
    counts = (100_000,) if options.quick else (100_000, 1_000_000, 10_000_000)
    points = []
    with terminal() as out:
        for count in counts:
            for kind in KINDS:
                with tempfile.TemporaryDirectory(prefix="retrieval-vocabulary-") as directory:
                    points.append(measure(Path(directory), kind, count, out))
                out.say(json.dumps(points[-1]))
    write(options.out, points)


def measure(directory: Path, kind: str, count: int, out: Terminal) -> dict[str, Any]:
    """Measure one vocabulary; of times the less, of memory the more of two processes."""
    out.step(f"{count:,} ids, {kind}: writing")
    numbers = np.random.default_rng(42).permutation(count)  # ids come in no order of theirs
    ids = numbers * KINDS[kind](1) if kind == "int64" else list(map(KINDS[kind], numbers.tolist()))
    save_values(ids, directory / "ids", kind)
    raw = ids.nbytes if isinstance(ids, np.ndarray) else sum(map(len, ids))
    began = time.perf_counter()
    write_lookup(directory / "ids")
    built = time.perf_counter() - began
    total = sum(place.stat().st_size for place in directory.iterdir())
    out.step(f"{count:,} ids, {kind}: two processes look up")
    figures = [told(in_process(__file__, "--place", directory, "--kind", kind, "--count", count)) for _ in range(2)]
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


def looked_up(directory: Path, kind: str, count: int) -> dict[str, float]:
    """Return what the vocabulary in a directory takes a process that loads it."""
    began = time.perf_counter()
    for place in sorted(directory.iterdir()):
        sha256_of(place)
    verify, before = time.perf_counter() - began, anonymous()
    began = time.perf_counter()
    vocabulary = Vocabulary(read_known(Folder(directory), "ids", kind))
    load = time.perf_counter() - began

    def rows(numbers: list[int]) -> Any:
        ids = list(map(KINDS[kind], numbers))
        return ids if kind == "string" else np.array(ids)

    for number in range(WARM):
        vocabulary.encode(rows([number]))
    private = anonymous() - before
    random, times, unknown = np.random.default_rng(0), [], 0
    numbers = random.integers(0, count, ASKED) + count * (np.arange(ASKED) % 2)
    asked = [rows([number]) for number in numbers.tolist()]
    for row in asked:
        began = time.perf_counter()
        code = vocabulary.encode(row)
        times.append(1e6 * (time.perf_counter() - began))
        unknown += int(code[0]) == UNSEEN
    assert unknown == ASKED // 2, unknown
    many = rows(random.integers(0, count, MANY).tolist())
    began = time.perf_counter()
    codes = vocabulary.encode(many)
    batch = time.perf_counter() - began
    assert (codes > UNSEEN).all()
    return {
        "verify_ms": 1000 * verify,
        "load_ms": 1000 * load,
        "lookup_us": float(np.median(times)),
        "lookup_p99_us": float(np.percentile(times, 99)),
        "lookup_100000_us_per_row": 1e6 * batch / MANY,
        "private_mb_per_process": private / 1e6,
    }


def anonymous() -> int:
    """Return the anonymous memory of this process, bytes."""
    lines = Path("/proc/self/smaps_rollup").read_text(encoding="ascii").splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("Anonymous"))


if __name__ == "__main__":
    main()
