"""A release goes live in a real server under load: no request fails, no answer is of two, a bad one changes nothing."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import tritonclient.grpc as grpc
from tritonclient.utils import InferenceServerException
from typer.testing import CliRunner

from ensemble.deploy.swap import deploy, live_version, release_of, versions_in
from ensemble.deploy.versions import Versions
from ensemble.layouts import CHAINED, CONFIG, FUSED, models_in
from ensemble.server.ports import free_ports
from ensemble.server.server import TritonServer
from ensemble.serving.retriever import Retriever
from ensemble.triton.export import export_repository
from ensemble.triton.model_control import ModelControl
from retrieval.cli import app
from retrieval.runs.places import repository_of
from tests.hostile import made_right
from tests.synthetic import make_release, make_run
from workflows.errors import ReleaseError, ServerError

pytestmark = pytest.mark.server

CLIENTS = 6


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two releases of the same columns whose vectors differ."""
    place = tmp_path_factory.mktemp("releases")
    return [make_release(make_run(place / str(seed), seed=seed), layout="both") for seed in (0, 1)]


@pytest.fixture(scope="module")
def answers(releases: list[Path]) -> dict[str, list[int]]:
    """What each release, by its id, answers to everybody."""
    answers = {}
    for release in releases:
        retriever = Retriever.load(release)
        request = retriever.reader.read([{"user_id": np.array([[-1]])}])
        answers[retriever.release.manifest["release"]] = retriever.answer(request).item_id[0].tolist()
    assert len({tuple(items) for items in answers.values()}) == 2
    return answers


class Place(NamedTuple):
    """A running server, its repository, and what commands it."""

    server: TritonServer
    repository: Path
    control: ModelControl


@pytest.fixture(scope="module")
def place(releases: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """The first release in both layouts behind a real Triton, whose log is printed, and so shown where a test fails."""
    versions = tmp_path_factory.mktemp("deploy") / "releases"
    command("promote", releases[0], versions)
    repository = repository_of(versions)
    grpc_port, http_port, metrics_port = free_ports("127.0.0.1", 3)
    server = TritonServer(repository, grpc_port=grpc_port, http_port=http_port, metrics_port=metrics_port, on_log=print)
    with (
        server,
        ModelControl(server.addresses.grpc, repository) as control,
        grpc.InferenceServerClient(server.addresses.grpc) as client,
    ):
        for model in (FUSED, CHAINED):  # Triton 2.51 ended twice where the first requests to both came at once
            ask(client, model)
        yield Place(server, repository, control)


class Seen(NamedTuple):
    """What one answer said."""

    model: str
    version: str
    release: str
    items: tuple[int, ...]


@contextmanager
def load(server: TritonServer) -> Iterator[list[Seen]]:
    """Ask both layouts, some hundreds of times a second; a failed request fails the test."""
    stop, seen = threading.Event(), list[Seen]()
    with grpc.InferenceServerClient(server.addresses.grpc) as client, ThreadPoolExecutor(CLIENTS) as pool:

        def work(model: str) -> None:
            while not stop.wait(0.01):  # without a pause this took more CPU time than all else of the test
                seen.append(ask(client, model))

        working = [pool.submit(work, (FUSED, CHAINED)[number % 2]) for number in range(CLIENTS)]
        try:
            yield seen
        finally:
            stop.set()
            for future in working:
                future.result()


def ask(client: Any, model: str) -> Seen:
    tensor = grpc.InferInput("user_id", [1, 1], "INT64")
    tensor.set_data_from_numpy(np.array([[-1]]))
    result = client.infer(model, [tensor])
    release, items = result.as_numpy("release")[0, 0].decode(), result.as_numpy("item_id")[0].tolist()
    return Seen(model, result.get_response().model_version, release, tuple(items))


def command(*arguments: Any) -> None:
    """Run a command that succeeds."""
    done = CliRunner().invoke(app, [*map(str, arguments)])
    assert done.exit_code == 0, done.output


def test_a_release_goes_live_and_back_under_load(
    place: Place, releases: list[Path], answers: dict[str, list[int]]
) -> None:
    old, new = answers
    versions, address = place.repository.parent, ("--address", place.server.addresses.grpc)
    with load(place.server) as seen:
        command("promote", releases[1], versions, *address, "--force", "--reason", "under load")
        assert {ask(place.control._client, model).release for model in (FUSED, CHAINED)} == {new}
        command("rollback", versions, *address)
        assert {ask(place.control._client, model).release for model in (FUSED, CHAINED)} == {old}
    # The version names the release, and the answer is that of this release, from first to last.
    of_version = {"1": old, "2": new}
    for answer in seen:
        assert answer.release == of_version[answer.version]
        assert list(answer.items) == answers[answer.release]
    assert {(answer.model, answer.release) for answer in seen} == {
        (model, id_) for model in (FUSED, CHAINED) for id_ in answers
    }
    assert versions_in(place.repository) == [1, 2]
    assert release_of(place.repository, 2) == new
    turns = Versions(versions).history()
    assert [(turn.version, turn.server) for turn in turns] == [(1, None), (2, address[1]), (1, address[1])]


def test_a_repository_is_not_changed_behind_the_back_of_its_server(place: Place, releases: list[Path]) -> None:
    before = {path: path.read_bytes() for path in place.repository.rglob(CONFIG)}
    versions = place.repository.parent
    done = CliRunner().invoke(app, ["promote", str(releases[1]), str(versions), "--force", "--reason", "no server"])
    assert done.exit_code == 2
    assert f"give --address {place.server.addresses.grpc}" in " ".join(done.output.split())
    assert {path: path.read_bytes() for path in place.repository.rglob(CONFIG)} == before


def test_a_release_that_fails_its_self_test_leaves_the_old_one_serving(
    place: Place, releases: list[Path], tmp_path: Path
) -> None:
    before = {path: path.read_bytes() for path in place.repository.rglob(CONFIG)}
    served = ask(place.control._client, CHAINED)
    bad = spoiled(releases[0], tmp_path / "bad")
    with (
        load(place.server) as seen,
        pytest.raises(ServerError, match="self-test failed: scores of the sample queries") as refused,
    ):
        deploy(bad, place.repository, place.control)
    assert "Traceback" not in str(refused.value)
    assert {(answer.version, answer.release) for answer in seen} == {(served.version, served.release)}
    assert {path: path.read_bytes() for path in place.repository.rglob(CONFIG)} == before
    assert not [path for path in place.repository.iterdir() if path.name == ".deploying"]


def spoiled(release: Path, out: Path) -> Path:
    """Return a copy of a release, whole by every hash, that does not answer as it says."""
    shutil.copytree(release, out)
    stated = json.loads((out / "selftest.json").read_text())
    stated["scores"][0][0] += 0.01
    (out / "selftest.json").write_text(json.dumps(stated))
    made_right(out)
    return out


@pytest.mark.parametrize(("option", "unit"), [("instances", "instances"), ("threads", "threads of an instance")])
def test_a_release_for_a_larger_machine_is_not_sent_to_a_running_server(
    place: Place, releases: list[Path], tmp_path: Path, option: str, unit: str
) -> None:
    before = {path: path.read_bytes() for path in place.repository.rglob(CONFIG)}
    large = Path(shutil.copytree(releases[1], tmp_path / "large"))
    manifest = json.loads((large / "manifest.json").read_text())
    manifest["serving"][option] = 256
    (large / "manifest.json").write_text(json.dumps(manifest))
    made_right(large)
    with pytest.raises(ServerError, match=f"256 {unit}, more than .* release it again with fewer"):
        deploy(large, place.repository, place.control)
    assert {path: path.read_bytes() for path in place.repository.rglob(CONFIG)} == before


KILLED = """
import os, signal, sys
from pathlib import Path
from ensemble.deploy.swap import deploy
from ensemble.triton.model_control import ModelControl
repository = Path(sys.argv[2])
def progress(text):
    if text.startswith(sys.argv[4]):
        os.kill(os.getpid(), signal.SIGKILL)
with ModelControl(sys.argv[3], repository) as control:
    deploy(Path(sys.argv[1]), repository, control, progress)
"""


def test_what_a_killed_deployment_left_is_taken_back(place: Place, releases: list[Path]) -> None:
    live = ask(place.control._client, CHAINED).version
    arguments = [releases[0], place.repository, place.server.addresses.grpc, "loading retrieval_chained"]
    killed = subprocess.run([sys.executable, "-c", KILLED, *map(str, arguments)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert ask(place.control._client, CHAINED).version == live
    version = deploy(releases[0], place.repository, place.control)
    assert {ask(place.control._client, model).version for model in (FUSED, CHAINED)} == {str(version)}
    assert versions_in(place.repository) == [int(live), version]


def test_a_server_starts_with_what_was_live_before_a_killed_deployment(place: Place, releases: list[Path]) -> None:
    copy = Path(shutil.copytree(place.repository, place.repository.with_name("copy")))
    live = live_version(copy)
    (other_version,) = set(versions_in(copy)) - {live}
    for model in models_in(copy)[:2]:
        shutil.copyfile(copy / model / str(other_version) / CONFIG, copy / model / CONFIG)
    (copy / ".deploying").write_text(str(live))
    grpc_port, http_port, metrics_port = free_ports("127.0.0.1", 3)
    with (
        TritonServer(copy, grpc_port=grpc_port, http_port=http_port, metrics_port=metrics_port) as server,
        grpc.InferenceServerClient(server.addresses.grpc) as client,
    ):
        assert {ask(client, model).version for model in (FUSED, CHAINED)} == {str(live)}


def test_only_who_has_the_key_commands_the_server(place: Place) -> None:
    """Loading a model runs its code."""
    (key,) = place.repository.glob(".admin-key-*")
    assert key.stat().st_mode & 0o777 == 0o600
    with grpc.InferenceServerClient(place.server.addresses.grpc) as stranger:
        with pytest.raises(InferenceServerException, match="restricted"):
            stranger.load_model(FUSED)
        with pytest.raises(InferenceServerException, match="restricted"):
            stranger.unload_model(FUSED)
        assert ask(stranger, FUSED).items


def test_chained_models_whose_columns_change_are_refused(
    place: Place, tmp_path_factory: pytest.TempPathFactory
) -> None:
    dated = make_release(make_run(tmp_path_factory.mktemp("dated"), last=5), layout="both")
    live = ask(place.control._client, CHAINED)
    with pytest.raises(ReleaseError, match=r"its input history_item_ids, history_timestamps, timestamp is not as in"):
        deploy(dated, place.repository, place.control)
    assert ask(place.control._client, CHAINED) == live
    assert int(live.version) == live_version(place.repository)


def test_a_server_of_another_repository_is_not_touched(place: Place, releases: list[Path], tmp_path: Path) -> None:
    elsewhere = export_repository(releases[1], tmp_path / "triton")
    for model in models_in(elsewhere):
        (elsewhere / model / "1").rename(elsewhere / model / "77")
        config = elsewhere / model / CONFIG
        config.write_text(config.read_text().replace("versions: [ 1 ]", "versions: [ 77 ]"))
    os.link(next(place.repository.glob(".admin-key-*")), elsewhere / next(place.repository.glob(".admin-key-*")).name)
    with (
        ModelControl(place.server.addresses.grpc, elsewhere) as control,
        pytest.raises(ServerError, match="does not serve version 77 of 'retrieval'"),
    ):
        deploy(releases[0], elsewhere, control)
