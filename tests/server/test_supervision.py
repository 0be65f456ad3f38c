"""A real Triton whose model's process dies, and which dies itself: both come back, and say so."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
import pytest
import tritonclient.grpc as grpc
from tritonclient.utils import InferenceServerException

from ensemble.layouts import CHAINED, FUSED
from ensemble.measure.prometheus import read
from ensemble.measure.status import places, status
from ensemble.server.ports import free_ports
from ensemble.server.server import TritonServer
from ensemble.serving.triton import canary as probe
from ensemble.serving.triton.metrics import REPORT_SECONDS
from ensemble.supervision.events import Event, kept
from ensemble.supervision.health import canary
from ensemble.supervision.supervisor import Supervisor
from ensemble.triton.export import export_repository
from tests.served import Served, int32, tensor
from tests.synthetic import make_release, make_run
from tests.waiting import until

pytestmark = pytest.mark.server


class Watched(NamedTuple):
    """A supervised server and what its supervisor has told."""

    server: TritonServer
    events: list[Event]
    reactions: dict[str, Callable[[], None]]
    """What is done before the supervisor goes on after an event of that name, once."""

    def told(self, name: str) -> list[Event]:
        return [event for event in self.events if event["event"] == name]

    def recovered_since(self, event: Event) -> bool:
        return any(recovery["time"] > event["time"] for recovery in self.told("recovered"))


@contextmanager
def supervised(place: Path, **serving: Any) -> Iterator[Watched]:
    repository = export_repository(make_release(make_run(place), **serving), place / "triton")
    grpc_port, http_port, metrics_port = free_ports("127.0.0.1", 3)
    events: list[Event] = []
    reactions: dict[str, Callable[[], None]] = {}

    def tell(event: Event) -> None:
        events.append(event)
        reactions.pop(event["event"], lambda: None)()

    ended = threading.Event()
    with TritonServer(repository, grpc_port=grpc_port, http_port=http_port, metrics_port=metrics_port) as server:
        thread = threading.Thread(target=Supervisor(server, tell).run, args=(ended.is_set,))
        thread.start()
        try:
            yield Watched(server, events, reactions)
        finally:
            ended.set()
            thread.join()
        assert not kept(repository)


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    with supervised(tmp_path_factory.mktemp("supervised")) as watched:
        yield watched


def stubs_of(server: TritonServer) -> list[psutil.Process]:
    """Return the processes of the models, those that run."""
    children = psutil.Process(server.process_id).children()
    return [child for child in children if "stub" in child.name() and child.status() != psutil.STATUS_ZOMBIE]


def stub_of(server: TritonServer) -> psutil.Process:
    """Return the process of the model that has one."""
    return stubs_of(server)[0]


def test_a_process_that_died_is_replaced_and_its_counts_go_on(watched: Watched) -> None:
    server = watched.server
    metrics = f"127.0.0.1:{server.addresses.metrics_port}"
    assert canary(server.addresses.grpc).healthy
    counted = until(lambda: read(metrics).total("retrieval_rows_total"))
    first = stub_of(server)
    first.kill()
    until(lambda: watched.told("recovered"))
    assert [event["pids"] for event in watched.told("process_died")] == [[first.pid]]
    assert stub_of(server).pid != first.pid
    assert canary(server.addresses.grpc).healthy
    assert until(lambda: read(metrics).total("retrieval_rows_total") > counted)
    (report,) = (status(place) for place in places(server.repository))
    assert report.healthy
    assert report.repairs is not None
    assert report.repairs["model_reloaded"] == 1
    assert report.items == 300


def test_a_server_that_died_is_started_again(watched: Watched) -> None:
    process = watched.server.process_id
    psutil.Process(process).kill()
    until(lambda: watched.told("restarted"))
    assert watched.server.process_id != process
    assert canary(watched.server.addresses.grpc).healthy


def test_a_process_that_answers_wrongly_is_killed_and_not_only_followed_by_another(watched: Watched) -> None:
    """Its memory is damaged, that of the file is whole again when the next one reads it."""
    server, first = watched.server, stub_of(watched.server)
    watched.reactions["process_killed"] = lambda: turn_vectors(server)
    turn_vectors(server)
    killed = until(lambda: watched.told("process_killed"))[-1]
    assert killed["pid"] == first.pid
    assert "wrong" in killed["reason"]
    until(lambda: watched.recovered_since(killed))
    assert watched.told("model_reloaded")[-1]["time"] > killed["time"]
    assert stub_of(server).pid != first.pid
    assert canary(server.addresses.grpc).healthy


def test_what_waits_for_a_process_that_died_fails_at_once_and_not_one_a_second(watched: Watched) -> None:
    """Triton hands it to the dead process still: the last of 320 requests once failed after minutes."""
    watched.reactions.clear()
    server, restarts = watched.server, len(watched.told("restarted"))
    inputs = [tensor("user_id", "INT64", np.ones((64, 1), dtype=np.int64))]
    ends: list[str] = []

    def ended(result: Any, error: InferenceServerException | None) -> None:
        ends.append("answered" if error is None else str(error.status()))

    with grpc.InferenceServerClient(server.addresses.grpc) as client:
        client.infer(FUSED, inputs)  # so that it is known how large requests are
        stub_of(server).suspend()
        for _ in range(100):
            client.async_infer(FUSED, inputs, ended, client_timeout=100)
        until(lambda: len(ends) == 100)
    assert "StatusCode.UNAVAILABLE" in ends, watched.events[-40:]
    until(lambda: len(watched.told("restarted")) > restarts)
    assert watched.told("restarted")[-1]["reason"].endswith(f"wait for '{FUSED}', whose process died")
    until(lambda: canary(server.addresses.grpc).healthy)


def turn_vectors(server: TritonServer) -> None:
    """Turn the sign of the items' vectors, in the file that the process has mapped; twice is as before."""
    (file,) = server.repository.glob(f"{FUSED}/*/release/items/vectors.npy")
    vectors = np.load(file, mmap_mode="r+")
    vectors *= -1
    vectors.flush()


def test_a_process_that_is_stopped_is_replaced_though_another_answers_the_canary(tmp_path: Path) -> None:
    with supervised(tmp_path, instances=2) as watched:
        stopped, other = stubs_of(watched.server)
        stopped.suspend()
        killed = until(lambda: watched.told("process_killed"))[-1]
        until(lambda: watched.recovered_since(killed))
        assert [event["pid"] for event in watched.told("process_killed")] == [stopped.pid]
        assert [event["left"] for event in watched.told("process_died")] == [1]
        assert not watched.told("restarting")
        assert len({stub.pid for stub in stubs_of(watched.server)} - {stopped.pid, other.pid}) == 2


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
    before = settled(address)
    users = [served.users[0], served.stranger]
    with grpc.InferenceServerClient(served.address) as client:
        user = tensor("user_id", *served.ids(users))
        release = client.infer(FUSED, [user], outputs=[grpc.InferRequestedOutput("release")])
        with suppress(InferenceServerException):
            client.infer(FUSED, [user, tensor("top_k", *int32(-1, -1))])
    after = until(lambda: changed(address, before))
    unknown = [reading.total("retrieval_unknown_users_total", model=FUSED) for reading in (before, after)]
    assert unknown[1] - unknown[0] == 1
    excluded = {"model": FUSED, "by": "excluded"}
    name = "retrieval_filtered_candidates_total"
    assert until(lambda: read(address).total(name, **excluded) > before.total(name, **excluded))
    (info,) = after.find("retrieval_release_info", model=FUSED)
    assert info.labels["release"] == release.as_numpy("release")[0, 0].decode()
    assert info.value == 1


def settled(address: str) -> Any:
    """Return the metrics once the model has handed over, in a pass of its own, what other tests asked of it."""
    names = ("retrieval_rows_total", "retrieval_unknown_users_total", "retrieval_refused_rows_total")
    metrics, since = read(address), time.monotonic()
    while time.monotonic() - since < 2 * REPORT_SECONDS:
        time.sleep(0.1)
        later = read(address)
        if any(later.total(name, model=FUSED) != metrics.total(name, model=FUSED) for name in names):
            metrics, since = later, time.monotonic()
    return metrics


def changed(address: str, before: Any) -> Any:
    """Return the metrics once the refusal is in them."""
    metrics, labels = read(address), {"model": FUSED, "reason": "top_k"}
    name = "retrieval_refused_rows_total"
    return metrics if metrics.total(name, **labels) - before.total(name, **labels) == 2 else None
