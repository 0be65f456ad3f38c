"""The release's index: candidates among many items in well under the time that comparing all of them takes.

FAISS finds more candidates than wanted by shortened codes; the items' own vectors, which the release holds anyway and
which every process maps, decide among them. The scores are therefore exact, summed in an order that does not depend on
the batch, and ties stand in catalogue order: only whether an item is among the candidates is approximate.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from .errors import InvalidRelease
from .release import Release

FILE = "index/items.faiss"
PARAMETERS = "index/params.json"
KINDS = ("flat", "ivf_flat", "ivf_sq8", "ivf_pq", "hnsw")
METRICS = ("inner_product", "cosine", "l2")
TUNED_FOR = 100
"""The largest k that the search parameters were chosen for; a search that goes deeper looks further."""
_BLOCK_ROWS = 1 << 16  # candidates whose vectors are gathered at a time
_Array = np.ndarray


class ItemIndex:
    """An approximate index over the first `items` rows of the catalogue's vectors."""

    is_exact = False

    def __init__(self, index: Any, vectors: _Array, parameters: Mapping[str, Any]) -> None:
        """Take a FAISS index, the vectors it was built on, float32 [items, d], and `kind`, `metric` and `search`."""
        self.kind: str = parameters["kind"]
        self.metric: str = parameters["metric"]
        self.items = int(index.ntotal)
        self._index, self._vectors = index, vectors
        self._refine = float(parameters["search"].get("refine_factor", 1.0))
        self._effort = int(parameters["search"]["ef" if self.kind == "hnsw" else "nprobe"])
        self._lists = 0 if self.kind == "hnsw" else int(index.nlist)

    @classmethod
    def load(cls, release: Release) -> ItemIndex | None:
        """Map the release's index; None: it has none, every item is compared.

        Raises InvalidRelease when index, its parameters and the item vectors do not fit each other.
        """
        parameters = release.json(PARAMETERS)
        _check_parameters(parameters, release.path / PARAMETERS)
        if parameters["kind"] == "flat":
            return None
        index = read_index(release.path / FILE)
        vectors = release.array("items/vectors.npy")
        _check_index(index, parameters, vectors, release.path / FILE)
        faiss.omp_set_num_threads(release.manifest["serving"]["threads"])  # of the process
        return cls(index, vectors, parameters)

    def search(
        self, queries: _Array, fetch: int, mask: _Array | None = None, depth: float | None = None
    ) -> tuple[_Array, _Array]:
        """Return scores, float32 [n, fetch], and rows, int64 [n, fetch], best first; -inf and -1 past the end.

        `queries` are float32 [n, d]. With `mask`, bool [items], only items that are True are returned; the search goes
        as much deeper as they are rarer, or as if the last of the answers stood at rank `depth` among all items, for
        who knows that they are rarer near the query. A score is q.x, for cosine with x normalised, and for l2
        q.x - x.x / 2.
        """
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        allowed = self.items if mask is None else int(np.count_nonzero(mask))
        if not allowed or not len(queries):
            return _nothing(len(queries), fetch)
        wide = min(math.ceil(fetch * self._refine), self.items)
        depth = fetch * self.items / allowed if depth is None else depth
        if mask is None or self.kind != "ivf_pq":
            found = self._candidates(queries, min(wide, allowed), depth, mask)
        else:
            found = self._sifted(queries, wide, depth, mask)
        return self._ranked(queries, found, fetch)

    def _candidates(self, queries: _Array, wide: int, depth: float, mask: _Array | None) -> _Array:
        """Return candidates, int64 [n, wide], -1 where there are too few."""
        effort = self._effort_at(depth)
        selector = None if mask is None else faiss.IDSelectorBitmap(np.packbits(mask, bitorder="little"))
        if self.kind == "hnsw":
            options = faiss.SearchParametersHNSW(sel=selector, efSearch=max(effort, wide))
        elif self.kind == "ivf_pq":  # fast scan reads the index's own setting, and knows no selector
            self._index.nprobe, options = min(effort, self._lists), None
        else:
            options = faiss.SearchParametersIVF(sel=selector, nprobe=min(effort, self._lists))
        return self._index.search(queries, wide, params=options)[1]

    def _effort_at(self, depth: float) -> int:
        """Return nprobe or efSearch at which an answer at rank `depth` is found as reliably as the first 100 are."""
        return math.ceil(self._effort * math.sqrt(max(1.0, depth / (2 * TUNED_FOR))))

    def reads(self, depth: float) -> float:
        """Return how many items a search compares per query; an estimate."""
        if not self._lists:
            return 30.0 * self._effort_at(depth)  # HNSW: each visited node has its neighbours compared
        return min(1.0, self._effort_at(depth) / self._lists) * self.items

    def nearest_lists(self, queries: _Array) -> _Array:
        """Return the inverted lists that an unfiltered search visits, int64 [n, nprobe]; an IVF has them."""
        return self._index.quantizer.search(np.ascontiguousarray(queries), self._effort)[1]

    def list_of_item(self) -> _Array | None:
        """Return the inverted list of every item, int32 [items]; None: the index has no lists."""
        if not self._lists:
            return None
        lists, found = self._index.invlists, np.zeros(self.items, dtype=np.int32)
        for number in range(self._lists):
            if size := lists.list_size(number):
                found[faiss.rev_swig_ptr(lists.get_ids(number), size)] = number
        return found

    def _sifted(self, queries: _Array, wide: int, depth: float, mask: _Array) -> _Array:
        """Return candidates by fetching more of them, until enough are allowed."""
        factor = 1.3
        while True:
            more = min(math.ceil(wide * factor * self.items / max(1, np.count_nonzero(mask))), self.items)
            found = self._candidates(queries, more, depth * factor, None)
            found = np.where((found >= 0) & mask[found], found, -1)
            enough = (found >= 0).sum(axis=1).min() >= min(wide, np.count_nonzero(mask))
            if enough or more == self.items:
                return found
            factor *= 4

    def _ranked(self, queries: _Array, found: _Array, fetch: int) -> tuple[_Array, _Array]:
        """Return the `fetch` best of the candidates by exact score, then by row."""
        step = max(1, _BLOCK_ROWS // found.shape[1])
        scores, rows = _nothing(len(queries), fetch)
        for start in range(0, len(queries), step):
            block = slice(start, start + step)
            candidates = np.sort(found[block], axis=1)
            score = self.score(queries[block], candidates)
            order = (-score).argsort(axis=1, kind="stable")[:, :fetch]  # stable, and the candidates ascend
            line = np.arange(len(order))[:, None]
            scores[block, : order.shape[1]], rows[block, : order.shape[1]] = score[line, order], candidates[line, order]
        return scores, rows

    def score(self, queries: _Array, rows: _Array) -> _Array:
        """Return the exact scores, float32 [n, m], of `rows`, int64 [n, m]; -inf where the row is -1."""
        vectors = self._vectors[rows]
        scores = np.einsum("nkd,nd->nk", vectors, queries)
        if self.metric != "inner_product":
            squares = np.einsum("nkd,nkd->nk", vectors, vectors)
            if self.metric == "l2":
                scores -= 0.5 * squares
            else:
                scores /= np.sqrt(np.where(squares > 0, squares, 1))
        scores[rows < 0] = -np.inf
        return scores


def read_index(place: Path) -> Any:
    """Read a FAISS index from a file, its inverted lists mapped where FAISS can, so that processes share them.

    IVF maps in every version of FAISS but for fast scan; newer ones map HNSW too.
    """
    flags = faiss.IO_FLAG_MMAP | faiss.IO_FLAG_READ_ONLY | getattr(faiss, "IO_FLAG_MMAP_IFC", 0)
    try:
        index = faiss.read_index(str(place), flags)
    except RuntimeError as error:
        raise InvalidRelease(f"{place}: FAISS cannot read it: {str(error).splitlines()[-1]}; release anew") from None
    lists = faiss.downcast_InvertedLists(index.invlists) if hasattr(index, "invlists") else None
    if isinstance(lists, faiss.OnDiskInvertedLists):
        lists.prefetch_nthread = 0  # else every search starts threads, which take longer than the search
    return index


def _check_parameters(parameters: Any, place: Path) -> None:
    for key, values in (("kind", KINDS), ("metric", METRICS)):
        found = parameters.get(key) if isinstance(parameters, dict) else None
        if found not in values:
            raise InvalidRelease(f"{place}: {key} {found!r}, expected one of {', '.join(values)}; release anew")


def _check_index(index: Any, parameters: Mapping[str, Any], vectors: _Array, place: Path) -> None:
    stated = parameters.get("items")
    if (index.ntotal, index.d) != (stated, vectors.shape[1]) or index.ntotal > len(vectors):
        raise InvalidRelease(
            f"{place}: {index.ntotal} items x {index.d}, expected {stated} of the release's "
            f"{len(vectors)} x {vectors.shape[1]}; release anew"
        )
    metric = faiss.METRIC_L2 if parameters["metric"] == "l2" else faiss.METRIC_INNER_PRODUCT
    if index.metric_type != metric:
        raise InvalidRelease(f"{place}: built for another metric than {parameters['metric']}; release anew")


def _nothing(rows: int, fetch: int) -> tuple[_Array, _Array]:
    return np.full((rows, fetch), -np.inf, dtype=np.float32), np.full((rows, fetch), -1, dtype=np.int64)
