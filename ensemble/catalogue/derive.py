"""Releases derived from another one by changes of its items, without training: same towers, other items."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from ensemble.catalogue.changes import Change, LiveItems
from ensemble.catalogue.publish import filterable, write_filterable, write_package
from ensemble.index.build import config_of, write_index
from ensemble.index.drift import measure, queries_of
from ensemble.release.columns import save, save_values, write_lookup
from ensemble.release.item_columns import write_columns
from ensemble.release.write import draft, files_in, now, seal
from ensemble.serving import selftest
from ensemble.serving.files.release import MANIFEST, SIGNATURE, Release, paired, pairing_of, sha256_of
from ensemble.serving.index.engine import PARAMETERS
from ensemble.serving.search import attributes
from ensemble.serving.search.catalogue import REMOVED, Catalogue
from ensemble.serving.search.delta import Delta
from workflows.files import atomic_directory, json_bytes
from workflows.progress import Progress, silent

_REPLACED = (MANIFEST, SIGNATURE, selftest.FILE, "items", "index")


@dataclass(frozen=True)
class Derived:
    """A derived release, and whether its index was rebuilt."""

    release: Release
    rebuilt: bool


def derive(release: Release, change: Change, out: Path, progress: Progress = silent) -> Derived:
    """Apply one change to a release and write the result, whole or not at all, as a new release.

    The result is a catalogue of its own: deltas of `release` do not apply to it. A flat index is rebuilt; another one
    only if the change left it worse than it should be. Raise InvalidRelease or ReleaseError if the change does not fit
    the release, or the index cannot be built.
    """
    with TemporaryDirectory() as folder:
        items = LiveItems(release)
        write_package(items, change, Path(folder), 1, str(release.manifest["release"]))
        items.apply(Delta.open(Path(folder)))
        rebuilt = bool(release.json(PARAMETERS)["kind"] == "flat")
        if not rebuilt:
            progress("measuring the index")
            rebuilt = measure(items).due
        _write(items, out, rebuilt, {}, progress)
    return Derived(Release.open(out), rebuilt)


def compact(items: LiveItems, out: Path, progress: Progress = silent) -> Release:
    """Write a release and its deltas, whole or not at all, as one release with a rebuilt index.

    Dead rows are dropped unless a history refers to them. Deltas that follow the last applied one apply to the result.
    Raise InvalidRelease or ReleaseError if its parts do not fit each other, or the index cannot be built.
    """
    followed = {name: items.release.origin[name] for name in ("lineage", "sequence", "package")}
    if items.log is not None:
        followed = {"lineage": items.log.lineage, "sequence": items.log.sequence, "package": items.log.package}
    _write(items, out, True, followed, progress)
    return Release.open(out)


def _write(items: LiveItems, out: Path, rebuild: bool, followed: dict[str, Any], progress: Progress) -> None:
    release, catalogue = items.release, items.catalogue
    rows = _folded_rows(catalogue) if rebuild else np.arange(catalogue.rows.live.size)
    live = catalogue.rows.live[rows]
    with atomic_directory(out) as temporary:
        shutil.copytree(release.path, temporary, dirs_exist_ok=True, ignore=_left_behind(release.path))
        (temporary / "items").mkdir()
        (temporary / "index").mkdir()
        _write_items(items, rows, temporary)
        if not live.all():
            save((temporary / REMOVED).with_suffix(""), np.flatnonzero(~live))
        pairing = pairing_of({name: sha256_of(temporary / name) for name in paired(files_in(temporary))})
        if rebuild:
            progress("building the item index")
            _build_index(items, temporary, pairing)
        else:
            shutil.copytree(release.path / "index", temporary / "index", dirs_exist_ok=True)
            (temporary / PARAMETERS).write_bytes(json_bytes({**release.json(PARAMETERS), "pairing": pairing}))
        dead = int((~live).sum()) if rebuild else release.origin.get("dead_when_indexed", 0)
        seal(temporary, _manifest(items, int(live.sum()), pairing, {**followed, "dead_when_indexed": dead}))


def _left_behind(source: Path) -> Callable[[str, list[str]], list[str]]:
    return lambda folder, names: [name for name in names if Path(folder) == source and name in _REPLACED]


def _folded_rows(catalogue: Catalogue) -> np.ndarray:
    """Return the rows of a release with a new index, int64 [n], in its order.

    The trained items keep their places, each with its newest row even if that is dead, since histories refer to them.
    The other live items follow.
    """
    later = np.arange(catalogue.trained, catalogue.rows.live.size)
    stranger = catalogue.trained_ids.rows_of(catalogue.rows.ids[later]) < 0
    return np.concatenate(
        [catalogue.current(np.arange(catalogue.trained)), later[stranger & catalogue.rows.live[later]]]
    )


def _write_items(items: LiveItems, rows: np.ndarray, out: Path) -> None:
    release, table = items.release, items.table.iloc[rows].reset_index(drop=True)
    save_values(items.catalogue.rows.ids[rows], out / "items/ids", release.manifest["id_dtype"]["item_id"])
    write_lookup(out / "items/ids")
    save(out / "items/vectors", np.ascontiguousarray(items.catalogue.rows.vectors[rows]))
    write_columns(table, items.kinds, out)
    write_filterable(table, out / "items", filterable(release))
    stated = json.loads((out / attributes.FILE).read_text(encoding="utf-8"))
    stated["left_out"] = release.json(attributes.FILE)["left_out"]
    (out / attributes.FILE).write_bytes(json_bytes(stated))


def _build_index(items: LiveItems, out: Path, pairing: str) -> None:
    def made() -> Release:
        return draft(out, {**items.release.manifest, "pairing": pairing})

    write_index(made, config_of(items.release.json(PARAMETERS)), pairing, lambda: queries_of(items), silent)


def _manifest(items: LiveItems, live: int, pairing: str, origin: dict[str, Any]) -> dict[str, Any]:
    old = items.release.manifest
    kept = {name: value for name, value in old.items() if name not in ("release", "files", "vocabulary_sha256")}
    changes = {"add": 0, "update": 0, "remove": 0}
    for delta in items.deltas:
        changes[str(delta.manifest["operation"])] += int(delta.manifest["items"])
    return {
        **kept,
        "created": max(now(), old["created"]),  # whatever the clock of this machine says
        "counts": {**old["counts"], "items": live, "trained_items": items.release.trained_items},
        "pairing": pairing,
        "derived_from": {
            "release": old["release"],
            "pairing": items.release.origin["pairing"],
            "changes": changes,
            **origin,
        },
    }
