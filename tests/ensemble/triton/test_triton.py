"""Finding tritonserver, preparing the wheel's tree for the serving Python, and refusing what cannot work."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from dataclasses import replace
from pathlib import Path

import pytest

from ensemble.triton.find import STUB, ServingPython, find_triton, inspect_python
from ensemble.triton.staging import Staging
from workflows.errors import ServerError


@pytest.fixture(scope="module")
def python() -> ServingPython:
    """The running interpreter."""
    return inspect_python(Path(sys.executable))


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the tests out of the user's cache, and out of reach of a tritonserver on PATH."""
    monkeypatch.setenv("RETRIEVAL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")


def executable(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_the_serving_python_is_asked_and_not_assumed(python: ServingPython) -> None:
    assert python.version == sysconfig.get_python_version()
    assert python.numpy.startswith("1.")
    if sysconfig.get_config_var("Py_ENABLE_SHARED"):
        assert python.library is not None
        assert list(python.library.glob(f"libpython{python.version}.so*"))


def test_the_wheels_server_runs_with_the_stub_of_the_serving_python(python: ServingPython, tmp_path: Path) -> None:
    triton = find_triton(None, python)
    assert triton.from_wheel
    staging = Staging(tmp_path, triton, python)
    assert staging.backends is not None
    stub = staging.backends / "python" / STUB
    assert stub.resolve().parent.name == python.version
    libraries = subprocess.run(
        ["ldd", stub.parent / "libtriton_python.so"], capture_output=True, text=True, check=True
    ).stdout
    assert "not found" not in libraries
    staging.remove()
    assert not staging.directory.exists()


def test_what_a_killed_process_left_is_removed_and_what_is_in_use_is_not(python: ServingPython, tmp_path: Path) -> None:
    triton = find_triton(None, python)
    used, left = (Staging(tmp_path, triton, python) for _ in range(2))
    os.close(left._lock)  # as the kernel does when a process ends
    Staging(tmp_path, triton, python).remove()
    assert used.directory.is_dir()
    assert not left.directory.exists()
    used.remove()


def test_a_given_server_comes_before_path_and_wheel(
    python: ServingPython, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_path = executable(tmp_path / "path/tritonserver")
    monkeypatch.setenv("PATH", str(on_path.parent), prepend=os.pathsep)
    server = executable(tmp_path / "opt/bin/tritonserver")
    executable(tmp_path / "opt/backends/python" / STUB)
    triton = find_triton(tmp_path / "opt", python)
    assert (triton.server, triton.backends) == (server, tmp_path / "opt/backends")
    assert find_triton(server, python) == triton
    assert find_triton(None, python).server == on_path


def test_a_given_path_without_a_server_is_refused(python: ServingPython, tmp_path: Path) -> None:
    with pytest.raises(ServerError, match="bin/tritonserver"):
        find_triton(tmp_path, python)


def test_numpy_2_is_refused_before_it_serves_garbage(python: ServingPython) -> None:
    with pytest.raises(ServerError, match=r"NumPy 2\.1\.0.*install 'numpy<2'"):
        find_triton(None, replace(python, numpy="2.1.0"))


def test_a_python_that_the_wheel_has_no_stub_for_is_refused(python: ServingPython) -> None:
    with pytest.raises(ServerError, match=r"Python 3\.7 has no stub.*3\.10"):
        find_triton(None, replace(python, version="3.7"))


def test_a_python_without_shared_library_is_refused(python: ServingPython) -> None:
    with pytest.raises(ServerError, match="no shared libpython"):
        find_triton(None, replace(python, library=None))


def test_an_interpreter_without_what_the_models_import_is_refused(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)
    with pytest.raises(ServerError, match=r"has no numpy, onnxruntime, faiss.*requirements/serve\.txt"):
        inspect_python(tmp_path / "bare/bin/python")
    with pytest.raises(ServerError, match="cannot be asked"):
        inspect_python(tmp_path / "no-such-python")
