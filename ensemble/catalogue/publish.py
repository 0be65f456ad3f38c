"""Publishes changes to running servers, as numbered packages that appear whole or not at all."""

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
    """Lock a delta directory, which servers watch, and yield the release's items with its changes applied.

    Raise ReleaseError if there is no such directory, or a package in it is damaged: servers stop before it, so nothing
    can follow it.
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
    """Write a change as the next package and return that. Call inside `writing`, with the items that it yielded.

    The package is first applied to the items as servers do it, and then renamed into place. Raise InvalidRelease or
    ReleaseError, with nothing published, if the change does not fit, or the index engine refuses it.
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
    """Return the module that writes changes to a remote index engine; None: the release holds its index."""
    kind = kind_of(release)
    engine = import_module(f"ensemble.index.{kind}") if kind in ENGINES else None
    return engine if hasattr(engine, "mirror") else None


def write_package(items: LiveItems, change: Change, out: Path, sequence: int, previous: str) -> None:
    """Write a change as package `sequence`, which follows the package with the id `previous`, into `out`."""
    release = items.release
    (out / "items").mkdir()
    save_values(change.ids, out / "items/ids", release.manifest["id_dtype"]["item_id"])
    if change.table is not None and change.vectors is not None:
        save(out / "items/vectors", change.vectors)
        write_columns(change.table, items.kinds, out)
        write_filterable(change.table, out / "items", filterable(release))
    manifest = {
        "format": FORMAT,
        "lineage": release.origin["lineage"],
        "sequence": sequence,
        "previous": previous,
        "operation": change.operation,
        "items": len(change.ids),
        "created": now(),
        **listing(out),
    }
    manifest["package"] = release_id(manifest, "package")
    (out / MANIFEST).write_text(manifest_text(manifest), encoding="utf-8")


def filterable(release: Release) -> dict[str, str]:
    """Return the attributes of a release by name: `number` or `tags`."""
    return {str(attribute["name"]): str(attribute["kind"]) for attribute in release.json(attributes.FILE)["attributes"]}


def write_filterable(table: pd.DataFrame, items: Path, kinds: Mapping[str, str]) -> None:
    """Write those columns of an item table that are attributes of the release, each of the kind it has there."""
    columns = {
        name: pd.to_numeric(table[name]).astype(np.float64) if kind == "number" else table[name].astype(object)
        for name, kind in kinds.items()
    }
    write_attributes(pd.DataFrame(columns, index=table.index), items, every=True)
