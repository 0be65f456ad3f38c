"""A server whose process is killed, or that is stopped, under load: each request is answered or told to come again."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

import psutil
import pytest

from benchmarks.faults.load import Load, Question, listed, until
from benchmarks.faults.questions import Subject, right_questions
from ensemble.server.ports import free_ports
from ensemble.server.server import TritonServer
from ensemble.supervision.supervisor import Supervisor
from ensemble.triton.export import export_repository
from tests.synthetic import make_release, make_run

pytestmark = pytest.mark.server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[TritonServer]:
    """A synthetic release, served."""
    repository = export_repository(make_release(make_run(tmp_path)), tmp_path / "triton")
    grpc_port, metrics_port = free_ports("127.0.0.1", 2)
    with TritonServer(repository, grpc_port=grpc_port, metrics_port=metrics_port, stop_timeout_seconds=5) as running:
        yield running


def questions(server: TritonServer) -> Iterator[Question]:
    address = server.addresses.grpc
    subject = Subject.of(address, server.repository / "retrieval/1/release")
    return cycle(right_questions(address, subject, 10))


def test_killed_and_stopped_under_load_it_loses_nothing(server: TritonServer) -> None:
    ended = threading.Event()
    watching = threading.Thread(target=Supervisor(server).run, args=(ended.is_set,))
    watching.start()
    try:
        with Load(server.addresses.grpc, questions(server), 4, patience=200) as load:
            assert until(lambda: load.seen.counts.answered > 20, 60)
            (stub,) = [child for child in psutil.Process(server.process_id).children() if "stub" in child.name()]
            stub.kill()
            assert until(lambda: load.seen.asked_again > 0, 60), "nobody met the dead process"
            before = load.seen.counts.answered
            assert until(lambda: load.seen.counts.answered > before + 100, 60), "it was not started again"
    finally:
        ended.set()
        watching.join()
    assert not load.seen.unexpected, listed(load.seen.unexpected)
    assert load.seen.counts.lost == 0

    with Load(server.addresses.grpc, questions(server), 4) as load:
        assert until(lambda: load.seen.counts.answered > 20, 60)
        server.stop()
        assert until(lambda: load.seen.counts.refused > 0, 60)
    assert load.seen.counts.lost == 0, listed(load.seen.ended)
