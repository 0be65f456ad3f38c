"""Item indexes beside each other: what `auto` chooses, the kinds that it chooses from, FAISS's own, and ScaNN.

    .venv/bin/python -m benchmarks.search.index            # a million items: about ten minutes
    .venv/bin/python -m benchmarks.search.index --quick    # 20,000 items, without ScaNN

Every index is tuned to find 95 % and 99 % of the true 100 nearest on one sample of queries, and measured on another:
one query at a time, one thread, all indexes in turns over the same few queries, so that a machine that gets slower or
faster meanwhile does so for all. Times are of the whole call, exact scores and order included. Memory is what it takes
to answer, the item vectors included. ScaNN needs NumPy 2 and gets an environment of its own (made by uv in the cache
directory), in which benchmarks/search/scann_worker.py answers. Data: benchmarks/search/vectors.py. Results:
benchmarks/results/index.json.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
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
from workflows.sources.download import cache_directory

TARGETS = (0.95, 0.99)
SCANN = "scann==1.4.2"
LEAVES, REORDER = (40, 60, 80, 100, 130, 160, 200, 260, 330, 420), (300, 500, 800, 1200)
BLOCK, FLAT_QUERIES = 25, 50
REFINE = {"ivf_flat": 1.0, "ivf_sq8": 1.1, "ivf_pq": 10.0, "hnsw": 1.2}

Answer = Callable[[int, int], tuple[list[float], np.ndarray]]
"""From and to of the test queries to seconds of each and the items found."""


class Contender(NamedTuple):
    """An index, tuned, that answers."""

    kind: str
    target: float
    answer: Answer
    facts: dict[str, Any]
    """`build_s`, `memory_mb` and the parameters."""


def main() -> None:
    """Build, tune, measure in turns and write the results."""
    parser = Parser(__doc__, "index")
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=1000, help="measured, besides 500 for tuning")
    parser.add_argument("--without", action="append", default=[], choices=["hnsw", "ivf_pq", "ivf_flat", "scann"])
    options = parser.options()
    if options.quick:  # ScaNN would be installed first
        options.items, options.queries, options.without = 20_000, 100, [*options.without, "hnsw", "scann"]
    with terminal() as out, tempfile.TemporaryDirectory() as folder:
        points = Bench(Path(folder), options.items, options.queries, out).run(options.without)
        write(options.out, points)
        out.json(points)


class Bench:
    """One data set and everything that is measured on it."""

    def __init__(self, folder: Path, items: int, queries: int, out: Terminal) -> None:
        self.folder, self.out = folder, out
        data = make_vectors(items, queries + 500)
        self.vectors, self.tuning = data.vectors, data.queries[queries:]
        test_queries = np.ascontiguousarray(data.queries[:queries])
        out.say(f"{items:,} items; exact search for {queries} queries")
        self.sample = Sample(
            test_queries, nearest(data.vectors, test_queries, AT[-1], "inner_product"), data.vectors, "inner_product"
        )
        np.save(folder / "vectors.npy", data.vectors)
        np.save(folder / "queries.npy", np.concatenate([test_queries, self.tuning]))

    def run(self, without: list[str]) -> list[dict[str, Any]]:
        """Return one point per index and target."""
        scann = None if "scann" in without else Scann.start(self.folder, len(self.vectors), self.out)
        contenders = [self.flat(), *self.automatic(), *self.named(without)]
        if scann is not None:
            contenders += scann.tuned(sample_of(self.vectors, self.tuning, "inner_product"), len(self.sample.queries))
        try:
            return self.measured(contenders)
        finally:
            if scann is not None:
                scann.stop()

    def flat(self) -> Contender:
        """All items compared."""
        scan = ItemSearch(self.vectors)
        k = np.array([AT[-1]])
        facts = {"build_s": 0.0, "memory_mb": self.vectors.nbytes / 1e6}
        return self.in_process("flat", 1.0, lambda query: scan.nearest(query, k, *no_exclusions()).item_index, facts)

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

    def named(self, without: list[str]) -> list[Contender]:
        """Each kind, tuned for each target."""
        config, contenders = Index(links=16), []  # 32, the default, takes minutes more to build
        sample = sample_of(self.vectors, self.tuning, config.metric)
        lists = clustered(self.vectors, config)
        for kind in (name for name in REFINE if name not in without):
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
        return self.in_process(kind, target, lambda query: index.search(query, AT[-1])[1], facts)

    def in_process(
        self, kind: str, target: float, search: Callable[[np.ndarray], np.ndarray], facts: dict[str, Any]
    ) -> Contender:
        """Return the contender that answers in this process."""

        def answer(start: int, stop: int) -> tuple[list[float], np.ndarray]:
            seconds, answers = [], []
            for row in range(start, stop):
                query = self.sample.queries[row : row + 1]
                began = time.perf_counter()
                answers.append(search(query))
                seconds.append(time.perf_counter() - began)
            return seconds, np.concatenate(answers)

        return Contender(kind, target, answer, facts)

    def measured(self, contenders: list[Contender]) -> list[dict[str, Any]]:
        """Ask all in turns, a few queries each; return the points."""
        times: list[list[float]] = [[] for _ in contenders]
        answers: list[list[np.ndarray]] = [[] for _ in contenders]
        self.out.say(f"{len(contenders)} indexes, {len(self.sample.queries)} queries each, in turns")
        with one_thread():
            for contender in contenders:
                contender.answer(0, BLOCK)  # so that none pays for a first time
            for start in range(0, len(self.sample.queries), BLOCK):
                for number, contender in enumerate(contenders):
                    if contender.kind == "flat" and start >= FLAT_QUERIES:
                        continue
                    seconds, items = contender.answer(start, min(start + BLOCK, len(self.sample.queries)))
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
            "machine": {**machine("faiss-cpu"), "scann": SCANN.split("==")[1]},
        }


class Scann:
    """ScaNN in its own process."""

    def __init__(self, process: subprocess.Popen[str], out: Terminal) -> None:
        self._process, self._out = process, out
        self._built = self._read()
        out.say(f"ScaNN built in {self._built['build_s']:.0f} s")

    @classmethod
    def start(cls, folder: Path, items: int, out: Terminal) -> Scann | None:
        """Make the environment where there is none, start the worker and wait until it has built."""
        python = scann_environment(out)
        if python is None:
            return None
        leaves = max(100, 2 * round(items**0.5))
        command = [str(python), str(Path(__file__).with_name("scann_worker.py")), "--leaves", str(leaves)]
        command += ["--vectors", str(folder / "vectors.npy"), "--queries", str(folder / "queries.npy")]
        command += ["--threads", str(os.cpu_count() or 1)]
        out.say(f"building ScaNN, {leaves} leaves")
        process = subprocess.Popen(
            command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        return cls(process, out)

    def tuned(self, sample: Sample, first: int) -> list[Contender]:
        """Return the quickest settings for each target on the tuning queries, which are those from row `first` on."""
        # The sample holds the same queries in the same order.
        grid: dict[tuple[int, int], tuple[float, float]] = {}
        best: dict[float, tuple[float, tuple[int, int]]] = {}
        for leaves, reorder in product(LEAVES, REORDER):
            seconds, items = self._ask(first, first + len(sample.queries) // 2, leaves, reorder)
            half = sample._replace(queries=sample.queries[: len(items)], truth=sample.truth[: len(items)])
            grid[leaves, reorder] = float(half.recalls(items)[AT[-1]].mean()), float(np.median(seconds))
        for target, (settings, (recall, median)) in product(TARGETS, grid.items()):
            if recall >= target and median < best.get(target, (np.inf, settings))[0]:
                best[target] = median, settings
        return [self._contender(target, *settings) for target, (_, settings) in best.items()]

    def stop(self) -> None:
        """End the worker."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _contender(self, target: float, leaves: int, reorder: int) -> Contender:
        facts = {"build_s": round(self._built["build_s"], 1), "memory_mb": self._built["memory_mb"]}
        facts["search"] = {"leaves": leaves, "reorder": reorder}

        def answer(start: int, stop: int) -> tuple[list[float], np.ndarray]:
            return self._ask(start, stop, leaves, reorder)

        return Contender("scann", target, answer, facts)

    def _ask(self, start: int, stop: int, leaves: int, reorder: int) -> tuple[list[float], np.ndarray]:
        assert self._process.stdin is not None
        ask = {"start": start, "stop": stop, "leaves": leaves, "reorder": reorder}
        self._process.stdin.write(json.dumps(ask) + "\n")
        self._process.stdin.flush()
        answer = self._read()
        return answer["seconds"], np.array(answer["items"], dtype=np.int64)

    def _read(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("the ScaNN worker ended; run benchmarks/search/scann_worker.py by itself to see why")
        return json.loads(line)


def scann_environment(out: Terminal) -> Path | None:
    """Return the interpreter that has ScaNN; None where it cannot be installed."""
    place = cache_directory() / "scann"
    python, mark = place / "bin" / "python", place / SCANN
    uv = shutil.which("uv") or str(Path(sys.executable).with_name("uv"))
    if mark.exists():
        return python
    out.say(f"installing {SCANN}")
    try:
        subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, "--clear", str(place)], check=True)
        subprocess.run([uv, "pip", "install", "--quiet", "--python", str(python), SCANN], check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        out.say(f"ScaNN is left out: {error}")
        return None
    mark.touch()
    return python


if __name__ == "__main__":
    main()
