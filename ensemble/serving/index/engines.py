"""The index engines: the module of each kind of index, imported only for a release that names it.

A module here has `check_parameters(fields)`, of `index/params.json`, and `load(release, parameters, vectors)`, which
returns an `Engine` or None (compare every item). The module of the same name in `ensemble/index` builds the index.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np

from ..errors import InvalidRelease
from ..files.release import Release
from .engine import PARAMETERS, Engine
from .faiss_index import KINDS

ENGINES = ("scann", "milvus")
"""Engines of other makers than FAISS's: `<name>_index.py` is beside this file."""
INSTALL = "install the engines that the release names: pip install 'merlin-retrieval[engines]'"


def load_index(release: Release) -> Engine | None:
    """Return the release's index; None: every item is compared. Raises InvalidRelease where it does not fit them."""
    check_parameters(release)
    parameters, vectors = release.json(PARAMETERS), release.array("items/vectors.npy", np.float32, dimensions=2)
    loaded: Engine | None = _module(parameters["kind"]).load(release, parameters, vectors)
    return loaded


def kind_of(release: Release) -> str:
    """Return the kind of index that the release names."""
    return release.fields(PARAMETERS).choice("kind", (*KINDS, *ENGINES))


def check_parameters(release: Release) -> None:
    """Raise InvalidRelease, naming the field, unless `index/params.json` is valid for its kind of index."""
    _module(kind_of(release)).check_parameters(release.fields(PARAMETERS))


def engine_module(name: str, release_path: object) -> Any:
    """Import an engine's package; raise InvalidRelease with the way to install it."""
    try:
        return import_module(name)
    except ImportError as error:
        raise InvalidRelease(f"{release_path}: its index needs the package {name}: {error}; {INSTALL}") from None


def _module(kind: str) -> Any:
    return import_module(f".{kind if kind in ENGINES else 'faiss'}_index", __package__)
