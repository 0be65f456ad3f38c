"""The release's FAISS index: candidates among many items, much faster than comparing all of them.

FAISS returns more candidates than wanted, by shortened codes; the items' own vectors, which every process maps anyway,
decide among them. So scores are exact, summed in an order that does not depend on the batch, and ties are in catalogue
order; only whether an item is among the candidates is approximate.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InvalidRelease
from ..files.faiss_file import Expected, check_file
from ..files.parameters import Fields
from ..files.release import Release
from ..files.schema import Schema, choice, integer, object_of, or_null, real, taken
from ..search.masks import ItemMask
from . import costs
from .engine import COMMON, LARGEST, OPTIONAL, PARAMETERS, Engine, Plan
from .inverted_lists import Lists, Probes
from .lazy_faiss import faiss
from .vectors import normalised

FILE = "index/items.faiss"
KINDS = ("flat", "ivf_flat", "ivf_sq8", "ivf_pq", "hnsw")
TUNED_FOR = 100
"""The largest k that the search parameters were chosen for; a search that goes deeper looks further."""
_SIFTED_PART = 8
_BLAS_QUERIES = 20
_Array = np.ndarray
REFINE = real(1.0, LARGEST)
_OWN: Schema = {
    "device": choice("cpu", "gpu"),
    "search": object_of(
        {},
        {
            "nprobe": integer(1, (1 << 31) - 1),
            "ef": integer(1, (1 << 31) - 1),
            "refine_factor": REFINE,
            "margin": or_null(real(0.0, LARGEST)),
            "compared": real(0.0, LARGEST),
        },
    ),
}


class FaissIndex(Engine):
    """An approximate index over the first `items` rows of the catalogue's vectors."""

    most_removed = 64

    def __init__(self, index: Any, vectors: _Array, parameters: Mapping[str, Any]) -> None:
        """Take a FAISS index, the vectors that it was built on, float32 [items, d], and `kind`, `metric` and `search`.

        `search`: at most `nprobe` lists are read, and of these only those whose centroid scores within `margin` of the
        best one (per unit of the query's length; None: all), so that a query in the middle of a cluster reads few. Or
        `ef`. `refine_factor` candidates per wanted item are compared exactly. `compared`: items that a search reads.
        """
        super().__init__(vectors, parameters, int(index.ntotal))
        settings = self.settings
        self.is_exact = self.kind == "flat"  # on a GPU; elsewhere a flat index is none at all
        self._index = index
        self._refine = float(settings.get("refine_factor", 1.0))
        self.lists = int(index.nlist) if self.kind.startswith("ivf") else 0
        self._effort = int(settings.get("ef" if self.kind == "hnsw" else "nprobe", 1))
        self._margin: float | None = settings.get("margin")
        self._compared = float(settings.get("compared", math.inf))
        # Fast scan knows no filters, and a graph whose nodes are not allowed leads nowhere: both are asked for more, of
        # which the allowed ones are taken.
        self._selects = self.kind in ("ivf_flat", "ivf_sq8") and parameters.get("device", "cpu") == "cpu"
        self._quantizer: Any = index.quantizer if self.lists else None
        self._centroids: _Array | None = None
        self._bias: _Array | None = None

    def candidates(
        self, queries: _Array, fetch: int, mask: ItemMask | None = None, removed: int = 0, probes: Probes | None = None
    ) -> _Array:
        """Return candidates; see `Engine`. A `mask` already leaves the removed ones out; without it more are fetched.

        `probes`: the lists to read with a mask, instead of those suggested by its share.
        """
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        allowed = self.items if mask is None else mask.count_first(self.items)
        if not allowed or not len(queries):
            return np.full((len(queries), 1), -1, dtype=np.int64)
        fetch += removed if mask is None else 0
        wide, depth = min(math.ceil(fetch * self._refine), self.items), fetch * self.items / allowed
        if probes is not None and mask is not None and self._selects:
            return self._read(queries, min(wide, allowed), probes[:2], _selector(mask))
        if mask is not None and not self._selects:
            return self._sifted(queries, wide, depth, mask, allowed)
        return self._asked(queries, min(wide, allowed), depth, mask)

    def plan(self, queries: _Array, fetch: int, mask: ItemMask | None, most: float) -> Plan | None:
        """Return the lists to read where there is a mask, if the index takes them; see `Engine`."""
        if mask is None or self._filtered is None:
            share = 1.0 if mask is None else mask.share
            cost = costs.CALL_NS + costs.INDEX_NS * self.reads(fetch / max(share, 1e-9))
            whole = cost + self._short()
            return Plan("index", None, len(queries) * whole) if share >= costs.OFTEN and cost < most else None
        cost = costs.CALL_NS + costs.LIST_NS * self.lists
        if cost >= most:
            return None
        probes = self._filtered.choose(queries, mask, fetch, costs.MISSING * (1 - self.recall_target))
        cost += costs.INDEX_NS * probes.reads
        return Plan("index", probes, len(queries) * (cost + self._short())) if cost < most else None

    def planning(self, mask: ItemMask) -> float:
        """Return the cost of counting the allowed items of every list."""
        return 0.0 if self._filtered is None else costs.COUNT_NS * mask.count

    def about(self, fetch: int, share: float) -> float:
        """Estimate the cost without looking where the items are: no less than a plan's if they are scattered."""
        return costs.CALL_NS + costs.LIST_NS * self.lists + costs.INDEX_NS * self.reads(fetch / max(share, 1e-9))

    @cached_property
    def _filtered(self) -> Lists | None:
        """Return what chooses the lists of a filtered search; None: the index does not take lists."""
        of_item = self.list_of_item() if self._selects else None
        return None if of_item is None else Lists(self.centroids(), of_item, self.vectors, self.metric)

    def _short(self) -> float:
        """Return the mean cost per query of comparing all items where the index returns too few."""
        dim = self.vectors.shape[1]
        return costs.SHORT * self.items * (dim * (costs.SCAN_NS + costs.MORE_NS) / 2 + costs.ORDER_NS)

    def _asked(self, queries: _Array, wide: int, depth: float, mask: ItemMask | None) -> _Array:
        """Return what FAISS finds, int64 [n, wide], padded with -1."""
        selector = None if mask is None else _selector(mask)
        if self.lists:
            return self._read(queries, wide, self.probes(queries, depth), selector)
        if self.kind == "flat":
            return self._index.search(queries, wide)[1]
        options = faiss.SearchParametersHNSW(sel=selector, efSearch=max(self._effort_at(depth), wide))
        return self._index.search(queries, wide, params=options)[1]

    def _read(self, queries: _Array, wide: int, probes: tuple[_Array, _Array], selector: Any) -> _Array:
        distances, lists = probes
        rows = np.empty((len(queries), wide), dtype=np.int64)
        scores = np.empty((len(queries), wide), dtype=np.float32)
        options, width = None, lists.shape[1]
        if self._selects:
            options = faiss.SearchParametersIVF(sel=selector, nprobe=width)
        else:
            self._index.nprobe = width  # fast scan knows no parameters
        pointers = map(faiss.swig_ptr, (lists, distances, scores, rows))
        # FAISS's own wrapper takes no parameters here.
        self._index.search_preassigned_c(len(queries), faiss.swig_ptr(queries), wide, *pointers, False, options)
        return rows

    def probes(self, queries: _Array, depth: float = 1.0) -> tuple[_Array, _Array]:
        """Return the lists to read for an answer of `depth` items, best first; -1 past the margin.

        float32 [n, m] and int64 [n, m]: FAISS's distance of each list's centroid, and the list.
        """
        most = min(self._effort_at(depth), self.lists)
        if self._margin is None:
            return self.nearest_centroids(queries, most)
        margin = self._margin * max(1.0, depth / TUNED_FOR)
        if len(queries) == 1:
            return self._probes_of_one(queries, most, margin)
        distances, lists = self.nearest_centroids(queries, most)
        far = distance_from_best(queries, distances, self.metric) > margin
        width = int(np.count_nonzero(~far, axis=1).max())
        lists[far] = -1
        return np.ascontiguousarray(distances[:, :width]), np.ascontiguousarray(lists[:, :width])

    def _probes_of_one(self, query: _Array, most: int, margin: float) -> tuple[_Array, _Array]:
        """Do the same for one query in a third of the time, by sorting only the lists within the margin."""
        if self._centroids is None:
            self._centroids = np.ascontiguousarray(self._quantizer.reconstruct_n(0, self.lists).T)
            self._bias = np.einsum("dc,dc->c", self._centroids, self._centroids) / 2 if self.metric == "l2" else None
        score, square = (query @ self._centroids)[0], float(query[0] @ query[0])
        if self._bias is not None:
            score -= self._bias
        else:
            margin *= math.sqrt(square)
        near = np.flatnonzero(score >= score.max() - margin)
        if len(near) > most:
            near = near[score[near].argpartition(-most)[-most:]]
        near_scores = score[near]
        order = (-near_scores).argsort()
        near_scores = near_scores[order][None, :]
        return square - 2 * near_scores if self._bias is not None else near_scores, near[order][None, :]

    def _effort_at(self, depth: float) -> int:
        """Return nprobe or efSearch for `depth` items that is as reliable as the tuned one for 100."""
        return math.ceil(self._effort * math.sqrt(max(1.0, depth / (2 * TUNED_FOR))))

    def reads(self, depth: float) -> float:
        """Estimate how many items a search compares per query."""
        if self.kind == "flat":
            return float(self.items)
        if not self.lists:
            return 30.0 * self._effort_at(depth)  # HNSW: each visited node has its neighbours compared
        most = min(1.0, self._effort_at(depth) / self.lists) * self.items
        return min(most, self._compared * max(1.0, depth / TUNED_FOR))

    def centroids(self) -> _Array:
        """Return the centroids of the inverted lists, float32 [lists, d]; for an IVF."""
        assert self._quantizer is not None
        return self._quantizer.reconstruct_n(0, self.lists)

    def nearest_centroids(self, queries: _Array, count: int) -> tuple[_Array, _Array]:
        """Return FAISS's distances, float32 [n, count], and the lists, int64 [n, count], best first; for an IVF."""
        return self._quantizer.search(queries, count)

    def list_of_item(self) -> _Array | None:
        """Return the inverted list of every item, int32 [items]; None: the index has no lists."""
        if not self.lists:
            return None
        lists, list_of = self._index.invlists, np.zeros(self.items, dtype=np.int32)
        for number in range(self.lists):
            if size := lists.list_size(number):
                list_of[faiss.rev_swig_ptr(lists.get_ids(number), size)] = number
        return list_of

    def _sifted(self, queries: _Array, wide: int, depth: float, mask: ItemMask, allowed: int) -> _Array:
        """Fetch more and more candidates until enough are allowed or they are a large part of all items."""
        factor = 1.3
        while True:
            more = min(math.ceil(wide * factor * self.items / max(1, allowed)), self.items)
            rows = self._asked(queries, more, depth * factor, None)
            rows = np.where((rows >= 0) & mask.holds(rows), rows, -1)
            enough = (rows >= 0).sum(axis=1).min() >= min(wide, allowed)
            if enough or 4 * more > self.items // _SIFTED_PART:
                return rows
            factor *= 4


def load(release: Release, parameters: Mapping[str, Any], vectors: _Array) -> FaissIndex | None:
    """Map the release's index; None: every item is compared; raise InvalidRelease where it does not fit them."""
    on_gpu = parameters.get("device", "cpu") == "gpu"
    if parameters["kind"] == "flat" and not on_gpu:
        return None
    if parameters["kind"] == "flat":
        index = flat_index(vectors, parameters["metric"])
    else:
        if not release.has(FILE):
            raise InvalidRelease(f"{release.path / FILE}: missing from the release")
        metric = faiss_metric(parameters["metric"])
        expected = Expected(parameters["kind"], parameters["items"], vectors.shape[1], metric)
        check_file(release.path / FILE, expected)
        index = read_index(release.path / FILE, parameters["kind"])
    faiss.omp_set_num_threads(release.manifest["serving"]["threads"])  # of the process
    _use_blas_for_batches(vectors.shape[1])
    loaded = FaissIndex(to_gpu(index, release.path / PARAMETERS) if on_gpu else index, vectors, parameters)
    _ = loaded._filtered  # now, so that no request waits for it
    return loaded


def _selector(mask: ItemMask) -> Any:
    return faiss.IDSelectorBitmap(mask.packed)


def read_index(place: Path, kind: str) -> Any:
    """Read a FAISS index from a file, with its inverted lists mapped if possible, so that processes share them.

    IVF without fast scan is mapped by every version of FAISS, HNSW by newer ones.
    """
    # FAISS maps inverted lists in one way and everything else, since 1.9, in another; each refuses the other's files.
    mapped = getattr(faiss, "IO_FLAG_MMAP_IFC", 0) if kind == "hnsw" else faiss.IO_FLAG_MMAP
    try:
        index = faiss.read_index(str(place), mapped | faiss.IO_FLAG_READ_ONLY)
    except RuntimeError as error:
        raise InvalidRelease(
            f"{place}: FAISS cannot read it: {str(error).splitlines()[-1]}; release it again"
        ) from None
    lists = faiss.downcast_InvertedLists(index.invlists) if hasattr(index, "invlists") else None
    if isinstance(lists, faiss.OnDiskInvertedLists):
        lists.prefetch_nthread = 0  # else every search starts threads, which take longer than the search
    return index


def flat_index(vectors: _Array, metric: str) -> Any:
    """Return FAISS's exact index of the vectors, float32 [items, d]."""
    index = faiss.IndexFlat(vectors.shape[1], faiss_metric(metric))
    index.add(normalised(vectors) if metric == "cosine" else np.ascontiguousarray(vectors))
    return index


def to_gpu(index: Any, place: Path) -> Any:
    """Return the index on the first GPU; raise InvalidRelease if FAISS or the machine has none."""
    if not hasattr(faiss, "StandardGpuResources") or not faiss.get_num_gpus():
        raise InvalidRelease(
            f"{place}: the index was released for a GPU, and this FAISS ({faiss.__version__}) sees none; install a "
            'faiss build with GPU support, or release it again with [index] device = "cpu"'
        )
    return faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), 0, index)


def _use_blas_for_batches(dim: int) -> None:
    """Let FAISS compare batches of `_BLAS_QUERIES` queries or more by matrix products, in this process.

    FAISS 1.8 does so from 20 queries on. 1.14 and 1.15 compare their threshold of 128,000 with queries x dimensions:
    query by query, 32 queries of 64 dimensions take twice the time over 4,096 centroids, and seven times over 200,000
    vectors.
    """
    faiss.cvar.distance_compute_blas_threshold = min(faiss.cvar.distance_compute_blas_threshold, _BLAS_QUERIES * dim)


def faiss_metric(metric: str) -> int:
    """Return FAISS's number of the metric; cosine is the inner product of normalised vectors."""
    return int(faiss.METRIC_L2 if metric == "l2" else faiss.METRIC_INNER_PRODUCT)


def distance_from_best(queries: _Array, distances: _Array, metric: str) -> _Array:
    """Return by how much each list's centroid scores less than the best one, [n, m], best first.

    `distances` are FAISS's: inner products, or squared distances, whose differences are twice those of the scores.
    Inner products are divided by the query's length, since scores grow with it.
    """
    if metric == "l2":
        return (distances - distances[:, :1]) / 2
    length = np.sqrt(np.einsum("nd,nd->n", queries, queries))
    return (distances[:, :1] - distances) / np.where(length > 0, length, 1)[:, None]


def check_parameters(fields: Fields) -> None:
    """Raise InvalidRelease, naming the field, unless these are the parameters of a FAISS index."""
    taken(fields, {**COMMON, "kind": choice(*KINDS), **_OWN}, OPTIONAL)
