"""The release writer: what it writes is proven equal to the training side, or nothing is written."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ensemble.release.write import Parts, Settings, Training, write_release
from ensemble.serving.files.release import Release
from tests.synthetic import Run, make_release, make_run
from workflows.errors import ReleaseError, StageError


def write(run: Run, out: Path, reference: Any) -> Release:
    """Write a release of the run's files with this reference."""
    parts = Parts(run.path / "features", run.path / "towers", out)
    return write_release(parts, Training(reference), Settings("test", "ab" * 32))


def test_the_manifest_says_what_was_released(run: Run, tmp_path: Path) -> None:
    manifest = write(run, tmp_path / "release", run.reference).manifest
    assert manifest["counts"] == {"users": 60, "items": 300, "interactions": 600}
    assert manifest["recipe_sha256"] == "ab" * 32
    kind = "string" if run.users["user_id"].dtype == object else "int64"
    assert manifest["id_dtype"] == {"user_id": kind, "item_id": kind}
    assert manifest["serving"]["max_batch_size"] == 256


def test_no_release_where_the_training_side_answers_otherwise(run: Run, tmp_path: Path) -> None:
    def skewed(queries: pd.DataFrame) -> np.ndarray:
        vectors = run.reference(queries)
        vectors[3] += np.float32(2e-5)
        return vectors

    with pytest.raises(ReleaseError, match=r"differs from training's by 2\."):
        write(run, tmp_path / "release", skewed)
    assert list(tmp_path.iterdir()) == []


def test_no_release_where_the_reference_is_not_finite(run: Run, tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="differs"):
        write(run, tmp_path / "release", lambda queries: run.reference(queries) * np.nan)


def test_a_failed_release_leaves_the_old_one(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    old = Release.open(make_release(run)).manifest["release"]
    with pytest.raises(ReleaseError):
        write(run, run.path / "release", lambda queries: -run.reference(queries))
    assert Release.open(run.path / "release").manifest["release"] == old


def test_no_release_of_vectors_from_another_training(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    np.save(run.path / "towers/item_vectors.npy", run.vectors[::-1])
    with pytest.raises(ReleaseError, match="pairing"):
        write(run, tmp_path / "release", run.reference)


def test_a_history_of_an_unlisted_user_is_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    run.users.iloc[1:].to_parquet(run.path / "features/users.parquet")
    with pytest.raises(ReleaseError, match=str(run.users["user_id"].iloc[0])):
        write(run, tmp_path / "release", run.reference)


@pytest.mark.parametrize("name", ["features/users.parquet", "towers/towers.json", "features/query_transform"])
def test_a_missing_stage_is_named(tmp_path: Path, name: str) -> None:
    run = make_run(tmp_path / "run")
    place = run.path / name
    shutil.rmtree(place) if place.is_dir() else place.unlink()
    with pytest.raises(StageError, match=Path(name).name):
        write(run, tmp_path / "release", run.reference)


def test_histories_stand_by_user_and_time(run: Run, release: Path) -> None:
    offsets, items = np.load(release / "history/offsets.npy"), np.load(release / "history/item_index.npy")
    known = run.interactions.iloc[:600]
    for row, user in enumerate(run.users["user_id"]):
        own = known[known["user_id"] == user].sort_values("timestamp", kind="stable")
        assert items[offsets[row] : offsets[row + 1]].tolist() == own["item_index"].tolist()
