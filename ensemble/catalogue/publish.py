"""Changes for servers that are running: written as numbered packages that appear whole or not at all."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ensemble.catalogue.changes import Change, LiveItems
from ensemble.release.attributes import write_attributes
from ensemble.release.columns import save, save_values
from ensemble.release.item_columns import write_columns
from ensemble.release.write import listing, now
from ensemble.serving.errors import InvalidRelease
from ensemble.serving.files.release import MANIFEST, Release, manifest_text, release_id
from ensemble.serving.index.engines import ENGINES, kind_of
from ensemble.serving.search import attributes
from ensemble.serving.search.delta import FORMAT, Delta
from workflows.errors import ReleaseError
from workflows.files import atomic_directory

_LOCK = ".lock"


@contextmanager
def writing(release: Release, directory: Path) -> Iterator[LiveItems]:
    """Yield the release's items as the delta directory makes them now; nobody else writes there meanwhile.

    Raises
    ------
    ReleaseError
        There is no such directory, so no server watches it; or a package that is there is damaged, and nothing can
        follow it, since servers stop before it.
    """
    if not directory.is_dir():
        raise ReleaseError(f"{directory}: no such directory; give the one that the server was started with (--delta)")
    place = directory / str(release.origin["lineage"])
    place.mkdir(exist_ok=True)
    with (place / _LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for half in place.glob(".0*"):  # of a writer that was killed
            shutil.rmtree(half, ignore_errors=True)
        try:
            items = LiveItems(release, directory)
        except InvalidRelease as error:
            raise ReleaseError(
                f"{error}. Servers do not read past it, so nothing was written: restore that package, or, if no server "
                "has taken it, remove its directory and make the change again"
            ) from error
        yield items


def publish(items: LiveItems, change: Change) -> Delta:
    """Write the change as the next package and return it. Call inside `writing`.

    The package is tried on the items as servers will, and then gets its name: whatever a server begins to answer once
    this returns, it answers with it.
    """
    log = items.log
    assert log is not None
    path = log.path_of(log.sequence + 1)
    engine, known = _engine(items.release), len(items.catalogue.rows.ids)
    with atomic_directory(path) as temporary:
        write_package(items, change, temporary, log.sequence + 1, log.package)
        items.apply(Delta.open(temporary))
        mirrored = engine is not None and engine.mirror(items, known)
    if mirrored:
        engine.forget(items)
    with log.following() as delta:
        return delta


def _engine(release: Release) -> Any:
    """Return what writes changes to the engine that the release is searched by; None: the release holds its index."""
    kind = kind_of(release)
    engine = import_module(f"ensemble.index.{kind}") if kind in ENGINES else None
    return engine if hasattr(engine, "mirror") else None


def write_package(items: LiveItems, change: Change, out: Path, sequence: int, previous: str) -> None:
    """Write one package into the directory `out`."""
    release = items.release
    (out / "items").mkdir()
    save_values(change.ids, out / "items/ids", release.manifest["id_dtype"]["item_id"])
    if change.table is not None and change.vectors is not None:
        save(out / "items/vectors", change.vectors)
        write_columns(change.table, items.kinds, out)
        write_filterable(change.table, out / "items", filterable(release))
    _seal(
        out,
        {
            "format": FORMAT,
            "lineage": release.origin["lineage"],
            "sequence": sequence,
            "previous": previous,
            "operation": change.operation,
            "items": len(change.ids),
            "created": now(),
        },
    )


def filterable(release: Release) -> dict[str, str]:
    """Return the attributes that the release can be filtered by: `number` or `tags`, by name."""
    return {str(attribute["name"]): str(attribute["kind"]) for attribute in release.json(attributes.FILE)["attributes"]}


def write_filterable(table: pd.DataFrame, items: Path, kinds: Mapping[str, str]) -> None:
    """Write those columns of an item table that the release has as attributes, each of the kind that it has there."""
    columns = {
        name: pd.to_numeric(table[name]).astype(np.float64) if kind == "number" else table[name].astype(object)
        for name, kind in kinds.items()
    }
    write_attributes(pd.DataFrame(columns, index=table.index), items, every=True)


def _seal(directory: Path, manifest: Mapping[str, Any]) -> None:
    content = {**manifest, **listing(directory)}
    content["package"] = release_id(content, "package")
    (directory / MANIFEST).write_text(manifest_text(content), encoding="utf-8")
