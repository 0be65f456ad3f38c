"""A real Triton whose model's process dies, and which dies itself: both come back, and say so."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, NamedTuple

import psutil
import pytest
import tritonclient.grpc as grpc
from served import Served, int32, tensor
from synthetic import make_release, make_run
from tritonclient.utils import InferenceServerException

from ensemble.events import Event, kept
from ensemble.exposition import read
from ensemble.health import canary
from ensemble.layouts import CHAINED, FUSED
from ensemble.ports import free_ports
from ensemble.runtime import export_repository
from ensemble.server import TritonServer
from ensemble.serving import canary as probe
from ensemble.status import places, status
from ensemble.supervision import Supervisor

pytestmark = pytest.mark.server

SECONDS = 60


def until(true: Callable[[], Any]) -> Any:
    """Return what `true` returns once it is something; fail after a minute."""
    deadline = time.monotonic() + SECONDS
    while not (found := true()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


class Watched(NamedTuple):
    """A supervised server and what its supervisor has told."""

    server: TritonServer
    events: list[Event]

    def told(self, name: str) -> list[Event]:
        return [one for one in self.events if one["event"] == name]


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    place = tmp_path_factory.mktemp("supervised")
    repository = export_repository(make_release(make_run(place)), place / "triton")
    grpc_port, http_port, metrics_port = free_ports("127.0.0.1", 3)
    events: list[Event] = []
    ended = threading.Event()
    with TritonServer(repository, grpc_port=grpc_port, http_port=http_port, metrics_port=metrics_port) as server:
        supervisor = Supervisor(server, events.append)
        thread = threading.Thread(target=supervisor.run, args=(ended.is_set,))
        thread.start()
        try:
            yield Watched(server, events)
        finally:
            ended.set()
            thread.join()
        assert not kept(repository)


def stub_of(server: TritonServer) -> psutil.Process:
    """Return the process of the model, of those that run."""
    children = psutil.Process(server.process_id).children()
    return next(one for one in children if "stub" in one.name() and one.status() != psutil.STATUS_ZOMBIE)


def test_a_process_that_died_is_replaced_and_its_counts_go_on(watched: Watched) -> None:
    server = watched.server
    metrics = f"127.0.0.1:{server.addresses.metrics_port}"
    assert canary(server.addresses.grpc).healthy
    counted = until(lambda: read(metrics).total("retrieval_rows_total"))
    first = stub_of(server)
    first.kill()
    until(lambda: watched.told("recovered"))
    assert [one["pids"] for one in watched.told("process_died")] == [[first.pid]]
    assert stub_of(server).pid != first.pid
    assert canary(server.addresses.grpc).healthy
    assert until(lambda: read(metrics).total("retrieval_rows_total") > counted)
    (found,) = (status(one) for one in places(server.repository))
    assert found.healthy
    assert found.repairs is not None
    assert found.repairs["model_reloaded"] == 1
    assert found.items == 300


def test_a_server_that_died_is_started_again(watched: Watched) -> None:
    process = watched.server.process_id
    psutil.Process(process).kill()
    until(lambda: watched.told("restarted"))
    assert watched.server.process_id != process
    assert canary(watched.server.addresses.grpc).healthy


def test_the_probe_needs_the_standard_library_alone(watched: Watched) -> None:
    command = [sys.executable, "-I", "-S", probe.__file__, "--url"]
    right = subprocess.run([*command, f"http://127.0.0.1:{watched.server.addresses.http_port}"], check=False)
    assert right.returncode == 0
    wrong = subprocess.run([*command, "http://127.0.0.1:9"], capture_output=True, text=True, check=False)
    assert wrong.returncode == 1
    assert '"unreachable"' in wrong.stderr


@pytest.mark.parametrize("model", [FUSED, CHAINED])
def test_a_model_answers_its_canary(served: Served, model: str) -> None:
    result = canary(served.address, model)
    assert (result.state, result.reason, result.model) == ("healthy", "", model)


def test_nobody_there_is_unreachable() -> None:
    assert canary("127.0.0.1:9", timeout_s=0.5).state == "unreachable"


def test_operators_see_what_was_asked(served: Served) -> None:
    """Unknown users, refusals by reason, what was left out, and which release it was."""
    address = f"127.0.0.1:{served.server.addresses.metrics_port}"
    before = read(address)
    users = [served.users[0], served.stranger]
    with grpc.InferenceServerClient(served.address) as client:
        asked = tensor("user_id", *served.ids(users))
        release = client.infer(FUSED, [asked], outputs=[grpc.InferRequestedOutput("release")])
        with suppress(InferenceServerException):
            client.infer(FUSED, [asked, tensor("top_k", *int32(-1, -1))])
    after = until(lambda: changed(address, before))
    unknown = [one.total("retrieval_unknown_users_total", model=FUSED) for one in (before, after)]
    assert unknown[1] - unknown[0] == 1
    excluded = {"model": FUSED, "by": "excluded"}
    name = "retrieval_filtered_candidates_total"
    assert after.total(name, **excluded) > before.total(name, **excluded)
    (info,) = after.find("retrieval_release_info", model=FUSED)
    assert info.labels["release"] == release.as_numpy("release")[0, 0].decode()
    assert info.value == 1


def changed(address: str, before: Any) -> Any:
    """Return the metrics once the refusal is in them."""
    found, labels = read(address), {"model": FUSED, "reason": "top_k"}
    name = "retrieval_refused_rows_total"
    return found if found.total(name, **labels) - before.total(name, **labels) == 2 else None
