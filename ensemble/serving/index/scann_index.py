"""ScaNN as an index engine (Guo et al., ICML 2020, arXiv:1908.10396): partitions and anisotropic codes.

ScaNN names candidates; the release's vectors, which it does not copy, decide among them. It has no filters: a filtered
search compares all allowed items exactly. Items added since the index was built are compared as with FAISS.

Its own C++ code reads its files. Shapes and codes are checked before, but not the protocol buffers, so that such a
release, unlike one with FAISS, is only for those who trust its author.
"""

from __future__ import annotations

import importlib.util
import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InvalidRelease
from ..files.parameters import Fields
from ..files.release import Release
from ..files.schema import Schema, choice, integer, object_of, real, taken
from ..search.masks import ItemMask
from .engine import COMMON, OPTIONAL, Engine
from .engines import INSTALL
from .inverted_lists import Probes
from .vectors import normalised

FOLDER = "index/scann"
ASSETS = {
    "ah_codebook.pb": "AH_CENTERS",
    "serialized_partitioner.pb": "PARTITIONER",
    "datapoint_to_token.npy": "TOKENIZATION_NPY",
    "hashed_dataset.npy": "AH_DATASET_NPY",
}
"""What its files are to ScaNN."""
CONFIG = "scann_config.pb"
_EXTENSION = "scann_pybind"
_LEAVES = integer(1, 1 << 24)
_OWN: Schema = {
    "kind": choice("scann"),
    "leaves": _LEAVES,
    "search": object_of({"leaves": _LEAVES, "refine_factor": real(1.0, 1e6)}),
}
_Array = np.ndarray


class ScannIndex(Engine):
    """A ScaNN searcher over the first `items` rows of the catalogue's vectors."""

    def __init__(self, searcher: Any, vectors: _Array, parameters: Mapping[str, Any]) -> None:
        """Take ScaNN's searcher, the vectors that it was built on, float32 [items, d], and `index/params.json`.

        `search`: `leaves` partitions are read, `refine_factor` candidates per wanted item are compared exactly.
        """
        super().__init__(vectors, parameters)
        self._searcher = searcher
        self._leaves, self._all_leaves = int(self.settings["leaves"]), int(parameters["leaves"])
        self._refine = float(self.settings["refine_factor"])

    def candidates(
        self, queries: _Array, fetch: int, mask: ItemMask | None = None, removed: int = 0, probes: Probes | None = None
    ) -> _Array:
        """Return candidates; see `Engine`."""
        if mask is not None:
            raise ValueError("ScaNN knows no filters")
        fetch = self.with_removed(fetch, removed)
        wide = min(math.ceil(fetch * self._refine), self.items)
        data = normalised(queries) if self.metric == "cosine" else queries
        named, distances = self._searcher.search_batched(
            np.ascontiguousarray(data, dtype=np.float32), wide, wide, self._leaves_for(fetch), False, 0
        )
        rows = np.where(np.isnan(distances), -1, named.astype(np.int64))
        return np.where(rows < self.items, rows, -1)

    def reads(self, fetch: float) -> float:
        """Estimate how many items a search compares per query; codes of 4 bits take a fifth of the time."""
        return 0.2 * self.items * self._leaves_for(fetch) / self._all_leaves + fetch * self._refine

    def _leaves_for(self, fetch: float) -> int:
        """Return how many partitions to read; more for answers longer than the 100 that it was tuned for."""
        return min(self._all_leaves, math.ceil(self._leaves * math.sqrt(max(1.0, fetch / 200))))


def load(release: Release, parameters: Mapping[str, Any], vectors: _Array) -> ScannIndex:
    """Load a release's ScaNN index; raise InvalidRelease if it does not fit the vectors, or ScaNN is missing."""
    for name in (*ASSETS, CONFIG):
        if not release.has(f"{FOLDER}/{name}"):
            raise InvalidRelease(f"{release.path / FOLDER / name}: missing from the release")
    _check_arrays(release, parameters["items"], parameters["leaves"])
    return ScannIndex(open_searcher(release.path / FOLDER), vectors, parameters)


def open_searcher(folder: Path) -> Any:
    """Return ScaNN's searcher of the files in a folder; raise InvalidRelease if ScaNN refuses them.

    ScaNN's own loader would unpickle a file of ids; this one names the four files and no others. The folder is made
    absolute, since ScaNN joins relative paths of files to it.
    """
    folder = folder.absolute()
    stated = ((kind, json.dumps(str(folder / name))) for name, kind in ASSETS.items())
    assets = "".join(f"assets {{ asset_type: {kind} asset_path: {path} }}\n" for kind, path in stated)
    try:
        return extension(folder).ScannNumpy(str(folder), assets)
    except (RuntimeError, ValueError) as error:
        raise InvalidRelease(
            f"{folder}: ScaNN cannot read it: {str(error).splitlines()[0]}; release it again"
        ) from None


def extension(place: object) -> Any:
    """Return ScaNN's compiled part; raise InvalidRelease, naming what needs it, if it is not installed.

    The package around it would load TensorFlow operators, which only fit the version that ScaNN was built with; it also
    unpickles.
    """
    if _EXTENSION in sys.modules:
        return sys.modules[_EXTENSION]
    package = importlib.util.find_spec("scann")
    folders = [Path(folder) for folder in (package.submodule_search_locations or [])] if package else []
    files = [file for folder in folders for file in folder.glob(f"scann_ops/cc/python/{_EXTENSION}*.so")]
    spec = importlib.util.spec_from_file_location(_EXTENSION, files[0]) if files else None
    if spec is None or spec.loader is None:
        raise InvalidRelease(f"{place}: needs the package scann, which is not there; {INSTALL}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.modules[_EXTENSION] = module
    return module


def _check_arrays(release: Release, items: int, leaves: int) -> None:
    tokens = release.array(f"{FOLDER}/datapoint_to_token.npy", np.int32, np.uint32)
    codes = release.header(f"{FOLDER}/hashed_dataset.npy")
    if len(tokens) != items or codes.shape[0] != items:
        raise InvalidRelease(f"{release.path / FOLDER}: {len(tokens)} and {codes.shape[0]} items, expected {items}")
    if int(tokens.min()) < 0 or int(tokens.max()) >= leaves:
        raise InvalidRelease(f"{release.path / FOLDER}/datapoint_to_token.npy: names partitions beyond {leaves}")


def check_parameters(fields: Fields) -> None:
    """Raise InvalidRelease, naming the field, unless these are the parameters of a ScaNN index."""
    stated = taken(fields, {**COMMON, **_OWN}, OPTIONAL)
    if stated["search"]["leaves"] > stated["leaves"]:
        raise fields.error(f"search, leaves must be from 1 to {stated['leaves']}, got {stated['search']['leaves']}")
