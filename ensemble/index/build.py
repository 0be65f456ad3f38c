"""Builds a FAISS index of the kind that the recipe names, or of the kind that measures best."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple

import faiss
import numpy as np

from ensemble.config import Index
from ensemble.index.building import Building, Built, Queries
from ensemble.index.kmeans import assign, centroids
from ensemble.index.tuning import AT, Point, Sample, measured, summed_up, timed, tuned
from ensemble.serving.files.faiss_file import parts_of
from ensemble.serving.files.release import Release
from ensemble.serving.index.engine import PARAMETERS
from ensemble.serving.index.engines import ENGINES
from ensemble.serving.index.faiss_index import FaissIndex, faiss_metric
from ensemble.serving.index.vectors import normalised
from ensemble.serving.search.search import ItemSearch, no_exclusions
from workflows.errors import ReleaseError
from workflows.files import json_bytes
from workflows.progress import Progress, silent

COMPARED_ITEMS = 32_768
"""`auto` compares all of a catalogue up to this size: that takes microseconds, and is exact."""
GRAPH_ITEMS = 200_000
"""`auto` builds no HNSW beyond this size: it takes minutes, and is slower than IVF."""
ALIKE = 1.1
"""Times that differ by less count as equal."""
LEVELS = (0.9, 0.95, 0.99)
"""Recall at which the frontier is measured, besides the recipe's target."""
_REFINE = {"ivf_flat": (1.0,), "ivf_sq8": (1.1,), "ivf_pq": (4.0, 10.0), "hnsw": (1.2,)}
_FACTORY = {"ivf_flat": "IVF{nlist},Flat", "ivf_sq8": "IVF{nlist},SQ8", "ivf_pq": "IVF{nlist},PQ{m}x4fsr"}
_TRAINED_ON = {"ivf_flat": 1, "ivf_sq8": 16_384, "ivf_pq": 65_536, "hnsw": 16_384}
"""Items from which the codes are learned."""
_FLAT_QUERIES = 30
_Array = np.ndarray


class Clustered(NamedTuple):
    """The inverted lists that all IVF kinds share."""

    centroids: _Array
    of_item: _Array
    seconds: float


def build_index(
    vectors: _Array,
    config: Index,
    queries: Queries = None,
    progress: Progress = silent,
    draft: Callable[[], Release] | None = None,
) -> Built:
    """Build the index that a recipe asks for, of item vectors, float32 [items, d].

    `queries` measure what `config` leaves open: query vectors, float32 [n, d], of which QUERIES are used, or a function
    that returns them; by default items are asked for their neighbours. `draft` returns the unfinished release, for
    engines that need more of it than its vectors. Raise ReleaseError if the settings do not fit, or the engine refuses
    the items.
    """
    _check(config)
    building = Building(np.ascontiguousarray(vectors, dtype=np.float32), config, queries, progress, draft)
    if config.kind == "flat" or config.device == "gpu" or (config.kind == "auto" and len(vectors) <= COMPARED_ITEMS):
        flat = {"kind": "flat", "is_exact": True, "device": config.device}
        return Built(None, building.stated(**flat, target_met=True, search={}, frontier=[]))
    if config.kind in ENGINES:
        built: Built = import_module(f"ensemble.index.{config.kind}").build(building)
        return built
    choice = _Choice(building)
    for kind in _kinds(config, len(vectors)):
        choice.try_kind(kind)
    return choice.made()


def write_index(
    draft: Callable[[], Release], config: Index, pairing: str, queries: Queries, progress: Progress
) -> None:
    """Build the index of an unfinished release into the release's directory; raises as `build_index` does."""
    out = draft().path
    vectors = np.load(out / "items/vectors.npy", mmap_mode="r", allow_pickle=False).view(np.ndarray)
    built = build_index(vectors, config, queries, progress, draft)
    built.write(out)
    (out / PARAMETERS).write_bytes(json_bytes({**built.parameters, "pairing": pairing}))


def config_of(parameters: dict[str, Any]) -> Index:
    """Return a configuration that builds the same kind of index again."""
    names = ("kind", "metric", "device", "recall_target", "structure")
    used = {name: parameters[name] for name in names if name in parameters}
    if "collection" in parameters:
        used["collection"] = parameters["collection"].rpartition("_")[0]
    return Index(**used)


class _Choice:
    """The frontier so far, and the best index on it."""

    def __init__(self, building: Building) -> None:
        self._building, self._config, self._vectors = building, building.config, building.vectors
        self._sample, self._progress = building.sample(), building.progress
        self._lists: Clustered | None = None
        self._frontier: list[Point] = []
        self._best: tuple[Point, bytes | None] | None = None
        if self._config.kind == "auto":
            self._consider(_flat_point(self._vectors, self._sample), None)

    def try_kind(self, kind: str) -> None:
        """Build one kind and measure its searches."""
        config, started = self._config, time.perf_counter()
        paid = self._lists.seconds if self._lists is not None and kind != "hnsw" else 0.0
        self._progress(f"building and measuring {kind}")
        if kind != "hnsw" and self._lists is None:
            self._lists = clustered(self._vectors, config)
        index = filled(self._vectors, config, kind, self._lists)
        spent = paid + time.perf_counter() - started
        content = faiss.serialize_index(index).tobytes()
        if config.kind == "auto" and len(content) > (config.memory_budget_mb or math.inf) * 1e6:
            self._progress(f"{kind} takes {len(content) / 1e6:.0f} MB, more than memory_budget_mb")
            return
        for searched in _searches(kind, index, self._vectors, self._sample, config):
            self._consider(measured(searched, self._sample, len(content) / 1e6, spent), content)

    def _consider(self, point: Point, content: bytes | None) -> None:
        self._frontier.append(point)
        if self._best is None or self._is_better(point, self._best[0]):
            self._best = point, content

    def _is_better(self, point: Point, other: Point) -> bool:
        """Return whether to prefer `point`: it meets the target, is quicker, or smaller and about as quick."""
        target = self._config.recall_target
        if (point.sure >= target) != (other.sure >= target):
            return point.sure >= target
        if point.sure < target:
            return point.sure > other.sure
        return point.mean_us < other.mean_us * (ALIKE if point.memory_mb < other.memory_mb else 1 / ALIKE)

    def made(self) -> Built:
        """Return the best index."""
        if self._best is None:
            raise ReleaseError(
                f"[index] kind = '{self._config.kind}': no search of it finds {self._config.recall_target:.0%}; lower "
                "recall_target, or take kind = 'auto' or 'flat'"
            )
        point, content = self._best
        own = {"kind": point.kind, "is_exact": point.kind == "flat", "device": self._config.device}
        return Built(content, self._building.stated(**own, **self._building.measures(point, self._frontier)))


def clustered(vectors: _Array, config: Index) -> Clustered:
    """Cluster the items, float32 [items, d], into the recipe's number of lists."""
    started = time.perf_counter()
    data = normalised(vectors) if config.metric == "cosine" else vectors
    nlist = config.nlist or max(1, min(round(4 * math.sqrt(len(data))), len(data) // 40))
    spherical = config.metric != "l2"
    centres = centroids(data, min(nlist, len(data)), spherical=spherical)
    of_item = assign(data, centres, spherical=spherical)
    return Clustered(centres, of_item, time.perf_counter() - started)


def filled(vectors: _Array, config: Index, kind: str, lists: Clustered | None) -> Any:
    """Return a FAISS index of one kind with the items, float32 [items, d]; all but `hnsw` need their lists."""
    data = normalised(vectors) if config.metric == "cosine" else vectors
    metric, trained_on = faiss_metric(config.metric), data[:: max(1, len(data) // _TRAINED_ON[kind])]
    if lists is None or kind == "hnsw":
        index = faiss.index_factory(data.shape[1], f"HNSW{config.links}_SQ8", metric)
        index.train(trained_on)
        index.add(data)
        return index
    text = _FACTORY[kind].format(nlist=len(lists.centroids), m=parts_of(data.shape[1]))
    index = faiss.index_factory(data.shape[1], text, metric)
    if kind == "ivf_pq":
        return _fast_scan(index, data, trained_on, lists)
    index.quantizer.add(lists.centroids)
    index.train(trained_on)
    index.add_core(len(data), faiss.swig_ptr(data), None, faiss.swig_ptr(lists.of_item))
    return index


def _fast_scan(index: Any, data: _Array, trained_on: _Array, lists: Clustered) -> Any:
    """Train and fill a fast-scan index, which finds each item's list itself among a few candidates."""
    flat, groups = index.quantizer, max(1, len(lists.centroids) // 40)
    among = faiss.IndexIVFFlat(
        faiss.IndexFlat(data.shape[1], index.metric_type), data.shape[1], groups, index.metric_type
    )
    among.train(lists.centroids)
    among.add(lists.centroids)
    among.make_direct_map()  # residuals are of reconstructed centroids
    among.nprobe = max(8, groups // 8)
    flat.add(lists.centroids)
    own, index.own_fields = index.own_fields, False
    index.quantizer = among
    index.train(trained_on)
    index.add(data)
    index.quantizer, index.own_fields = flat, own
    return index


def _searches(kind: str, index: Any, vectors: _Array, sample: Sample, config: Index) -> list[FaissIndex]:
    """Return the index with each set of search parameters that is worth measuring."""
    factors = (config.refine_factor,) if config.refine_factor else _REFINE[kind]
    fixed = {"ef": config.ef} if kind == "hnsw" else {"nprobe": config.nprobe}
    if all(fixed.values()):
        base = {"kind": kind, "metric": config.metric}
        searches = [{**fixed, "refine_factor": factor} for factor in factors]
        return [FaissIndex(index, vectors, {**base, "search": search}) for search in searches]
    levels = sorted({config.recall_target, *(LEVELS if config.kind == "auto" else ())})
    indexes = [tuned(kind, index, vectors, sample, factor, level) for factor in factors for level in levels]
    return [searched for searched in indexes if searched is not None]


def _flat_point(vectors: _Array, sample: Sample) -> Point:
    scan = ItemSearch(vectors, metric=sample.metric)
    k = np.array([min(AT[-1], len(vectors))])
    times = timed(lambda query: scan.nearest(query, k, *no_exclusions()), sample.queries[:_FLAT_QUERIES])
    return Point("flat", {}, dict.fromkeys(AT, 1.0), 1.0, *summed_up(times), 0.0, 0.0)


def _kinds(config: Index, items: int) -> tuple[str, ...]:
    if config.kind != "auto":
        return (config.kind,)
    return ("ivf_sq8", "ivf_flat", "ivf_pq", *(("hnsw",) if items <= GRAPH_ITEMS else ()))


def _check(config: Index) -> None:
    """Raise ReleaseError for settings that the kind does not have."""
    kind = config.structure if config.kind == "milvus" else config.kind
    foreign = {"ef": kind != "hnsw", "nprobe": not kind.startswith("ivf"), "uri": config.kind != "milvus"}
    foreign["refine_factor"] = config.kind in ("auto", "flat", "milvus")
    for name, wrong in foreign.items():
        if wrong and getattr(config, name) is not None:
            raise ReleaseError(f"[index] {name}: kind '{config.kind}' does not have it; remove it or change the kind")
    if config.device == "gpu" and config.kind not in ("auto", "flat"):
        raise ReleaseError(
            f"[index] kind '{config.kind}' on a GPU: expected 'auto' or 'flat', which compare all items there in less "
            "time than lists take"
        )
