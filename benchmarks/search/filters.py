"""Filtered search over a million items: recall and latency from filters that allow everything to a handful of items.

    .venv/bin/python -m benchmarks.search.filters
    .venv/bin/python -m benchmarks.search.filters --quick          # 20,000 items

Vectors and queries are those of benchmarks/search/vectors.py. A *scattered* filter allows items at random; a
*clustered* one allows whole clusters, as a category does, most of them far from the query. Each query is asked alone,
on one thread, through `ItemSearch` with the filter already compiled (`first_us`: the first query of a filter, for which
lists are counted and items listed). Recall is against comparing every allowed item. `index_alone_recall@100` is what
the same index finds if it is only told which items to skip. Results: benchmarks/results/filters.json.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before NumPy is imported

import json
import statistics
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any, Final

import faiss
import numpy as np

from benchmarks.harness import Parser, say, write
from benchmarks.search.vectors import SELECTIVITIES, Data, K, allowed_items, exact, make_vectors, recall
from ensemble.config import Index
from ensemble.index.build import build_index
from ensemble.serving.index.faiss_index import FaissIndex, read_index
from ensemble.serving.index.inverted_lists import Probes
from ensemble.serving.search.masks import Allowed
from ensemble.serving.search.search import ItemSearch, no_exclusions

KIND: Final = "ivf_sq8"
RECALL_TARGET = 0.99
TUNING = 1000
"""Further queries, on which the index chooses its parameters."""


def main() -> None:
    """Build the index, ask every filter and write the results."""
    options = Parser(__doc__, "filters").options()
    items, queries = (20_000, 20) if options.quick else (1_000_000, 200)
    faiss.omp_set_num_threads(1)
    say(f"{items:,} items")
    data, start = make_vectors(items, queries + TUNING), time.perf_counter()
    built = build_index(data.vectors, Index(kind=KIND, recall_target=RECALL_TARGET), data.queries[queries:], say)
    build_s = time.perf_counter() - start
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "index"
        place.write_bytes(built.content or b"")
        index = FaissIndex(read_index(place, KIND), data.vectors, built.parameters)  # mapped, as in a server
    say(f"index: {built.parameters['search']}, {build_s:.0f} s")
    data, search = data._replace(queries=data.queries[:queries]), ItemSearch(data.vectors, index)
    common = {"items": items, "kind": KIND, "recall_target": RECALL_TARGET, "build_s": round(build_s, 1)}
    points = [
        {**common, **measured(search, index, data, bits, selectivity, clustered)}
        for selectivity in SELECTIVITIES
        for clustered in (False, True)
        if (bits := allowed_items(data.cluster, selectivity, clustered)).sum() > 0
    ]
    write(options.out, points)
    sys.stdout.write(json.dumps(points, indent=1) + "\n")


def measured(
    search: ItemSearch, index: FaissIndex, data: Data, bits: np.ndarray, selectivity: float, clustered: bool
) -> dict[str, Any]:
    """Ask every query with one filter."""
    mask = search.mask(bits)
    truth, plans, times, answers = exact(data, mask), Counter[str](), [], []
    allowed = Allowed([mask], np.zeros(1, dtype=np.int64))
    for query in data.queries:
        start = time.perf_counter()
        answer = search.nearest(query[None], np.array([K]), *no_exclusions(), allowed)
        times.append((time.perf_counter() - start) * 1e6)
        answers.append(answer.item_index[0])
        plans[search.plan(query[None], K, mask).way] += 1
    point = {
        "selectivity": selectivity,
        "clustered": clustered,
        "allowed": mask.count,
        "recall@100": round(recall(answers, truth), 4),
        "p50_us": round(statistics.median(times[1:]), 1),
        "p99_us": round(float(np.percentile(times[1:], 99)), 1),
        "first_us": round(times[0], 1),
        "plans": dict(plans),
    }
    lists = [Probes(*index.probes(query[None], K), 0.0) for query in data.queries]
    questions = zip(data.queries, lists, strict=True)
    alone = [index.search(query[None], K, mask, probes)[1][0] for query, probes in questions]
    point["index_alone_recall@100"] = round(recall(alone, truth), 4)
    say(str(point))
    return point


if __name__ == "__main__":
    main()
