"""ScaNN beside FAISS: builds one searcher and answers queries when told to; run by benchmarks/search/index.py.

It runs in an environment of its own, since ScaNN wants NumPy 2: standard library, NumPy and ScaNN only. The first line
on stdout says what was built. Then every line on stdin, {"start", "stop", "leaves", "reorder"}, is answered by a line
with the seconds that each of these queries took, one at a time on one thread, and the items found.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

import numpy as np
import scann


def main() -> None:
    """Build, say so, and answer until stdin ends."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vectors", type=Path, required=True)
    parser.add_argument("--queries", type=Path, required=True)
    parser.add_argument("--leaves", type=int, required=True)
    parser.add_argument("--k", type=int, default=100)
    parser.add_argument("--threads", type=int, default=2, help="for building; a search uses one")
    arguments = parser.parse_args()
    vectors, queries = np.load(arguments.vectors), np.load(arguments.queries)
    before, started = resident_mb(), time.perf_counter()
    # The settings of ScaNN's own documentation (docs/algorithms.md): one leaf per about root(items) items and more,
    # two dimensions per block, anisotropic threshold 0.2.
    searcher = (
        scann.scann_ops_pybind.builder(vectors, arguments.k, "dot_product")
        .set_n_training_threads(arguments.threads)
        .tree(num_leaves=arguments.leaves, num_leaves_to_search=100, training_sample_size=min(len(vectors), 250_000))
        .score_ah(2, anisotropic_quantization_threshold=0.2)
        .reorder(arguments.k)
        .build()
    )
    built = {"build_s": time.perf_counter() - started, "memory_mb": resident_mb() - before}
    say({**built, "version": scann.__version__ if hasattr(scann, "__version__") else "1.4"})
    for line in sys.stdin:
        ask = json.loads(line)
        say(answer(searcher, queries[ask["start"] : ask["stop"]], arguments.k, ask["leaves"], ask["reorder"]))


def answer(searcher: object, queries: np.ndarray, k: int, leaves: int, reorder: int) -> dict[str, object]:
    """Search for the queries one by one; return seconds and items of each."""
    seconds, neighbours = [], []
    for query in queries:
        started = time.perf_counter()
        items, _ = searcher.search(query, k, reorder, leaves)  # type: ignore[attr-defined]
        seconds.append(time.perf_counter() - started)
        neighbours.append(items.tolist())
    return {"seconds": seconds, "items": neighbours}


def resident_mb() -> float:
    """Return the memory of this process, MB."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def say(message: dict[str, object]) -> None:
    """Write one line of JSON."""
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
