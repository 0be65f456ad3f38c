"""Engines behind Triton: what the server answers is what the release answers in this process."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ensemble.batch.everybody import Asking, Everybody
from ensemble.catalogue.publish import publish, writing
from ensemble.client import RetrievalClient, Unavailable
from ensemble.client.filters import Filter, TagTest
from ensemble.config import Index
from ensemble.server.ports import free_ports
from ensemble.server.server import TritonServer
from ensemble.serving.files.release import Release
from ensemble.serving.index.milvus_index import SECONDS, URI
from ensemble.triton.export import export_repository
from tests.livecatalogue import Items, make_live_run, new_id, write_items
from tests.synthetic import Run, make_release, make_run

pytestmark = pytest.mark.server
K = 10


def serving(release: Path, folder: Path, delta: Path | None = None) -> TritonServer:
    """Return a server whose models run in this environment, which has the engines."""
    return server_of(export_repository(release, folder / "triton"), delta)


def server_of(repository: Path, delta: Path | None = None) -> TritonServer:
    """Return a server of a model repository in this environment."""
    grpc_port, metrics_port = free_ports("127.0.0.1", 2)
    return TritonServer(
        repository, python=Path(sys.executable), grpc_port=grpc_port, metrics_port=metrics_port, delta=delta
    )


def assert_alike(client: RetrievalClient, release: Path, run: Run, genre: str, delta: Path | None = None) -> None:
    """Compare with the release in this process, with and without a filter."""
    local, users = Everybody.load(release, delta), some_users(run)
    for filter_ in (None, Filter(tags={"genres": TagTest(any=[genre])})):
        answers = client.recommend(users, top_k=K, filters=[filter_] * len(users))
        expected = local.answer(np.array(users), Asking(top_k=K, filter=filter_.text() if filter_ else ""))
        assert [answer.item_ids for answer in answers] == [
            ids[:count] for ids, count in zip(expected.item_id.tolist(), expected.count.tolist(), strict=True)
        ]


def some_users(run: Run) -> list[Any]:
    """Return users of the run, as they are asked for."""
    return list(run.users["user_id"].tolist()[:20])


def test_scann_answers_in_triton_as_here(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", items=3000)
    release = make_release(run, Index(kind="scann", recall_target=0.9))
    with serving(release, tmp_path) as server, RetrievalClient(server.addresses.grpc) as client:
        assert_alike(client, release, run, "Drama")


def test_scann_is_released_and_served_from_relative_paths(
    run_dir: Path, quick_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that was copied elsewhere is released by the command line; Triton opens what that process wrote."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(run_dir, "runs/quick")
    recipe = quick_recipe.read_text(encoding="utf-8")
    Path("quick.toml").write_text(recipe.replace('kind = "flat"', 'kind = "scann"'), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "retrieval", "run", "quick.toml"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "train: kept, same inputs" in done.stderr
    release = Path("runs/quick/release")
    with serving(release, Path("served")) as server, RetrievalClient(server.addresses.grpc) as client:
        local, users, now = Everybody.load(release, None), [196, 22, 757], 900_000_000
        expected = local.answer(np.array(users), Asking(top_k=K, time=now))
        answers = client.recommend(users, top_k=K, timestamps=[now] * len(users))
        assert [answer.item_ids for answer in answers] == expected.item_id.tolist()


def test_a_file_of_milvus_is_served_by_another_process_from_a_relative_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """milvus-lite opens a file with its collections released: who reads it has to load them."""
    pytest.importorskip("pymilvus")
    from milvus_lite.server_manager import server_manager_instance

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(URI, "items.db")
    run = make_run(Path("run"), items=60)
    release = make_release(run, Index(kind="milvus"))
    users = some_users(run)
    expected = Everybody.load(release, None).answer(np.array(users), Asking(top_k=K))
    repository = export_repository(release, Path("triton"))
    server_manager_instance.release_server(str(tmp_path / "items.db"))  # one process has it open
    with server_of(repository) as server, RetrievalClient(server.addresses.grpc) as client:
        assert [answer.item_ids for answer in client.recommend(users, top_k=K)] == expected.item_id.tolist()


@pytest.fixture
def milvus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Milvus behind a port of its own, as a cluster's is; call it to stop it."""
    pytest.importorskip("pymilvus")
    from milvus_lite.adapter.grpc.server import start_server_in_thread

    running, database, port = start_server_in_thread(data_dir=str(tmp_path / "milvus.db"), host="127.0.0.1", port=0)
    monkeypatch.setenv(URI, f"http://127.0.0.1:{port}")
    monkeypatch.setenv(SECONDS, "120")  # it is Python, in the process that asks it: on a busy machine 10 s were too few
    yield lambda: running.stop(0).wait()
    running.stop(0).wait()
    database.close()


def test_milvus_answers_in_triton_as_here_and_with_what_came_later(milvus: Any, tmp_path: Path) -> None:
    items = make_live_run(tmp_path / "run")
    release, delta, users = make_release(items.run, Index(kind="milvus")), tmp_path / "delta", some_users(items.run)
    delta.mkdir()
    with serving(release, tmp_path, delta) as server, RetrievalClient(server.addresses.grpc) as client:
        assert_alike(client, release, items.run, "drama")
        new = added(items, release, delta, tmp_path / "new.jsonl")
        assert_alike(client, release, items.run, "drama", delta)
        assert any(new in answer.item_ids for answer in client.recommend(users, top_k=K))
        milvus()
        with pytest.raises(Unavailable, match="Milvus did not answer"):
            client.recommend(users, top_k=K)


def added(items: Items, release: Path, delta: Path, file: Path) -> Any:
    """Publish an item that many like, and return its id."""
    row = {"item_id": new_id(items.run.items["item_id"].iloc[0], 1), "title": "új", "genres": ["drama"]}
    with writing(Release.open(release), delta) as package:
        publish(package, package.adding(write_items(file, [{**row, "weight": 30.0, "year": 2001}])))
    return row["item_id"]
