"""Features and towers to a release: one directory, no pickle, every file hashed, proven equal to what made it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd

from ensemble.config import Index, Promotion, Serving
from ensemble.index.build import write_index
from ensemble.index.queries import measured_on_test, query_vectors
from ensemble.release.attributes import write_attributes
from ensemble.release.columns import id_dtype, save, save_column, save_values
from ensemble.release.congruence import RankingReference, Reference, check_congruence
from ensemble.release.examination import examine
from ensemble.release.item_columns import kinds_in, write_columns
from ensemble.release.lookups import write_lookup, write_vocabulary_lookups
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

_PACKAGES = ("merlin-retrieval", "merlin-models", "nvtabular", "tensorflow-cpu", "numpy", "onnx", "faiss-cpu")


def _silent(_: str) -> None:
    """Report nothing."""


def write_release(
    features: Path,
    towers: Path,
    out: Path,
    *,
    name: str,
    recipe_sha256: str,
    serving: Serving,
    index: Index,
    promotion: Promotion | None = None,
    ranker: Path | None = None,
    reference: Reference | None = None,
    ranking_reference: RankingReference | None = None,
    progress: Callable[[str], None] = _silent,
) -> Release:
    """Write the release of a run's `features/`, `towers/` and, where it ranks, `ranker/` to `out` and return it, opened
    and verified.

    `reference` computes query vectors, float32 [n, d], of raw query columns (a frame with n rows) the way training did.
    Sample users and test rows are asked both ways, and without the same answer there is no release. So are the scores
    that `ranking_reference` gives the candidates of such queries.

    Raises
    ------
    StageError
        An input is missing.
    ReleaseError
        The towers, features and vectors do not belong together, or release and reference disagree.
    """
    _check_inputs(features, towers)
    try:
        with atomic_directory(out) as temporary:
            progress("copying transforms and towers")
            _copy_parts(features, towers, temporary)
            if ranker is not None:
                _copy_ranker(ranker, temporary / "ranking")
            counts = _write_tables(features, temporary)
            for stem in ("users/user_id", "items/ids"):
                write_lookup(temporary / stem)
            for side in ("query", "item"):
                write_vocabulary_lookups(temporary / side / "vocabulary")
            write_ready(temporary, _id_dtypes(features))
            stated = json.loads((towers / "towers.json").read_text(encoding="utf-8"))
            manifest = {
                "format": FORMAT,
                "name": name,
                "created": now(),
                "recipe_sha256": recipe_sha256,
                "versions": _versions(),
                "counts": counts,
                "dim": int(stated["dim"]),
                "metric": str(stated["metric"]),
                "pairing": str(stated["pairing"]),
                "id_dtype": _id_dtypes(features),
                "serving": msgspec.to_builtins(serving),
                "promotion": msgspec.to_builtins(promotion or Promotion()),
            }
            progress("building the item index")
            _write_index(temporary, manifest, index, features, progress)
            seal(temporary, manifest)
            progress("comparing its answers with the training side")
            check_congruence(Release.open(temporary), features, reference, ranking_reference)
    except InvalidRelease as error:
        raise ReleaseError(f"no release was made: {error}") from error
    return Release.open(out)


def seal(directory: Path, manifest: dict[str, Any]) -> None:
    """Write the manifest over every file that is in the directory, a self-test of them among these.

    What was written is then opened, loaded, asked and configured for Triton as it will be by who serves it.

    Raises
    ------
    InvalidRelease
        The parts of the release do not fit each other, or a server would not load it.
    """
    (directory / selftest.FILE).unlink(missing_ok=True)
    retriever = Retriever(Release(directory, _write_manifest(directory, manifest)))
    (directory / selftest.FILE).write_bytes(json_bytes(selftest.sample(retriever)))
    _write_manifest(directory, manifest)
    examine(Release.open(directory))


def now() -> str:
    """Return the time as releases state it: UTC, ISO 8601, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def listing(directory: Path) -> dict[str, Any]:
    """Return what a manifest says of the files in its directory: `files`, their SHA-256, and `bytes`, their sizes."""
    paths = sorted(path for path in directory.rglob("*") if path.is_file() and path.name not in (MANIFEST, SIGNATURE))
    names = {path.relative_to(directory).as_posix(): path for path in paths}
    return {
        "files": {name: sha256_of([path]) for name, path in names.items()},
        "bytes": {name: path.stat().st_size for name, path in names.items()},
    }


def _write_manifest(directory: Path, manifest: dict[str, Any]) -> dict[str, Any]:
    content = {**manifest, **listing(directory)}
    content["vocabulary_sha256"] = vocabulary_of(content["files"])
    content["release"] = release_id(content)
    (directory / MANIFEST).write_text(manifest_text(content), encoding="utf-8")
    return content


def _check_inputs(features: Path, towers: Path) -> None:
    made = [features / one for one in ("catalogue.parquet", "users.parquet", "query_transform/transform.json")]
    made += [towers / one for one in ("towers.json", "query.onnx", "item.onnx", "item_vectors.npy")]
    for path in made:
        if not path.is_file():
            raise StageError(
                f"{path}: missing; run the stages before `release` (`retrieval run` runs those that are due)"
            )


def _copy_parts(features: Path, towers: Path, out: Path) -> None:
    shutil.copytree(features / "query_transform", out / "query")
    shutil.copytree(features / "item_transform", out / "item")
    for folder in ("towers", "items", "users", "index", "history"):
        (out / folder).mkdir()
    for target, source in zip(PAIRED, ("query.onnx", "item.onnx", "item_vectors.npy"), strict=True):
        shutil.copyfile(towers / source, out / target)
    shutil.copyfile(towers / "towers.json", out / "towers/towers.json")


def _copy_ranker(ranker: Path, out: Path) -> None:
    out.mkdir()
    for name in (candidates.RANKER, candidates.SIDES, candidates.PARAMETERS):
        source = ranker / Path(name).name
        if not source.is_file():
            raise StageError(
                f"{source}: missing; run the stages before `release` (`retrieval run` runs those that are due)"
            )
        shutil.copyfile(source, out / source.name)


def _write_tables(features: Path, out: Path) -> dict[str, int]:
    """Write item ids, users and histories; return the counts."""
    catalogue, interactions = pd.read_parquet(features / "catalogue.parquet"), _interactions(features)
    users = _known_users(features, interactions)
    save_values(catalogue[Columns.Item], out / "items/ids", id_dtype(catalogue[Columns.Item]))
    write_attributes(catalogue, out / "items")
    write_columns(catalogue, kinds_in(catalogue), out)
    inputs = json.loads((out / "query/transform.json").read_text(encoding="utf-8"))["inputs"]
    # A query's time is no property of a user, should the users have a column of that name.
    columns = [one for one in inputs if one["name"] in users and one["name"] not in (Columns.User, Columns.Timestamp)]
    save_values(users[Columns.User], out / "users/user_id", id_dtype(users[Columns.User]))
    for one in columns:
        save_column(users[one["name"]], out / "users" / one["name"], one)
    (out / "users/users.json").write_bytes(json_bytes({"rows": len(users), "columns": columns}))
    _write_history(interactions, users[Columns.User], out / "history")
    return {"users": len(users), "items": len(catalogue), "interactions": len(interactions)}


def _known_users(features: Path, interactions: pd.DataFrame) -> pd.DataFrame:
    """Return the users that the release knows: all, but of whole playlists that are held out for the test none."""
    users = pd.read_parquet(features / "users.parquet")
    if json.loads((features / "features.json").read_text(encoding="utf-8"))["asked"] != "continued":
        return users
    return users[users[Columns.User].isin(interactions[Columns.User])].reset_index(drop=True)


def _interactions(features: Path) -> pd.DataFrame:
    """Return what is known when the release is made: the training and validation rows, not the test rows."""
    wanted = [Columns.User, Columns.ItemIndex, Columns.Timestamp]
    parts = [read_rows(features / part, wanted) for part in ("train", "valid")]
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


def _write_index(
    out: Path, manifest: dict[str, Any], config: Index, features: Path, progress: Callable[[str], None]
) -> None:
    def draft() -> Release:
        return Release(out, _write_manifest(out, manifest))

    write_index(draft, config, manifest["pairing"], lambda: query_vectors(draft(), features, "valid"), progress)
    release = draft()
    stated = {**release.json(PARAMETERS), "measured": measured_on_test(release, features)}
    (out / PARAMETERS).write_bytes(json_bytes(stated))


def _id_dtypes(features: Path) -> dict[str, str]:
    tables = {Columns.User: "users.parquet", Columns.Item: "catalogue.parquet"}
    return {name: id_dtype(pd.read_parquet(features / file, columns=[name])[name]) for name, file in tables.items()}


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # the container calls TensorFlow by another name
            continue
    return found
