"""Environments of other Pythons, made once and kept in the cache."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ensemble.triton.find import cache_directory

ROOT = Path(__file__).parents[1]
LOCK = ROOT / "requirements" / "serve.txt"


def serving_python(version: str) -> Path:
    """Return an interpreter with the locked serving environment; skip the test where there is no such Python."""
    return _made(f"serve-{version}", version, LOCK, ["--require-hashes", "-r", LOCK])


def client_python(version: str) -> Path:
    """Return an interpreter with what the project needs without extras, in the newest versions that it admits."""
    return _made(f"client-{version}", version, ROOT / "pyproject.toml", ["-r", ROOT / "pyproject.toml"])


def _made(name: str, version: str, stated: Path, install: list[str | Path]) -> Path:
    """Return the interpreter of an environment, made once for what `stated` holds.

    An environment that a killed test left half-built has no stamp, and is built again.
    """
    base = find_python(version)
    if base is None:
        pytest.skip(f"no python{version} with a shared libpython, on PATH or in ~/.pyenv/versions")
    key = hashlib.sha256(f"{base}".encode() + stated.read_bytes()).hexdigest()[:16]
    place = cache_directory() / "environments" / f"{name}-{key}"
    python, stamp = place / "bin/python", place / "complete"
    if not (stamp.exists() and python.exists()):
        shutil.rmtree(place, ignore_errors=True)
        uv = [sys.executable, "-m", "uv"]
        install = [*uv, "pip", "install", "-q", "--python", python, *install]
        for command in ([*uv, "venv", "-q", "--python", base, place], install):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                pytest.skip(f"{stated} cannot be installed on Python {version} here: {done.stderr[-300:]}")
        stamp.touch()
    return python


def find_python(version: str) -> Path | None:
    """Return the real path of a Python `version` that Triton's stub can load, or None."""
    own = Path.home() / ".pyenv/versions"
    candidates = [shutil.which(f"python{version}"), *sorted(own.glob(f"{version}.*/bin/python{version}"))]
    ask = "import sys, sysconfig; print(sys.executable, sysconfig.get_config_var('Py_ENABLE_SHARED'))"
    for candidate in filter(None, candidates):
        done = subprocess.run([candidate, "-c", ask], capture_output=True, text=True, check=False)
        if done.returncode == 0 and done.stdout.split()[1] == "1":
            return Path(os.path.realpath(done.stdout.split()[0]))
    return None
