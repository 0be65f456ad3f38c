"""Starting and stopping a real Triton."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import pytest
import tritonclient.grpc as grpc

from ensemble.server.foreground import serve
from ensemble.server.ports import check_free, free_ports
from ensemble.server.server import TritonServer
from ensemble.triton.export import export_repository
from tests.environments import serving_python
from tests.synthetic import make_release, make_run
from workflows.errors import ServerError

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of a synthetic release."""
    place = tmp_path_factory.mktemp("server")
    return export_repository(make_release(make_run(place)), place / "triton")


def server_of(repository: Path, log: list[str] | None = None, python: Path | None = None) -> TritonServer:
    """Return a server on free ports that is not started yet."""
    grpc_port, metrics_port = free_ports("127.0.0.1", 2)
    lines: list[str] = [] if log is None else log
    return TritonServer(
        repository,
        python=python,
        grpc_port=grpc_port,
        metrics_port=metrics_port,
        on_log=lines.append,
    )


def count_of_an_answer(server: TritonServer) -> int:
    """Ask for one unknown user and return how many items came."""
    with grpc.InferenceServerClient(server.addresses.grpc) as client:
        tensor = grpc.InferInput("user_id", [1, 1], "INT64")
        tensor.set_data_from_numpy(np.array([[-1]]))
        return int(client.infer("retrieval", [tensor]).as_numpy("count")[0, 0])


def family_of(pid: int) -> list[psutil.Process]:
    """Return a process and all below it."""
    return [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]


def running(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Return those that still run; one that nobody has reaped yet does not."""
    return [process for process in processes if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]


def test_it_answers_inside_the_block_by_grpc_on_this_machine_alone_and_leaves_nothing_behind(repository: Path) -> None:
    log: list[str] = []
    with server_of(repository, log) as server:
        assert count_of_an_answer(server) == 10
        processes = family_of(server.process_id)
        listening = {sock.laddr for sock in processes[0].net_connections("tcp") if sock.status == psutil.CONN_LISTEN}
        place = server.addresses
        ports = (place.grpc_port, place.metrics_port)
        assert {(str(address.ip).removeprefix("::ffff:"), address.port) for address in listening} == {
            ("127.0.0.1", port) for port in ports
        }
        stub = next(process for process in processes[1:] if "stub" in process.name())
        assert stub.environ()["OMP_NUM_THREADS"] == "1"
    assert not running(processes)
    assert any("successfully loaded 'retrieval'" in line for line in log)
    assert any("300 items" in line for line in log)
    check_free("127.0.0.1", {"grpc": ports[0], "metrics": ports[1]})


def test_a_taken_port_is_named_with_who_has_it(repository: Path) -> None:
    server = server_of(repository)
    listener = socket.create_server(("127.0.0.1", server.addresses.metrics_port))
    with listener, pytest.raises(ServerError) as caught:
        server.start()
    assert f"port {server.addresses.metrics_port} (metrics)" in str(caught.value)
    assert f"(process {os.getpid()})" in str(caught.value)
    assert "--metrics-port" in str(caught.value)


def test_one_port_for_two_purposes_is_refused() -> None:
    with pytest.raises(ServerError, match="given twice"):
        check_free("127.0.0.1", {"grpc": 9000, "http": 9000})


def test_a_damaged_release_ends_the_start_with_file_and_reason(repository: Path, tmp_path: Path) -> None:
    damaged = Path(shutil.copytree(repository, tmp_path / "damaged"))
    vectors = damaged / "retrieval/1/release/items/vectors.npy"
    content = bytearray(vectors.read_bytes())
    content[-1] ^= 1
    vectors.write_bytes(content)
    with pytest.raises(ServerError, match=r"items/vectors\.npy: the content is not what was released") as caught:
        server_of(damaged).start()
    assert "\n" not in str(caught.value)
    assert "At:" not in str(caught.value)


def test_a_configuration_of_another_release_is_refused(repository: Path, tmp_path: Path) -> None:
    copied = Path(shutil.copytree(repository, tmp_path / "other"))
    config = copied / "retrieval/config.pbtxt"
    config.write_text(
        config.read_text().replace('name: "age" data_type: TYPE_FP64', 'name: "age" data_type: TYPE_INT64')
    )
    with pytest.raises(ServerError, match="export the repository again"):
        server_of(copied).start()


def test_a_triton_that_ends_while_it_starts_is_reported_whatever_it_leaves_behind(
    repository: Path, tmp_path: Path
) -> None:
    """A model process that hangs keeps Triton's log open."""
    fake = tmp_path / "tritonserver"
    fake.write_text("#!/bin/sh\nsleep 600 &\necho 'error: creating server: no reason'\nexit 3\n")
    fake.chmod(0o755)
    grpc_port, metrics_port = free_ports("127.0.0.1", 2)
    server = TritonServer(repository, triton=fake, grpc_port=grpc_port, metrics_port=metrics_port)
    with pytest.raises(ServerError, match=r"ended with status 3: .*no reason"):
        server.start()


def test_something_else_than_a_repository_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ServerError, match="no model repository"):
        server_of(tmp_path).start()


SERVE = """
import signal, sys
from pathlib import Path
from ensemble.server.foreground import serve
from ensemble.server.server import TritonServer
ports = map(int, sys.argv[2:4])
server = TritonServer(Path(sys.argv[1]), **dict(zip(("grpc_port", "metrics_port"), ports)))
def ready(addresses):
    if sys.argv[4:]:  # the kernel gives the signal to another thread: no system call of the main one is interrupted
        signal.pthread_sigmask(signal.SIG_BLOCK, [int(sys.argv[4])])
    sys.stdout.write(f"{server.process_id}\\n")
    sys.stdout.flush()
sys.exit(serve(server, ready))
"""


@contextmanager
def foreground(repository: Path, *options: object) -> Iterator[tuple[subprocess.Popen[str], list[psutil.Process]]]:
    """Serve in a process of its own; yield it with Triton's processes; none is left after the block."""
    command = [sys.executable, "-c", SERVE, repository, *free_ports("127.0.0.1", 2), *options]
    processes: list[psutil.Process] = []
    with subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            processes = family_of(int(process.stdout.readline()))
            yield process, processes
        finally:
            process.kill()
            for survivor in running(processes):
                survivor.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_foreground_server_cleanly(repository: Path, number: signal.Signals) -> None:
    with foreground(repository) as (process, processes):
        process.send_signal(number)
        assert process.wait(60) == 0
        assert not running(processes)


def test_a_signal_that_interrupts_nothing_is_not_missed(repository: Path) -> None:
    with foreground(repository, int(signal.SIGTERM)) as (process, processes):
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        assert not running(processes)


def test_a_signal_during_the_start_ends_it(repository: Path) -> None:
    """Triton says what it loads long before it is ready."""
    log: list[str] = []
    server = server_of(repository, log)

    def on_log(line: str) -> None:
        log.append(line)
        if len(log) == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    server._on_log = on_log
    assert serve(server, lambda _: pytest.fail("it went on to be ready")) == 0
    with pytest.raises(ServerError, match="not running"):
        server.wait()


def test_triton_does_not_outlive_a_killed_parent(repository: Path) -> None:
    with foreground(repository) as (process, processes):
        process.kill()
        _, alive = psutil.wait_procs(processes, timeout=30)
        assert not running(alive)


def test_triton_outlives_the_thread_that_started_it(repository: Path) -> None:
    server = server_of(repository)
    starter = threading.Thread(target=server.start)
    starter.start()
    starter.join()
    try:
        assert count_of_an_answer(server) == 10
    finally:
        server.stop()


def test_a_log_that_nobody_can_write_does_not_end_the_server(repository: Path) -> None:
    server = server_of(repository)
    lines: list[str] = []

    def full(line: str) -> None:
        lines.append(line)
        raise OSError("no space left on device")

    server._on_log = full
    with server:
        assert count_of_an_answer(server) == 10
    assert len(lines) == 1


def test_a_server_that_dies_is_reported_not_waited_for(repository: Path) -> None:
    server = server_of(repository)

    def ready(_: object) -> None:
        psutil.Process(server.process_id).kill()

    with pytest.raises(ServerError, match="ended by itself with status -9"):
        serve(server, ready)


def test_a_killed_server_leaves_no_shared_memory(repository: Path) -> None:
    server, held = server_of(repository), list[Path]()

    def regions() -> list[Path]:
        arguments = " ".join(psutil.Process(server.process_id).cmdline())
        prefix = arguments.partition("shm-region-prefix-name=")[2].partition(" ")[0]
        return list(Path("/dev/shm").glob(f"{prefix}*"))

    def ready(_: object) -> None:
        held.extend(regions())
        psutil.Process(server.process_id).kill()

    with pytest.raises(ServerError, match="ended by itself"):
        serve(server, ready)
    assert held
    assert not [region for region in held if region.exists()]


def test_python_3_12_serves_too(repository: Path) -> None:
    """The serving environment from its own lock, on a Python that cannot hold the training side."""
    with server_of(repository, python=serving_python("3.12")) as server:
        assert count_of_an_answer(server) == 10


def test_a_serving_environment_with_numpy_2_is_refused(repository: Path, tmp_path: Path) -> None:
    """It would start, say that it is ready, and serve garbage."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    packages = next((tmp_path / "venv/lib").glob("python3*/site-packages"))
    for name in ("numpy", "onnxruntime", "faiss"):
        (packages / name).mkdir()
        (packages / name / "__init__.py").touch()
    (packages / "numpy-2.1.0.dist-info").mkdir()
    (packages / "numpy-2.1.0.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: numpy\nVersion: 2.1.0\n")
    with pytest.raises(ServerError, match=r"has NumPy 2\.1\.0.*'numpy<2'"):
        server_of(repository, python=tmp_path / "venv/bin/python").start()
