"""Find a tritonserver and the Python that runs its models.

Without a container there is one inside the nvidia-pytriton wheel. It keeps one python-backend stub per Python version,
none of them where the server looks for it; `ensemble/triton/staging.py` puts the right one there.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from ensemble.server.environment import child_environment, on_path
from workflows.errors import ServerError

STUB = "triton_python_backend_stub"
_CONTAINER_BACKENDS = Path("/opt/tritonserver/backends")
_PROBE = """
import importlib.metadata, importlib.util, json, os, site, sys, sysconfig
names = ("numpy", "onnxruntime", "onnxruntime-gpu", "faiss-cpu", "faiss-gpu", "faiss-gpu-cu12")
versions = {name: found.version for name in names for found in importlib.metadata.distributions(name=name)}
missing = [] if "numpy" in versions else ["numpy"]
missing += [name for name in ("onnxruntime", "faiss") if importlib.util.find_spec(name) is None]
value = sysconfig.get_config_var
print(json.dumps({"version": "%d.%d.%d" % sys.version_info[:3], "missing": missing, "versions": versions,
                  "library": value("INSTSONAME") or value("LDLIBRARY"), "libdir": value("LIBDIR"),
                  "home": os.path.dirname(sys._base_executable), "packages": site.getsitepackages()}))
"""  # imports none of them: that would take longer than starting Triton


@dataclass(frozen=True)
class ServingPython:
    """The interpreter that runs the models."""

    executable: Path
    version: str
    """Such as "3.11"."""
    numpy: str
    """Version of its NumPy."""
    library: Path | None
    """The directory of its libpython, for the loader; None where it is not built shared."""
    home: Path
    """The directory of the interpreter that its environment was made with."""
    packages: tuple[Path, ...]
    """Where its packages are."""


@dataclass(frozen=True)
class Triton:
    """A tritonserver and its backends."""

    server: Path
    backends: Path | None
    """The directory of its backends; None: the server knows its own."""
    stub: Path | None
    """What runs the models of the python backend."""
    from_wheel: bool


def default_python() -> Path:
    """Return the interpreter of the project's `.venv-serve`, beside this package or the running environment, else the
    running one.
    """
    for place in (Path(__file__).resolve().parents[1], Path(sys.prefix).resolve().parent):
        own = place / ".venv-serve/bin/python"
        if own.exists():
            return own
    return Path(sys.executable)


def inspect_python(executable: Path) -> ServingPython:
    """Return versions and paths of an interpreter; raise ServerError if it does not run or lacks a package of the
    models.
    """
    executable = executable.absolute()
    answer = ask_python(executable, _PROBE)
    if answer["missing"]:
        remedy = f"{executable} -m pip install --require-hashes -r requirements/serve.txt"
        raise ServerError(
            f"{executable}: has no {', '.join(answer['missing'])}, which the models import; run `{remedy}`"
        )
    folder = Path(answer["libdir"] or "/nonexistent")
    library = folder if (folder / str(answer["library"])).is_file() and ".so" in str(answer["library"]) else None
    version, packages = answer["version"].rpartition(".")[0], tuple(map(Path, answer["packages"]))
    return ServingPython(executable, version, answer["versions"]["numpy"], library, Path(answer["home"]), packages)


def ask_python(executable: Path, code: str) -> dict[str, Any]:
    """Return the JSON object that an interpreter prints when it runs `code`, isolated from directory and variables.

    Raise ServerError if it does not run, is no Python, or the code fails.
    """
    try:
        printed = subprocess.run(
            [executable, "-I", "-c", code],
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
            cwd="/",
            env=child_environment(),
        ).stdout
        answer = json.loads(printed)
        if isinstance(answer, dict):
            return answer
        reason = "it printed something else"
    except subprocess.CalledProcessError as error:
        last = (error.stderr.strip() or "no message").splitlines()[-1][:200]
        reason = f"it ended with status {error.returncode}: {last}"
    except ValueError:
        reason = "it printed something else"
    except (OSError, subprocess.SubprocessError) as error:
        reason = getattr(error, "strerror", None) or str(error)
    raise ServerError(f"{executable}: cannot be asked for its version: {reason}; expected a Python 3.10 to 3.12")


def serving_packages(python: Path) -> tuple[str, dict[str, str]]:
    """Return the version and the packages of an interpreter; both empty if it does not run."""
    try:
        answer = ask_python(python.absolute(), _PROBE)
    except ServerError:
        return "", {}
    return answer["version"], answer["versions"]


def find_triton(path: Path | None, python: ServingPython) -> Triton:
    """Find a tritonserver for the interpreter that is to run the models.

    `path` is a tritonserver or its install directory; without it PATH is looked through, then the nvidia-pytriton
    wheel. Raise ServerError if there is none, or the wheel's stub does not fit `python`: no such version, no libpython,
    NumPy 2.
    """
    if path is not None:
        server = path / "bin/tritonserver" if path.is_dir() else path
        if not os.access(server, os.X_OK) or not server.is_file():
            raise ServerError(
                f"{server}: no executable; expected tritonserver or the directory that holds bin/tritonserver"
            )
        return _installed(server.absolute())
    if (installed := on_path("tritonserver")) is not None:
        return _installed(installed)
    wheel = _wheel()
    if wheel is None:
        raise ServerError(
            "no tritonserver: none given (--triton), none on PATH, and nvidia-pytriton is not installed; "
            "run `pip install nvidia-pytriton==0.7.0`, or this command in a Triton container"
        )
    return Triton(wheel / "bin/tritonserver", wheel / "backends", _stub_for(wheel, python), True)


def cache_directory() -> Path:
    """Return the directory for prepared files: `RETRIEVAL_CACHE`, by default `~/.cache/merlin-retrieval`."""
    return Path(os.environ.get("RETRIEVAL_CACHE") or "~/.cache/merlin-retrieval").expanduser().absolute()


def _stub_for(wheel: Path, python: ServingPython) -> Path:
    if int(python.numpy.split(".")[0]) >= 2:
        raise ServerError(
            f"{python.executable}: has NumPy {python.numpy}, but the python backend of {wheel} is built for NumPy 1 "
            "and would serve garbage; install 'numpy<2' there (requirements/serve.txt does)"
        )
    stub = wheel / "python_backend_stubs" / python.version / STUB
    if not stub.is_file():
        known = ", ".join(sorted(path.name for path in stub.parent.parent.glob("3.*")))
        raise ServerError(
            f"{python.executable}: Python {python.version} has no stub in {wheel}; expected one of {known}"
        )
    if python.library is None:
        raise ServerError(
            f"{python.executable}: has no shared libpython, which Triton's stub loads; install the one of your "
            f"distribution (libpython{python.version}) or take a Python built with --enable-shared"
        )
    return stub


def _installed(server: Path) -> Triton:
    """Return an installed server with its backends: those beside it, those of the container, or its own default."""
    for backends in (server.parent.parent / "backends", _CONTAINER_BACKENDS):
        if (stub := backends / "python" / STUB).exists():
            return Triton(server, backends, stub, False)
    return Triton(server, None, None, False)


def _wheel() -> Path | None:
    try:
        root = Path(str(distribution("nvidia-pytriton").locate_file("pytriton/tritonserver")))
    except PackageNotFoundError:
        return None
    return root if (root / "bin/tritonserver").is_file() else None
