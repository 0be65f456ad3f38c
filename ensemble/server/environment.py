"""What a process that we start is given of our environment: what is on a list, and nothing else.

docs/security.md has the list. Not on it, so unknown to Triton and to the models: proxies, Python's own variables, the
server's key, passwords, credentials of other services.
"""

from __future__ import annotations

import os
from pathlib import Path

KEPT = ("HOME", "LD_LIBRARY_PATH", "RETRIEVAL_DELTA", "SSL_CERT_DIR", "SSL_CERT_FILE", "TMPDIR", "TZ")
KEPT_PREFIXES = ("CUDA_", "GOMP_", "KMP_", "MALLOC_", "NVIDIA_", "OMP_", "RETRIEVAL_MILVUS_")
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def child_environment(**more: str) -> dict[str, str]:
    """Return the environment of a child process: what is on the list, the system's PATH, UTF-8, and `more`.

    Directories of LD_LIBRARY_PATH that are not absolute are left out: what lies in a working directory is not loaded.
    """
    kept = {name: value for name, value in os.environ.items() if name in KEPT or name.startswith(KEPT_PREFIXES)}
    libraries = [paths for paths in (more.pop("LD_LIBRARY_PATH", ""), kept.pop("LD_LIBRARY_PATH", "")) if paths]
    if absolute := absolute_entries(os.pathsep.join(libraries)):
        kept["LD_LIBRARY_PATH"] = os.pathsep.join(absolute)
    return {**kept, "PATH": SYSTEM_PATH, "LC_ALL": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1", **more}


def absolute_entries(paths: str) -> list[str]:
    """Return the absolute directories of a variable such as PATH, in which an empty one is the working directory."""
    return [path for path in paths.split(os.pathsep) if path.startswith("/")]


def on_path(name: str) -> Path | None:
    """Return the first executable of that name in an absolute directory of PATH; None: there is none."""
    for directory in absolute_entries(os.environ.get("PATH", SYSTEM_PATH)):
        executable = Path(directory) / name
        if executable.is_file() and os.access(executable, os.X_OK):
            return executable
    return None


def reach_this_machine_directly() -> None:
    """Keep libraries of this process that open channels of their own (Milvus, say) from asking a proxy for here."""
    named = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    here = [host for host in ("localhost", "127.0.0.1", "::1") if host not in named.split(",")]
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = ",".join(filter(None, [named, *here]))
