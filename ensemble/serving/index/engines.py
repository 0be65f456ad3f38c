"""Engines of other makers behind the index interface, each imported only by a release that names it."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Protocol, Union

import numpy as np

from ..errors import InvalidRelease
from ..files.release import Release
from ..search.masks import ItemMask
from .faiss_index import KINDS, PARAMETERS, ItemIndex

ENGINES = ("scann", "milvus")
INSTALL = "install the engines that the release names: pip install 'merlin-retrieval[engines]'"


class Engine(Protocol):
    """What a search needs of an engine: candidates, among which the release's own vectors decide."""

    kind: str
    metric: str
    items: int
    """How many of the catalogue's first rows it holds."""
    is_exact: bool
    recall_target: float
    is_remote: bool
    """Whether it is asked whatever comparing all items here would cost."""

    def candidates(self, queries: np.ndarray, fetch: int, mask: ItemMask | None = None) -> np.ndarray:
        """Return the rows, int64 [n, m], among which the best `fetch` are, in any order; -1 for none.

        Raises ValueError for a mask that it does not take: nothing is approximated for who did not ask for it.
        """
        ...  # pragma: no cover

    def takes(self, mask: ItemMask) -> bool:
        """Return whether the engine can leave out what the mask does."""
        ...  # pragma: no cover

    def reads(self, fetch: int) -> float:
        """Return how many items a search compares per query; an estimate."""
        ...  # pragma: no cover

    def extended(self, items: int, chain: str | None) -> Engine:
        """Return the engine of a catalogue that has grown to so many rows, by the changes that begin with `chain`."""
        ...  # pragma: no cover


Index = Union[ItemIndex, Engine]


def load_index(release: Release) -> Index | None:
    """Return the index that the release names; None: every item is compared. Raises InvalidRelease as they do."""
    kind = kind_of(release)
    if kind not in ENGINES:
        return ItemIndex.load(release)
    module = import_module(f".{kind}_index", __package__)
    loaded: Engine = module.load(release)
    return loaded


def kind_of(release: Release) -> str:
    """Return the kind of index that the release names."""
    return release.fields(PARAMETERS).choice("kind", (*KINDS, *ENGINES))


def check_parameters(release: Release) -> None:
    """Raise InvalidRelease, naming the field, unless `index/params.json` is as the index that it names takes it."""
    kind = kind_of(release)
    module = import_module(f".{kind}_index" if kind in ENGINES else ".faiss_index", __package__)
    module.check_parameters(release.fields(PARAMETERS))


def engine_module(name: str, release_path: object) -> Any:
    """Import an engine's package; raise InvalidRelease saying how to install it."""
    try:
        return import_module(name)
    except ImportError as error:
        raise InvalidRelease(f"{release_path}: its index needs the package {name}: {error}; {INSTALL}") from None
