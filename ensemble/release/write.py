"""Write a release from features and towers: one directory, no pickle, every file hashed, compared with the training
side.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd

from ensemble.config import Index, Promotion, Serving
from ensemble.index.build import write_index
from ensemble.index.queries import measured_on_test, query_vectors
from ensemble.release.attributes import write_attributes
from ensemble.release.columns import id_dtype, save, save_column, save_values, write_lookup, write_vocabulary_lookups
from ensemble.release.congruence import RankingReference, Reference, check_congruence
from ensemble.release.examination import examine
from ensemble.release.item_columns import kinds_in, write_columns
from ensemble.release.user_features import write_ready
from ensemble.serving import selftest
from ensemble.serving.errors import InvalidRelease
from ensemble.serving.files.release import (
    MANIFEST,
    PAIRED,
    SIGNATURE,
    Release,
    manifest_text,
    release_id,
    sha256_of,
    vocabulary_of,
)
from ensemble.serving.files.schema import FORMAT
from ensemble.serving.index.engine import PARAMETERS
from ensemble.serving.retriever import Retriever
from ensemble.serving.search import candidates
from workflows.columns import Columns
from workflows.errors import ReleaseError, StageError
from workflows.features.files import read_rows
from workflows.files import atomic_directory, json_bytes
from workflows.installed import installed_versions
from workflows.progress import Progress, silent

_RANKING = (candidates.RANKER, candidates.SIDES, candidates.PARAMETERS)
_NO_ID = "0" * 32
_PACKAGES = ("merlin-retrieval", "merlin-models", "nvtabular", "tensorflow-cpu", "numpy", "onnx", "faiss-cpu")


@dataclass(frozen=True)
class Parts:
    """The parts of a run that go into a release, and the directory of the release."""

    features: Path
    towers: Path
    release: Path
    """Appears whole or not at all."""
    ranker: Path | None = None
    """None: the release does not rank its candidates."""

    @classmethod
    def of(cls, run: Path, ranks: bool = False) -> Parts:
        """Return the parts of the run in a directory."""
        return cls(run / "features", run / "towers", run / "release", run / "ranker" if ranks else None)


@dataclass(frozen=True)
class Training:
    """The training side, whose answers the release must give; None is not compared."""

    queries: Reference | None = None
    ranking: RankingReference | None = None


@dataclass(frozen=True)
class Settings:
    """The recipe's settings of a release."""

    name: str
    recipe_sha256: str
    serving: Serving = field(default_factory=Serving)
    index: Index = field(default_factory=Index)
    promotion: Promotion = field(default_factory=Promotion)


def write_release(run: Parts, training: Training, settings: Settings, progress: Progress = silent) -> Release:
    """Write a release, verify it and return it. The directory appears whole or not at all.

    Both sides are asked for sample users; where their answers differ by more than 1e-5, no release is written.

    Raises
    ------
    StageError
        An input is missing.
    ReleaseError
        Towers, features and vectors do not belong together, or release and training side disagree.
    """
    _check_inputs(run)
    try:
        with atomic_directory(run.release) as out:
            progress("copying transforms and towers")
            _copy_parts(run, out)
            manifest = _manifest(run, settings, _write_tables(run.features, out))
            for stem in ("users/user_id", "items/ids"):
                write_lookup(out / stem)
            for side in ("query", "item"):
                write_vocabulary_lookups(out / side / "vocabulary")
            write_ready(out, manifest["id_dtype"])
            progress("building the item index")
            _write_index(out, manifest, settings.index, run.features, progress)
            release = seal(out, manifest)
            progress("comparing its answers with the training side")
            check_congruence(release, run.features, training.queries, training.ranking)
    except InvalidRelease as error:
        raise ReleaseError(f"no release was made: {error}") from error
    return Release.open(run.release)


def draft(directory: Path, manifest: dict[str, Any]) -> Release:
    """Return an unfinished release with the files that are there so far; nothing is hashed yet."""
    return Release(directory, {**manifest, "release": _NO_ID, "files": dict.fromkeys(files_in(directory), "")})


def seal(directory: Path, manifest: dict[str, Any]) -> Release:
    """Write the self-test and the manifest of a complete directory; return the release, or raise InvalidRelease.

    The result is opened, loaded, asked and configured for Triton as a server would do it.
    """
    (directory / selftest.FILE).unlink(missing_ok=True)
    sample = selftest.sample(Retriever(draft(directory, manifest)))
    (directory / selftest.FILE).write_bytes(json_bytes(sample))
    content = {**manifest, **listing(directory)}
    content["vocabulary_sha256"] = vocabulary_of(content["files"])
    content["release"] = release_id(content)
    (directory / MANIFEST).write_text(manifest_text(content), encoding="utf-8")
    release = Release.open(directory)
    examine(release)
    return release


def now() -> str:
    """Return the time in UTC as releases state it: ISO 8601, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def files_in(directory: Path) -> dict[str, Path]:
    """Return the files of a release or a change, by their names in the manifest."""
    paths = sorted(path for path in directory.rglob("*") if path.is_file() and path.name not in (MANIFEST, SIGNATURE))
    return {path.relative_to(directory).as_posix(): path for path in paths}


def listing(directory: Path) -> dict[str, Any]:
    """Return the manifest's `files` (SHA-256 by name) and `bytes` (sizes) for a directory."""
    names = files_in(directory)
    return {
        "files": {name: sha256_of(path) for name, path in names.items()},
        "bytes": {name: path.stat().st_size for name, path in names.items()},
    }


def _manifest(run: Parts, settings: Settings, counts: dict[str, int]) -> dict[str, Any]:
    """Return the manifest, except for what depends on the files."""
    stated = json.loads((run.towers / "towers.json").read_text(encoding="utf-8"))
    return {
        "format": FORMAT,
        "name": settings.name,
        "created": now(),
        "recipe_sha256": settings.recipe_sha256,
        "versions": installed_versions(_PACKAGES),
        "counts": counts,
        "dim": int(stated["dim"]),
        "metric": str(stated["metric"]),
        "pairing": str(stated["pairing"]),
        "id_dtype": _id_dtypes(run.features),
        "serving": msgspec.to_builtins(settings.serving),
        "promotion": msgspec.to_builtins(settings.promotion),
    }


def _check_inputs(run: Parts) -> None:
    inputs = [run.features / name for name in ("catalogue.parquet", "users.parquet", "query_transform/transform.json")]
    inputs += [run.towers / name for name in ("towers.json", "query.onnx", "item.onnx", "item_vectors.npy")]
    if run.ranker is not None:
        inputs += [run.ranker / Path(name).name for name in _RANKING]
    for path in inputs:
        if not path.is_file():
            raise StageError(
                f"{path}: missing; run the stages before `release` (`retrieval run` runs those that are due)"
            )


def _copy_parts(run: Parts, out: Path) -> None:
    shutil.copytree(run.features / "query_transform", out / "query")
    shutil.copytree(run.features / "item_transform", out / "item")
    for folder in ("towers", "items", "users", "index", "history"):
        (out / folder).mkdir()
    for target, source in zip(PAIRED, ("query.onnx", "item.onnx", "item_vectors.npy"), strict=True):
        shutil.copyfile(run.towers / source, out / target)
    for side in ("query", "item"):
        if (run.towers / side).is_dir():  # the tower's large tables
            shutil.copytree(run.towers / side, out / "towers" / side)
    shutil.copyfile(run.towers / "towers.json", out / "towers/towers.json")
    if run.ranker is not None:
        (out / "ranking").mkdir()
        for name in _RANKING:
            shutil.copyfile(run.ranker / Path(name).name, out / name)


def _write_tables(features: Path, out: Path) -> dict[str, int]:
    """Write item ids, users and histories; return the counts."""
    catalogue, interactions = pd.read_parquet(features / "catalogue.parquet"), _interactions(features)
    users = _known_users(features, interactions)
    save_values(catalogue[Columns.Item], out / "items/ids", id_dtype(catalogue[Columns.Item]))
    write_attributes(catalogue, out / "items")
    write_columns(catalogue, kinds_in(catalogue), out)
    inputs = json.loads((out / "query/transform.json").read_text(encoding="utf-8"))["inputs"]
    # A query's time is no property of a user, should the users have a column of that name.
    names = set(users) - {Columns.User, Columns.Timestamp}
    columns = [column for column in inputs if column["name"] in names]
    save_values(users[Columns.User], out / "users/user_id", id_dtype(users[Columns.User]))
    for column in columns:
        save_column(users[column["name"]], out / "users" / column["name"], column)
    (out / "users/users.json").write_bytes(json_bytes({"rows": len(users), "columns": columns}))
    _write_history(interactions, users[Columns.User], out / "history")
    return {"users": len(users), "items": len(catalogue), "interactions": len(interactions)}


def _known_users(features: Path, interactions: pd.DataFrame) -> pd.DataFrame:
    """Return the users that the release knows: all, but none of the playlists that are held out for the test."""
    users = pd.read_parquet(features / "users.parquet")
    if json.loads((features / "features.json").read_text(encoding="utf-8"))["asked"] != "continued":
        return users
    return users[users[Columns.User].isin(interactions[Columns.User])].reset_index(drop=True)


def _interactions(features: Path) -> pd.DataFrame:
    """Return the interactions that are known at release time: training and validation rows, not the test rows."""
    columns = [Columns.User, Columns.ItemIndex, Columns.Timestamp]
    parts = [read_rows(features / part, columns) for part in ("train", "valid")]
    return pd.concat(parts, ignore_index=True)


def _write_history(interactions: pd.DataFrame, user_ids: pd.Series, out: Path) -> None:
    rows = pd.Index(user_ids).get_indexer(interactions[Columns.User])
    if (rows < 0).any():
        stranger = interactions[Columns.User].iloc[int(np.flatnonzero(rows < 0)[0])]
        raise ReleaseError(
            f"users.parquet: has no user {stranger!r}, who has interactions; run `retrieval features` again"
        )
    order = np.lexsort((interactions[Columns.Timestamp].to_numpy(), rows))
    counts = np.bincount(rows, minlength=len(user_ids))
    save(out / "offsets", np.concatenate([[0], np.cumsum(counts)]).astype(np.int64))
    save(out / "item_index", interactions[Columns.ItemIndex].to_numpy()[order].astype(np.int32))
    save(out / "timestamp", interactions[Columns.Timestamp].to_numpy()[order].astype(np.int64))


def _write_index(out: Path, manifest: dict[str, Any], config: Index, features: Path, progress: Progress) -> None:
    def made() -> Release:
        return draft(out, manifest)

    write_index(made, config, manifest["pairing"], lambda: query_vectors(made(), features, "valid"), progress)
    release = made()
    stated = {**release.json(PARAMETERS), "measured": measured_on_test(release, features)}
    (out / PARAMETERS).write_bytes(json_bytes(stated))


def _id_dtypes(features: Path) -> dict[str, str]:
    tables = {Columns.User: "users.parquet", Columns.Item: "catalogue.parquet"}
    return {name: id_dtype(pd.read_parquet(features / file, columns=[name])[name]) for name, file in tables.items()}
