"""Where tables come from: one module for each class of the recipe's `[data]`, imported when it is asked for."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, Final, Protocol

from workflows.config import Data, MovieLens, OwnTables, Playlists, Section, Synthetic
from workflows.progress import Progress

MODULES: Final[dict[type[Section], str]] = {
    MovieLens: "movielens",
    OwnTables: "own_tables.source",
    Playlists: "playlists",
    Synthetic: "synthetic",
}
"""Config class and the module of this package that reads it.

Such a module has `fetch(config, cache, progress)`, which returns `Tables` or something else that can `save` itself,
and, if its inputs can change under it, `state(config)`.
"""


class Fetched(Protocol):
    """What a source yields: `workflows.tables.store.Tables`, or rows that are streamed when they are saved."""

    def save(self, directory: Path) -> None:
        """Write the tables as `workflows.tables.store` reads them: `directory` appears whole or not at all."""


def fetch(config: Data, cache: Path, progress: Progress) -> Fetched:
    """Return the tables of a recipe's source, read once; rows that do not fit into memory are read when saved.

    `cache` keeps downloads; it is made where it is missing.

    Raises
    ------
    DownloadError
        The source could not be reached.
    DataError
        What it holds is not valid.
    """
    return _module(config).fetch(config, cache, progress)


def state(config: Data) -> Any:
    """Return what a source's inputs are now, as JSON: where two runs of it differ, they have changed between.

    Each file with its size in bytes and its version (time of change, or what a store has); None where inputs cannot
    change.
    """
    look = getattr(_module(config), "state", None)
    return look(config) if look else None


def _module(config: Data) -> ModuleType:
    return import_module(f"{__name__}.{MODULES[type(config)]}")
