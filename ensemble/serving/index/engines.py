"""The index engines: which module answers for a kind of index. Each is imported only by a release that names it.

A module here has `load(release)`, an `Engine` or None where every item is compared, and `check_parameters(fields)`.
The module of an engine with the same name in `ensemble/index` builds it.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from ..errors import InvalidRelease
from ..files.release import Release
from .engine import PARAMETERS, Engine
from .faiss_index import KINDS

ENGINES = ("scann", "milvus")
"""Engines of other makers than FAISS's: `<name>_index.py` is beside this file."""
INSTALL = "install the engines that the release names: pip install 'merlin-retrieval[engines]'"


def load_index(release: Release) -> Engine | None:
    """Return the index that the release names; None: every item is compared. Raises InvalidRelease as they do."""
    loaded: Engine | None = _module(kind_of(release)).load(release)
    return loaded


def kind_of(release: Release) -> str:
    """Return the kind of index that the release names."""
    return release.fields(PARAMETERS).choice("kind", (*KINDS, *ENGINES))


def check_parameters(release: Release) -> None:
    """Raise InvalidRelease, naming the field, unless `index/params.json` is as the index that it names takes it."""
    _module(kind_of(release)).check_parameters(release.fields(PARAMETERS))


def engine_module(name: str, release_path: object) -> Any:
    """Import an engine's package; raise InvalidRelease saying how to install it."""
    try:
        return import_module(name)
    except ImportError as error:
        raise InvalidRelease(f"{release_path}: its index needs the package {name}: {error}; {INSTALL}") from None


def _module(kind: str) -> Any:
    return import_module(f".{kind if kind in ENGINES else 'faiss'}_index", __package__)
