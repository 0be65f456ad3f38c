"""Tables in several parts: the same features whatever works on them, and a worker that dies costs nothing but time."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from distributed import Client
from merlin.schema.io.tensorflow_metadata import TensorflowMetadata

from retrieval.recipes.recipe import load_recipe
from retrieval.runs.run import Run
from retrieval.runs.stages import STAGES
from tests.tiny import made_in
from workflows.config import (
    Bucketized,
    Categorical,
    Continuous,
    FeatureSide,
    LeaveLastOutSplit,
    RandomSplit,
    Synthetic,
    TemporalSplit,
    Text,
)
from workflows.errors import RecipeError, StageError
from workflows.features.dask_cluster import LOCALHOST, client, each
from workflows.features.stage import FeatureSet, build, load
from workflows.sources.synthetic import fetch
from workflows.tables import store as stored_tables
from workflows.tables.splits import split as split_rows
from workflows.tables.store import Stored, Tables, open_tables

QUERY = FeatureSide(
    features={
        "user_id": Categorical(),
        "city": Categorical(max_size=20),
        "channel": Categorical(),
        "rating": Continuous(),
        "timestamp": Bucketized(buckets=9),
    }
)
ITEM = FeatureSide(features={"item_id": Categorical(), "title": Text(max_length=5)})


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Stored:
    """2,000 interactions in parts of 600."""
    directory = tmp_path_factory.mktemp("parts") / "tables"
    config = Synthetic(interactions=2000, users=150, items=60, clusters=5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stored_tables, "PART_ROWS", 600)
        fetch(config, directory, lambda line: None).save(directory)
    return open_tables(directory)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Client]:
    with client(2) as started:
        assert started is not None
        yield started


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    """Address of a scheduler with two workers, each started by its own command as the users of a cluster do."""
    with socket.socket() as free:
        free.bind((LOCALHOST, 0))
        address = f"tcp://{LOCALHOST}:{free.getsockname()[1]}"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    dask = [sys.executable, "-m", "dask"]
    commands = [
        [*dask, "scheduler", "--host", LOCALHOST, "--port", address.rpartition(":")[2], "--no-dashboard"],
        [*dask, "worker", address, "--host", LOCALHOST, "--nworkers", "2", "--nthreads", "1", "--no-dashboard"],
    ]
    started = [subprocess.Popen(command, **quiet) for command in commands]  # type: ignore[call-overload]
    try:
        yield address
    finally:
        for process in reversed(started):
            process.terminate()
            process.wait(30)


def test_workers_that_were_started_elsewhere_write_to_the_run(
    scheduler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`runs/` is relative to where the command runs, which no worker of a cluster knows."""
    recipe = load_recipe(made_in(tmp_path))
    monkeypatch.chdir(tmp_path)
    run = Run.create(recipe, Path("runs"), STAGES).on(None, scheduler)
    with run.lock():
        run.execute(run.stages["features"], tmp_path, str)
    assert run.is_finished(run.stages["features"])


def made(tables: Stored | Tables, out: Path, split: object, cluster: Client | None = None) -> FeatureSet:
    build(tables, QUERY, ITEM, split, "cpu", out, client=cluster)  # type: ignore[arg-type]
    return load(out)


def contents(directory: Path) -> dict[str, bytes]:
    """Every file but NVTabular's own, which states when it was saved."""
    files = [path for path in sorted(directory.rglob("*")) if path.is_file() and "workflow" not in str(path)]
    vocabularies = sorted(directory.rglob("unique.*.parquet"))
    return {
        str(path.relative_to(directory)): schema_of(path) if path.suffix == ".pbtxt" else path.read_bytes()
        for path in [*files, *vocabularies]
    }


def schema_of(path: Path) -> bytes:
    """What a schema says. Its bytes differ from process to process with protobuf 3, which the NGC image has."""
    schema = TensorflowMetadata.from_proto_text(path.read_text(encoding="utf-8")).to_merlin_schema()
    columns = [(column.name, str(column.dtype), sorted(map(str, column.tags)), column.properties) for column in schema]
    return json.dumps(columns, sort_keys=True, default=str).encode()


@pytest.mark.parametrize(
    "split", [RandomSplit(), TemporalSplit(), LeaveLastOutSplit()], ids=lambda split: type(split).__name__
)
def test_parts_come_together_to_what_one_part_gives_in_the_order_of_the_split(
    tables: Stored, tmp_path: Path, split: object
) -> None:
    several, whole = made(tables, tmp_path / "several", split), Tables.load(tables.directory)
    single = made(whole, tmp_path / "one", split)
    positions = split_rows(whole.interactions, split)  # type: ignore[arg-type]
    for name in ("train", "valid", "test"):
        left, right = getattr(several, name), getattr(single, name)
        expected = whole.interactions.iloc[getattr(positions, name)].reset_index(drop=True)
        pd.testing.assert_frame_equal(left.interactions.drop(columns="item_index"), expected)
        pd.testing.assert_frame_equal(left.interactions, right.interactions)
        for feature, values in right.query.items():
            np.testing.assert_allclose(left.query[feature], values, rtol=1e-5, atol=1e-6)
    assert several.query_specs == single.query_specs
    assert several.item_specs == single.item_specs


def test_the_files_are_the_same_whatever_works_on_them(tables: Stored, tmp_path: Path, scheduler: str) -> None:
    made(tables, tmp_path / "threads", RandomSplit())
    with client(scheduler=scheduler) as joined:
        assert joined is not None
        made(tables, tmp_path / "two", RandomSplit(), joined)
    left, right = contents(tmp_path / "threads"), contents(tmp_path / "two")
    assert [name for name in left if "workflow" in name], "vocabularies are compared"
    assert {name for name in left if left[name] != right.get(name)} == set()
    assert set(left) == set(right)


class Dies:
    """Kills the worker that it runs on the first time, and does its work the second time."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __call__(self, number: int) -> int:
        if number == 3 and not self.marker.exists():
            self.marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return number * number


def test_what_a_killed_worker_had_is_done_again(tmp_path: Path, cluster: Client) -> None:
    assert sorted(each(Dies(tmp_path / "died"), 6, cluster)) == [0, 1, 4, 9, 16, 25]
    assert (tmp_path / "died").exists()


def test_both_a_cluster_of_ones_own_and_workers_are_refused_and_nobody_at_an_address_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(RecipeError, match="give one of the two"), client(2, "tcp://127.0.0.1:1"):
        pass
    monkeypatch.setattr("workflows.features.dask_cluster.WORKERS_TIMEOUT_SECONDS", 1)
    message = r"no Dask scheduler answers there.*dask scheduler"
    with pytest.raises(StageError, match=message), client(None, "tcp://127.0.0.1:1"):
        pass


def test_synthetic_rows_are_the_same_again_and_lean_to_the_clusters_that_were_planted(
    tables: Stored, tmp_path: Path
) -> None:
    again = Synthetic(interactions=2000, users=150, items=60, clusters=5)
    fetch(again, tmp_path, lambda line: None).save(tmp_path / "again")
    whole = Tables.load(tmp_path / "again").interactions
    assert whole["user_id"].value_counts().iloc[:15].sum() > 0.25 * len(whole), "a tenth of the users is busy"
    users, items = tables.users.set_index("user_id"), tables.items.set_index("item_id")
    likes = users.loc[whole["user_id"], "city"].str[-3:].astype(int).to_numpy() % 5
    topics = items.loc[whole["item_id"], "topic"].str[-3:].astype(int).to_numpy()
    assert 0.65 < float(np.mean(likes == topics)) < 0.85, "0.7, and a fifth of the others"
    assert list(whole["timestamp"].diff().iloc[1:] < -3600) == [False] * 1999
