"""Find a tritonserver and make it run models in the serving environment's Python.

Without a container there is one inside the nvidia-pytriton wheel. It keeps one python-backend stub per Python version,
none of them where the server looks for it, so a tree of links with the right one is made in the cache
(`RETRIEVAL_CACHE`, by default `~/.cache/merlin-retrieval`). The wheel itself is left as it is.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from workflows.diagnostics import ServerError
from workflows.files import atomic_directory

STUB = "triton_python_backend_stub"
_CONTAINER_BACKENDS = Path("/opt/tritonserver/backends")
_PROBE = """
import importlib.metadata, importlib.util, json, sys, sysconfig
missing = [name for name in ("numpy", "onnxruntime", "faiss") if importlib.util.find_spec(name) is None]
value = sysconfig.get_config_var
print(json.dumps({"version": "%d.%d" % sys.version_info[:2], "missing": missing,
                  "numpy": None if "numpy" in missing else importlib.metadata.version("numpy"),
                  "library": value("INSTSONAME") or value("LDLIBRARY"), "libdir": value("LIBDIR")}))
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


@dataclass(frozen=True)
class Triton:
    """A tritonserver and its backends."""

    server: Path
    backends: Path | None
    """What `--backend-directory` gets; None leaves the server's own default."""
    from_wheel: bool


def default_python() -> Path:
    """Return the interpreter of `.venv-serve` in the working directory if there is one, else the running one."""
    own = Path(".venv-serve/bin/python")
    return own.absolute() if own.exists() else Path(sys.executable)


def inspect_python(executable: Path) -> ServingPython:
    """Ask the interpreter what it is; raise ServerError if it does not run or lacks what the models import."""
    try:
        output = subprocess.run(
            [executable, "-c", _PROBE], capture_output=True, text=True, timeout=120, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise ServerError(
            f"{executable}: cannot be asked for its version: {error}; expected a Python 3.10 to 3.12"
        ) from None
    found = json.loads(output)
    if found["missing"]:
        remedy = f"{executable} -m pip install --require-hashes -r requirements/serve.txt"
        raise ServerError(
            f"{executable}: has no {', '.join(found['missing'])}, which the models import; run `{remedy}`"
        )
    folder = Path(found["libdir"] or "/nonexistent")
    library = folder if (folder / str(found["library"])).is_file() and ".so" in str(found["library"]) else None
    return ServingPython(executable, found["version"], found["numpy"], library)


def find_triton(given: Path | None, python: ServingPython) -> Triton:
    """Return the tritonserver at the given path, else on PATH, else in the nvidia-pytriton wheel.

    Raises
    ------
    ServerError
        There is none, or the wheel's stub does not fit `python`: no such version, no libpython, NumPy 2.
    """
    if given is not None:
        server = given / "bin/tritonserver" if given.is_dir() else given
        if not os.access(server, os.X_OK) or not server.is_file():
            raise ServerError(
                f"{server}: no executable; expected tritonserver or the directory that holds bin/tritonserver"
            )
        return _installed(server.absolute())
    on_path = shutil.which("tritonserver")
    if on_path is not None:
        return _installed(Path(on_path).absolute())
    wheel = _wheel()
    if wheel is None:
        raise ServerError(
            "no tritonserver: none given (--triton), none on PATH, and nvidia-pytriton is not installed; "
            "run `pip install nvidia-pytriton==0.7.0`, or this command in a Triton container"
        )
    return Triton(wheel / "bin/tritonserver", link_backends(wheel, python), True)


def cache_directory() -> Path:
    """Return where prepared files live: `RETRIEVAL_CACHE`, by default `~/.cache/merlin-retrieval`."""
    return Path(os.environ.get("RETRIEVAL_CACHE") or Path.home() / ".cache/merlin-retrieval").absolute()


def link_backends(wheel: Path, python: ServingPython) -> Path:
    """Return a backend directory whose python backend has the stub for `python`.

    The libraries find `nvidia_pytriton.libs` by RPATH, four levels above themselves, so the tree has that shape too.
    """
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
    links = {
        "nvidia_pytriton.libs": wheel.parent.parent / "nvidia_pytriton.libs",
        **{f"pytriton/tritonserver/backends/python/{one.name}": one for one in (wheel / "backends/python").iterdir()},
        f"pytriton/tritonserver/backends/python/{STUB}": stub,
    }
    key = hashlib.sha256(repr(sorted(links.items())).encode()).hexdigest()[:16]
    tree = cache_directory() / "triton" / key
    if not all((tree / name).exists() for name in links):
        _link(tree, links)
    return tree / "pytriton/tritonserver/backends"


def _link(tree: Path, links: dict[str, Path]) -> None:
    with atomic_directory(tree) as temporary:
        for name, target in links.items():
            place = temporary / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(target)


def _installed(server: Path) -> Triton:
    """Return an installed server with the backends beside it, or those of the container, or its own default."""
    for backends in (server.parent.parent / "backends", _CONTAINER_BACKENDS):
        if (backends / "python" / STUB).exists():
            return Triton(server, backends, False)
    return Triton(server, None, False)


def _wheel() -> Path | None:
    try:
        root = Path(str(distribution("nvidia-pytriton").locate_file("pytriton/tritonserver")))
    except PackageNotFoundError:
        return None
    return root if (root / "bin/tritonserver").is_file() else None
