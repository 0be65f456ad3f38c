"""Starting and stopping a real Triton."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
import tritonclient.grpc as grpc
from synthetic import make_release, make_run

from ensemble.ports import check_free, free_ports
from ensemble.runtime import export_repository
from ensemble.server import TritonServer
from workflows.diagnostics import ServerError

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of a synthetic release."""
    place = tmp_path_factory.mktemp("server")
    return export_repository(make_release(make_run(place)), place / "triton")


def server_of(repository: Path, log: list[str] | None = None, python: Path | None = None) -> TritonServer:
    """Return a server on free ports that is not started yet."""
    grpc_port, http_port, metrics_port = free_ports("127.0.0.1", 3)
    lines: list[str] = [] if log is None else log
    return TritonServer(
        repository,
        python=python,
        grpc_port=grpc_port,
        http_port=http_port,
        metrics_port=metrics_port,
        on_log=lines.append,
    )


def count_of_an_answer(server: TritonServer) -> int:
    """Ask for one unknown user and return how many items came."""
    with grpc.InferenceServerClient(server.addresses.grpc) as client:
        tensor = grpc.InferInput("user_id", [1, 1], "INT64")
        tensor.set_data_from_numpy(np.array([[-1]]))
        return int(client.infer("retrieval", [tensor]).as_numpy("count")[0, 0])


def children_of(pid: int) -> list[psutil.Process]:
    return [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]


def test_it_answers_inside_the_block_only_on_this_machine_and_leaves_nothing_behind(repository: Path) -> None:
    log: list[str] = []
    with server_of(repository, log) as server:
        assert count_of_an_answer(server) == 10
        processes = children_of(server.process_id)
        listening = {one.laddr for one in processes[0].net_connections("tcp") if one.status == psutil.CONN_LISTEN}
        place = server.addresses
        ports = (place.grpc_port, place.http_port, place.metrics_port)
        assert {(str(one.ip).removeprefix("::ffff:"), one.port) for one in listening} == {
            ("127.0.0.1", port) for port in ports
        }
        stub = next(one for one in processes[1:] if "stub" in one.name())
        assert stub.environ()["OMP_NUM_THREADS"] == "1"
    assert not [one for one in processes if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]
    assert any("successfully loaded 'retrieval'" in line for line in log)
    assert any("300 items" in line for line in log)
    check_free("127.0.0.1", {"grpc": ports[0], "http": ports[1], "metrics": ports[2]})


def test_a_taken_port_is_named_with_who_has_it(repository: Path) -> None:
    server = server_of(repository)
    taken = socket.create_server(("127.0.0.1", server.addresses.http_port))
    with taken, pytest.raises(ServerError) as caught:
        server.start()
    assert f"port {server.addresses.http_port} (http)" in str(caught.value)
    assert f"(process {os.getpid()})" in str(caught.value)
    assert "--http-port" in str(caught.value)


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
    other = Path(shutil.copytree(repository, tmp_path / "other"))
    config = other / "retrieval/config.pbtxt"
    config.write_text(
        config.read_text().replace('name: "age" data_type: TYPE_FP64', 'name: "age" data_type: TYPE_INT64')
    )
    with pytest.raises(ServerError, match="export the repository anew"):
        server_of(other).start()


def test_something_else_than_a_repository_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ServerError, match="no model repository"):
        server_of(tmp_path).start()


SERVE = """
import sys
from pathlib import Path
from ensemble.server import TritonServer, serve
ports = map(int, sys.argv[2:5])
server = TritonServer(Path(sys.argv[1]), **dict(zip(("grpc_port", "http_port", "metrics_port"), ports)))
def ready(addresses):
    sys.stdout.write(f"{server.process_id}\\n")
    sys.stdout.flush()
sys.exit(serve(server, ready))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_foreground_server_cleanly(repository: Path, number: signal.Signals) -> None:
    ports = free_ports("127.0.0.1", 3)
    command = [sys.executable, "-c", SERVE, repository, *map(str, ports)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        processes = children_of(int(process.stdout.readline()))
        process.send_signal(number)
        assert process.wait(60) == 0
    assert not [one for one in processes if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]


def test_a_server_that_dies_is_reported_not_waited_for(repository: Path) -> None:
    from ensemble.server import serve

    server = server_of(repository)

    def ready(_: object) -> None:
        psutil.Process(server.process_id).kill()

    with pytest.raises(ServerError, match="ended by itself with status -9"):
        serve(server, ready)


def test_python_3_12_serves_too(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The serving environment from its own lock, on a Python that cannot hold the training side."""
    python = _python_3_12()
    if python is None:
        pytest.skip("no python3.12 on this machine")
    place = Path(__file__).parents[2] / ".venv-serve312"
    if not (place / "bin/python").exists():
        place = tmp_path_factory.mktemp("serve312") / "venv"
        lock = Path(__file__).parents[2] / "requirements/serve.txt"
        uv = [sys.executable, "-m", "uv"]
        made = subprocess.run([*uv, "venv", "-q", "--python", python, place], check=False)
        install = [*uv, "pip", "install", "-q", "--python", place / "bin/python", "--require-hashes", "-r", lock]
        if made.returncode or subprocess.run(install, check=False).returncode:
            pytest.skip("the serving environment cannot be installed on Python 3.12 here")
    with server_of(repository, python=place / "bin/python") as server:
        assert count_of_an_answer(server) == 10


def _python_3_12() -> Path | None:
    found = [shutil.which("python3.12"), *Path.home().glob(".pyenv/versions/3.12.*/bin/python3.12")]
    for one in filter(None, found):
        if subprocess.run([one, "-c", ""], capture_output=True, check=False).returncode == 0:
            return Path(one)
    return None
