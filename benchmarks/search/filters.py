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

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from benchmarks.search.vectors import Data, make_vectors
from ensemble.config import Index
from ensemble.index.build import build_index
from ensemble.serving.index.faiss_index import FaissIndex, read_index
from ensemble.serving.index.inverted_lists import Probes
from ensemble.serving.search.masks import Allowed, ItemMask
from ensemble.serving.search.search import ItemSearch, no_exclusions

SELECTIVITIES = (1.0, 0.5, 0.1, 0.01, 0.001, 0.0001)
K = 100
TUNING = 1000
"""Further queries, on which the index chooses its parameters."""


def main() -> None:
    """Build the index, ask every filter and write the results."""
    from benchmarks.harness import (  # not among the imports: a test of the serving environments imports this file
        Parser,
        write,
    )

    parser = Parser(__doc__, "filters")
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--kind", default="ivf_sq8", help="as in the recipe's [index]; auto, ivf_sq8, hnsw, ...")
    parser.add_argument("--recall-target", type=float, default=0.99)
    parser.add_argument("--index", type=Path, help="keep the built index here, and take it from here")
    arguments = parser.options()
    if arguments.quick:
        arguments.items, arguments.queries = 20_000, 20
    faiss.omp_set_num_threads(1)
    say(f"{arguments.items:,} items")
    data = make_vectors(arguments.items, arguments.queries + TUNING)
    index, build_s = built(data.vectors, data.queries[arguments.queries :], arguments)
    data = data._replace(queries=data.queries[: arguments.queries])
    search = ItemSearch(data.vectors, index)
    common = {
        "items": arguments.items,
        "kind": "flat" if index is None else index.kind,
        "recall_target": arguments.recall_target,
        "build_s": round(build_s, 1),
    }
    points = [
        {**common, **measured(search, index, data, bits, selectivity, clustered)}
        for selectivity in SELECTIVITIES
        for clustered in (False, True)
        if (bits := allowed_items(data.cluster, selectivity, clustered)).sum() > 0
    ]
    write(arguments.out, points)
    sys.stdout.write(json.dumps(points, indent=1) + "\n")


def built(vectors: np.ndarray, queries: np.ndarray, arguments: argparse.Namespace) -> tuple[FaissIndex | None, float]:
    """Return the index that a release would have, mapped from a file as in a server, and the seconds that it took."""
    place: Path = arguments.index or Path(tempfile.gettempdir()) / f"benchmark-filters-{os.getpid()}.faiss"
    start = time.perf_counter()
    notes = place.with_suffix(".json")
    if not notes.is_file():
        config = Index(kind=arguments.kind, recall_target=arguments.recall_target)
        built_index = build_index(vectors, config, queries, progress=say)
        place.write_bytes(built_index.content or b"")
        notes.write_text(json.dumps({**built_index.parameters, "build_s": time.perf_counter() - start}, default=str))
    parameters = json.loads(notes.read_text())
    say(f"index: {parameters['kind']}, {parameters['search']}, {parameters['build_s']:.0f} s")
    index = None if parameters["kind"] == "flat" else read_index(place, parameters["kind"])
    if arguments.index is None:
        place.unlink()
        notes.unlink()
    return None if index is None else FaissIndex(index, vectors, parameters), parameters["build_s"]


def allowed_items(cluster: np.ndarray, selectivity: float, clustered: bool) -> np.ndarray:
    """Return a filter, bool [items], that allows about this share."""
    rng = np.random.default_rng(int(1 / selectivity))
    count = round(selectivity * len(cluster))
    if not clustered:
        bits = np.zeros(len(cluster), dtype=bool)
        bits[rng.choice(len(cluster), count, replace=False)] = True
        return bits
    sizes = np.bincount(cluster)
    order = rng.permutation(np.flatnonzero(sizes <= max(1.5 * count, sizes.min())))
    chosen = order[: int(np.searchsorted(np.cumsum(sizes[order]), count)) + 1]
    items = np.flatnonzero(np.isin(cluster, chosen))[:count]
    bits = np.zeros(len(cluster), dtype=bool)
    bits[items] = True
    return bits


def measured(
    search: ItemSearch, index: FaissIndex | None, data: Data, bits: np.ndarray, selectivity: float, clustered: bool
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
    if index is not None and index.lists:
        lists = [Probes(*index.probes(query[None], K), 0.0) for query in data.queries]
        questions = zip(data.queries, lists, strict=True)
        alone = [index.search(query[None], K, mask, probes)[1][0] for query, probes in questions]
        point["index_alone_recall@100"] = round(recall(alone, truth), 4)
    say(str(point))
    return point


def exact(data: Data, mask: ItemMask) -> list[np.ndarray]:
    """Return each query's best allowed items, by comparing all of them."""
    best: list[np.ndarray] = []
    allowed = data.vectors[mask.items].T
    for start in range(0, len(data.queries), 20):
        scores = data.queries[start : start + 20] @ allowed
        k = min(K, mask.count)
        best += [mask.items[row_scores.argpartition(mask.count - k)[mask.count - k :]] for row_scores in scores]
    return best


def recall(answers: list[np.ndarray], truth: list[np.ndarray]) -> float:
    """Return the mean share of the right items that were found."""
    return float(
        np.mean([len(np.intersect1d(left, right)) / len(right) for left, right in zip(answers, truth, strict=True)])
    )


def say(text: str) -> None:
    """Print progress."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    main()
