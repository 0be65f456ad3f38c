"""Item indexes beside each other: what `auto` chooses, the kinds that it chooses from, FAISS's own, and ScaNN.

    .venv/bin/python -m benchmarks.search.index            # a million items: about ten minutes
    .venv/bin/python -m benchmarks.search.index --quick    # 20,000 items

Every index is tuned to find 95 % and 99 % of the true 100 nearest on one sample of queries, and measured on another:
one query at a time, one thread, all indexes in turns over the same few queries, so that a machine that gets slower or
faster meanwhile does so for all. Times are of the whole call, exact scores and order included. Memory is what it takes
to answer, the item vectors included. ScaNN is asked by its own package, with the settings of its own documentation.
Data: benchmarks/search/vectors.py. Results: benchmarks/results/index.json.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import faiss
import numpy as np

from benchmarks.harness import Parser, machine, write
from benchmarks.search.vectors import make_vectors
from ensemble.config import Index
from ensemble.index.build import build_index, clustered, filled
from ensemble.index.building import sample_of
from ensemble.index.tuning import AT, Sample, nearest, one_thread, sure, tuned
from ensemble.serving.index.faiss_index import FaissIndex, read_index
from ensemble.serving.search.search import ItemSearch, no_exclusions
from retrieval.console import Terminal, terminal

TARGETS = (0.95, 0.99)
LEAVES, REORDER = (40, 60, 80, 100, 130, 160, 200, 260, 330, 420), (300, 500, 800, 1200)
"""Settings of ScaNN that are tried."""
TUNING = 500
"""Queries besides those that are measured."""
BLOCK, FLAT_QUERIES = 25, 50
REFINE = {"ivf_flat": 1.0, "ivf_sq8": 1.1, "ivf_pq": 10.0, "hnsw": 1.2}


class Contender(NamedTuple):
    """An index, tuned, that answers."""

    kind: str
    target: float
    search: Callable[[np.ndarray], np.ndarray]
    """From one query, float32 [1, d], to the items found, [1, k]."""
    facts: dict[str, Any]
    """`build_s`, `memory_mb` and the parameters."""

    def asked(self, queries: np.ndarray) -> tuple[list[float], np.ndarray]:
        """Return the seconds of each query, one at a time, and the items found."""
        seconds, answers = [], []
        for row in range(len(queries)):
            began = time.perf_counter()
            answers.append(self.search(queries[row : row + 1]))
            seconds.append(time.perf_counter() - began)
        return seconds, np.concatenate(answers)


def main() -> None:
    """Build, tune, measure in turns and write the results."""
    options = Parser(__doc__, "index").options()
    items, queries = (20_000, 100) if options.quick else (1_000_000, 1000)
    with terminal() as out, tempfile.TemporaryDirectory() as folder:
        points = Bench(Path(folder), items, queries, out).run()
        write(options.out, points)
        out.json(points)


class Bench:
    """One data set and everything that is measured on it."""

    def __init__(self, folder: Path, items: int, queries: int, out: Terminal) -> None:
        self.folder, self.out = folder, out
        data = make_vectors(items, queries + TUNING)
        self.vectors, self.tuning = data.vectors, data.queries[queries:]
        test_queries = np.ascontiguousarray(data.queries[:queries])
        out.say(f"{items:,} items; exact search for {queries} queries")
        self.sample = Sample(
            test_queries, nearest(data.vectors, test_queries, AT[-1], "inner_product"), data.vectors, "inner_product"
        )

    def run(self) -> list[dict[str, Any]]:
        """Return one point per index and target."""
        return self.measured([self.flat(), *self.automatic(), *self.named(), *self.scann()])

    def flat(self) -> Contender:
        """All items compared."""
        scan = ItemSearch(self.vectors)
        k = np.array([AT[-1]])
        facts = {"build_s": 0.0, "memory_mb": self.vectors.nbytes / 1e6}
        return Contender("flat", 1.0, lambda query: scan.nearest(query, k, *no_exclusions()).item_index, facts)

    def automatic(self) -> list[Contender]:
        """What `auto` builds for each target, mapped from its file as a server does."""
        contenders = []
        for target in TARGETS:
            started = time.perf_counter()
            built = build_index(self.vectors, Index(kind="auto", recall_target=target), self.tuning, self.out.step)
            spent = time.perf_counter() - started
            self.out.say(f"auto for {target}: {built.parameters['kind']} {built.parameters['search']}, {spent:.0f} s")
            content = built.content or b""
            place = self.folder / f"{target}.faiss"
            place.write_bytes(content)
            facts = self.facts(spent, len(content), built.parameters["search"])
            facts = {**facts, "chosen": built.parameters["kind"], "frontier": built.parameters["frontier"]}
            if built.content is None:
                contenders.append(self.flat()._replace(kind="auto", target=target, facts=facts))
                continue
            index = FaissIndex(read_index(place, built.parameters["kind"]), self.vectors, built.parameters)
            contenders.append(self.by_index("auto", target, index, facts))
        return contenders

    def named(self) -> list[Contender]:
        """Each kind, tuned for each target."""
        config, contenders = Index(links=16), []  # 32, the default, takes minutes more to build
        sample = sample_of(self.vectors, self.tuning, config.metric)
        lists = clustered(self.vectors, config)
        for kind in REFINE:
            started = time.perf_counter()
            index = filled(self.vectors, config, kind, lists)
            spent = time.perf_counter() - started + (0 if kind == "hnsw" else lists.seconds)
            self.out.say(f"{kind}: built in {spent:.0f} s")
            size = len(faiss.serialize_index(index))
            for target in TARGETS:
                built = tuned(kind, index, self.vectors, sample, REFINE[kind], target)
                if built is not None:
                    contenders.append(self.by_index(kind, target, built, self.facts(spent, size, built.settings)))
            if kind == "ivf_sq8":
                contenders += self.without_margin(index, sample, spent, size)
        return contenders

    def without_margin(self, index: Any, sample: Sample, spent: float, size: int) -> list[Contender]:
        """IVF as FAISS has it: the same number of lists for every query."""
        contenders = []
        for target in TARGETS:
            for nprobe in (round(16 * 2 ** (step / 4)) for step in range(28)):
                search = {"nprobe": nprobe, "refine_factor": REFINE["ivf_sq8"]}
                parameters = {"kind": "ivf_sq8", "metric": "inner_product", "search": search}
                faiss_index = FaissIndex(index, self.vectors, parameters)
                if sure(sample.recalls(faiss_index.search(sample.queries, AT[-1])[1])) >= target:
                    facts = self.facts(spent, size, search)
                    contenders.append(self.by_index("ivf_sq8, fixed nprobe", target, faiss_index, facts))
                    break
        return contenders

    def facts(self, build_s: float, size: int, search: dict[str, Any]) -> dict[str, Any]:
        """Return what is known before measuring."""
        return {"build_s": round(build_s, 1), "memory_mb": (size + self.vectors.nbytes) / 1e6, "search": search}

    def by_index(self, kind: str, target: float, index: FaissIndex, facts: dict[str, Any]) -> Contender:
        """Return the contender that asks an index of ours."""
        return Contender(kind, target, lambda query: index.search(query, AT[-1])[1], facts)

    def scann(self) -> list[Contender]:
        """ScaNN, the quickest settings for each target (docs/algorithms.md there: leaves by the root of the items)."""
        sys.modules["tensorflow"] = None  # type: ignore[assignment]  # its operators would not fit our TensorFlow
        from scann import scann_ops_pybind

        leaves, started = max(100, 2 * round(len(self.vectors) ** 0.5)), time.perf_counter()
        searcher = (
            scann_ops_pybind.builder(self.vectors, AT[-1], "dot_product")
            .set_n_training_threads(os.cpu_count() or 1)
            .tree(leaves, 100, training_sample_size=min(len(self.vectors), 250_000))
            .score_ah(2, anisotropic_quantization_threshold=0.2)
            .reorder(AT[-1])
            .build()
        )
        spent = time.perf_counter() - started
        self.out.say(f"scann: built in {spent:.0f} s, {leaves} leaves")
        searcher.serialize(str(self.folder))
        size = sum(file.stat().st_size for file in self.folder.glob("*.npy"))  # the vectors among them

        def of(target: float, read: int, reorder: int) -> Contender:
            settings = {"leaves": read, "reorder": reorder}
            facts = {"build_s": round(spent, 1), "memory_mb": size / 1e6, "search": settings}
            return Contender(
                "scann", target, lambda query: searcher.search(query[0], AT[-1], reorder, read)[0][None], facts
            )

        sample = sample_of(self.vectors, self.tuning, "inner_product")
        half = sample._replace(queries=sample.queries[: TUNING // 2], truth=sample.truth[: TUNING // 2])
        tried = []
        for settings in product(LEAVES, REORDER):
            seconds, items = of(1.0, *settings).asked(half.queries)
            tried.append((float(np.median(seconds)), float(half.recalls(items)[AT[-1]].mean()), settings))
        met = {target: [point for point in tried if point[1] >= target] for target in TARGETS}
        return [of(target, *min(points)[2]) for target, points in met.items() if points]

    def measured(self, contenders: list[Contender]) -> list[dict[str, Any]]:
        """Ask all in turns, a few queries each; return the points."""
        times: list[list[float]] = [[] for _ in contenders]
        answers: list[list[np.ndarray]] = [[] for _ in contenders]
        self.out.say(f"{len(contenders)} indexes, {len(self.sample.queries)} queries each, in turns")
        with one_thread():
            for contender in contenders:
                contender.asked(self.sample.queries[:BLOCK])  # so that none pays for a first time
            for start in range(0, len(self.sample.queries), BLOCK):
                for number, contender in enumerate(contenders):
                    if contender.kind == "flat" and start >= FLAT_QUERIES:
                        continue
                    seconds, items = contender.asked(self.sample.queries[start : start + BLOCK])
                    times[number] += seconds
                    answers[number].append(items)
        return list(map(self.point, contenders, times, answers))

    def point(self, contender: Contender, seconds: list[float], answers: list[np.ndarray]) -> dict[str, Any]:
        """Return the figures of one contender."""
        items = np.concatenate(answers)
        sample = self.sample._replace(queries=self.sample.queries[: len(items)], truth=self.sample.truth[: len(items)])
        micros = np.array(seconds) * 1e6
        facts = {**contender.facts, "memory_mb": round(contender.facts["memory_mb"], 1)}
        return {
            "items": len(self.vectors),
            "kind": contender.kind,
            "recall_target": contender.target,
            **{f"recall@{k}": round(float(recalls.mean()), 5) for k, recalls in sample.recalls(items).items()},
            "p50_us": round(float(np.median(micros)), 1),
            "p99_us": round(float(np.percentile(micros, 99)), 1),
            "mean_us": round(float(micros.mean()), 1),
            **facts,
            "queries": len(items),
            "machine": machine("faiss-cpu", "scann"),
        }


if __name__ == "__main__":
    main()
