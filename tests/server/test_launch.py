"""What a server is started with, and what must not get in: directories, variables, proxies, other people's files."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from ensemble.client import RetrievalClient
from ensemble.deploy.swap import check_machine
from ensemble.measure.prometheus import read
from ensemble.server.endpoints import Addresses
from ensemble.server.environment import KEPT, KEPT_PREFIXES, on_path
from ensemble.server.permissions import writable_by_others
from ensemble.server.ports import check_address, check_free, free_ports
from ensemble.server.server import TritonServer
from ensemble.serving.triton.canary import OverHttp, check
from ensemble.supervision.health import canary
from ensemble.triton import staging
from ensemble.triton.export import export_repository
from ensemble.triton.find import STUB, default_python, find_triton, inspect_python
from ensemble.triton.model_control import ModelControl
from tests.synthetic import make_release, make_run
from workflows.errors import ServerError

PROXIES = ("http_proxy", "https_proxy", "grpc_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
ODD = "l'été, d'un lieu"


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of a synthetic release. Do not write to it."""
    place = tmp_path_factory.mktemp("launch")
    return export_repository(make_release(make_run(place)), place / "triton")


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory, of an odd name, that holds modules by the names of some that are imported."""
    place = tmp_path / ODD
    place.mkdir()
    for name in ("numpy", "json", "faiss", "onnxruntime", "sysconfig"):
        (place / f"{name}.py").write_text(f"open({str(tmp_path / 'executed')!r}, 'a').write('{name} ')\n")
    monkeypatch.chdir(place)
    return place


def server_of(repository: Path, log: list[str] | None = None, **options: object) -> TritonServer:
    grpc_port, http_port, metrics_port = free_ports("127.0.0.1", 3)
    ports = {"grpc_port": grpc_port, "http_port": http_port, "metrics_port": metrics_port}
    lines: list[str] = [] if log is None else log
    return TritonServer(repository, on_log=lines.append, **ports, **options)  # type: ignore[arg-type]


def behind_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Name a proxy that does not answer for everything."""
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name in PROXIES:
        monkeypatch.setenv(name, "http://127.0.0.1:9")


@pytest.fixture
def odd(repository: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TritonServer]:
    """A server of a repository, with a Python, a cache and changes that all lie in an oddly named directory."""
    shutil.copytree(repository, elsewhere / "triton")
    (elsewhere / "live").mkdir()
    serving = default_python().parent.parent
    shutil.copytree(serving, elsewhere / "env: 1", symlinks=True, ignore=shutil.ignore_patterns("site-packages"))
    packages = next(serving.glob("lib/python3*/site-packages"))
    (elsewhere / "env: 1" / packages.relative_to(serving)).symlink_to(packages)
    monkeypatch.setenv("RETRIEVAL_CACHE", str(elsewhere / "cache"))
    monkeypatch.setenv("TMPDIR", str(elsewhere))
    monkeypatch.setenv("RETRIEVAL_ADMIN_KEY", "0123456789abcdef")
    behind_a_proxy(monkeypatch)
    python = Path("env: 1/bin/python")
    with server_of(Path("triton"), python=python, delta=Path("live")) as server:
        yield server


@pytest.mark.server
def test_a_server_starts_anywhere_and_takes_nothing_from_there(odd: TritonServer, tmp_path: Path) -> None:
    address, place = odd.addresses.grpc, odd.addresses
    with RetrievalClient(address) as client:
        assert client.recommend([-1], top_k=3)[0].item_ids
    assert canary(address).healthy
    assert check(OverHttp(f"http://127.0.0.1:{place.http_port}", 5.0), None).healthy
    assert read(f"127.0.0.1:{place.metrics_port}").total("nv_inference_request_success")
    with ModelControl(address, odd.repository) as control:
        assert control.ready_versions("retrieval") == {"1"}
    assert not (tmp_path / "executed").exists()
    for process in (psutil.Process(odd.process_id), *psutil.Process(odd.process_id).children()):
        assert not list(Path(process.cwd()).iterdir())
        environ = process.environ()
        assert not {"RETRIEVAL_ADMIN_KEY", *PROXIES} & environ.keys()
        set_by_us = {"PATH", "LC_ALL", "VIRTUAL_ENV", "RETRIEVAL_METRICS", "PYTHONDONTWRITEBYTECODE"}
        set_by_us |= {"OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "PWD", "SHLVL", "_", "OLDPWD"}
        assert not {key for key in environ if key not in (*KEPT, *set_by_us) and not key.startswith(KEPT_PREFIXES)}
    assert not list(odd.repository.rglob("__pycache__"))


@pytest.mark.server
def test_a_client_asks_through_a_proxy_only_where_it_is_told_to_and_never_for_this_machine(
    served, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ensemble.client.channels import channel_options

    behind_a_proxy(monkeypatch)
    with RetrievalClient(served.address, proxy=True) as client:
        assert client.recommend(served.users[:1], top_k=3)
    through = ("grpc.enable_http_proxy", 1)
    assert through not in channel_options("recs.example:8001")["channel_args"]
    assert through in channel_options("recs.example:8001", proxy=True)["channel_args"]
    monkeypatch.setenv("RETRIEVAL_PROXY", "1")
    assert through in channel_options("recs.example:8001")["channel_args"]
    assert through not in channel_options("localhost:8001")["channel_args"]


@pytest.mark.server
def test_a_model_process_that_ends_while_it_starts_is_told_at_once(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Triton waits for it for minutes."""
    stub = tmp_path / STUB
    stub.write_text("#!/bin/sh\necho 'error: no licence'\nexit 3\n")
    stub.chmod(0o755)
    triton = find_triton(None, inspect_python(default_python()))
    monkeypatch.setattr("ensemble.server.server.find_triton", lambda directory, python: replace(triton, stub=stub))
    with pytest.raises(ServerError, match=r"process \d+ of a model ended while it started: .*no licence"):
        server_of(repository, start_timeout_seconds=500).start()


@pytest.mark.server
def test_a_manifest_of_another_shape_is_refused_by_the_model_in_a_line(repository: Path, tmp_path: Path) -> None:
    """It is read for its threads before anything is verified."""
    copy = Path(shutil.copytree(repository, tmp_path / "triton"))
    manifest = copy / "retrieval/1/release/manifest.json"
    for content in ("", "[]", "{}", '{"serving": null}', '{"serving": {"threads": "1"}}', "[" * 100_000):
        manifest.write_text(content)
        check_machine(copy)
    with pytest.raises(ServerError, match=r"manifest\.json"):
        server_of(copy).start()
    manifest.write_text('{"serving": {"threads": 65536}}')
    with pytest.raises(ServerError, match=r"manifest\.json: 65536 threads"):
        check_machine(copy)


@pytest.mark.parametrize("how", [["-m"], ["-I", "-m"]])
def test_the_command_runs_nothing_of_the_working_directory(elsewhere: Path, tmp_path: Path, how: list[str]) -> None:
    done = subprocess.run([sys.executable, *how, "retrieval", "query", "--help"], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "executed").exists()


def test_what_others_may_write_to_is_told(repository: Path, tmp_path: Path) -> None:
    place = Path(shutil.copytree(repository, tmp_path / "a" / "triton"))
    assert not list(writable_by_others(place))
    for open_to_all in (place / "retrieval/1/model.py", place / "retrieval/1", place, place.parent):
        before = open_to_all.stat().st_mode
        open_to_all.chmod(0o777)
        assert any(str(open_to_all) in why for why in writable_by_others(place))
        open_to_all.chmod(before)
    (tmp_path / "a").chmod(0o1777)  # as /tmp
    assert not list(writable_by_others(place))


def test_an_export_is_writable_for_its_owner_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        run = make_run(tmp_path / "run")
        repository = export_repository(make_release(run), tmp_path / "triton")
    finally:
        os.umask(before)
    assert not list(writable_by_others(repository))


@pytest.mark.parametrize("port", [-1, 0, 65_536])
def test_a_port_that_is_none_is_refused(port: int) -> None:
    with pytest.raises(ServerError, match=f"--metrics-port {port}: expected a port from 1 to 65535"):
        Addresses("127.0.0.1", 8001, None, port)
    with pytest.raises(ServerError, match="expected HOST:PORT"):
        check_address(f"127.0.0.1:{port}")


def test_a_host_that_is_none_of_this_machine_is_refused_as_such() -> None:
    with pytest.raises(ServerError, match="expected an address"):
        Addresses("", 8001, None, 8002)
    for host in ("999.1.1.1", "192.0.2.1", "no such host"):
        with pytest.raises(ServerError, match=rf"^{host}: .*expected an address of this machine"):
            check_free(host, {"grpc": free_ports("127.0.0.1", 1)[0]})


def test_a_python_that_is_none_is_refused_in_a_line(tmp_path: Path) -> None:
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\necho 3.11\n")
    script.chmod(0o755)
    for python, reason in (
        (Path("/bin/true"), "it printed something else"),
        (Path("/bin/false"), "it ended with status 1: no message"),
        (tmp_path / "none", "No such file or directory; expected"),
        (tmp_path, "Permission denied; expected"),
        (script, "it printed something else"),
    ):
        with pytest.raises(ServerError, match=f"^{python}: cannot be asked for its version: {reason}") as refused:
            inspect_python(python)
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize("address", ["127.0.0.1", ":8001", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:8001/", ""])
def test_an_address_without_a_port_is_refused(address: str) -> None:
    with pytest.raises(ServerError, match="expected HOST:PORT"):
        check_address(address)


def test_programs_are_looked_for_in_absolute_directories_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tritonserver").write_text("#!/bin/sh\n")
    (tmp_path / "tritonserver").chmod(0o755)
    monkeypatch.chdir(tmp_path)
    for path in ("", ".", ":", "./", f"{os.curdir}:"):
        monkeypatch.setenv("PATH", path)
        assert on_path("tritonserver") is None
    monkeypatch.setenv("PATH", f".:{tmp_path}")
    assert on_path("tritonserver") == tmp_path / "tritonserver"


def test_the_serving_python_is_the_projects_and_not_the_working_directorys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = default_python()
    (tmp_path / ".venv-serve/bin").mkdir(parents=True)
    (tmp_path / ".venv-serve/bin/python").symlink_to(sys.executable)
    monkeypatch.chdir(tmp_path)
    assert default_python() == own


def test_the_links_go_where_a_path_is_plain_and_nobody_else_may_exchange_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, mode in (("it's", 0o700), ("open", 0o777)):
        (tmp_path / name).mkdir()
        (tmp_path / name).chmod(mode)
    monkeypatch.setattr(staging, "_PLACES", (str(tmp_path / "it's"), str(tmp_path / "open")))
    monkeypatch.setattr(staging.tempfile, "gettempdir", lambda: str(tmp_path / "open"))
    with pytest.raises(ServerError, match="set TMPDIR to a directory of yours"):
        staging._place()
