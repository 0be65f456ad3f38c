"""The environment of child processes: the variables on an allow list, and no others.

docs/security.md has the list. Proxies, Python's own variables, the server's key, passwords and credentials of other
services are not on it, so Triton and the models never see them.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

KEPT = ("HOME", "LD_LIBRARY_PATH", "RETRIEVAL_DELTA", "SSL_CERT_DIR", "SSL_CERT_FILE", "TMPDIR", "TZ")
KEPT_PREFIXES = ("CUDA_", "GOMP_", "KMP_", "MALLOC_", "NVIDIA_", "OMP_", "RETRIEVAL_MILVUS_")
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def child_environment(**more: str) -> dict[str, str]:
    """Return the environment of a child process: allowed variables, the system's PATH, UTF-8, and `more`.

    Relative directories in LD_LIBRARY_PATH are dropped, so that nothing is loaded from a working directory.
    """
    inherited = {name: value for name, value in os.environ.items() if name in KEPT or name.startswith(KEPT_PREFIXES)}
    libraries = [paths for paths in (more.pop("LD_LIBRARY_PATH", ""), inherited.pop("LD_LIBRARY_PATH", "")) if paths]
    if absolute := absolute_entries(os.pathsep.join(libraries)):
        inherited["LD_LIBRARY_PATH"] = os.pathsep.join(absolute)
    return {**inherited, "PATH": SYSTEM_PATH, "LC_ALL": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1", **more}


def absolute_entries(paths: str) -> list[str]:
    """Return the absolute directories of a variable such as PATH; an empty entry would be the working directory."""
    return [path for path in paths.split(os.pathsep) if path.startswith("/")]


def on_path(name: str) -> Path | None:
    """Return the first executable of that name in an absolute directory of PATH, if any."""
    found = shutil.which(name, path=os.pathsep.join(absolute_entries(os.environ.get("PATH", SYSTEM_PATH))))
    return Path(found) if found else None


def reach_this_machine_directly() -> None:
    """Add this machine to `no_proxy`, for libraries with channels of their own (Milvus, say)."""
    named = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    here = [host for host in ("localhost", "127.0.0.1", "::1") if host not in named.split(",")]
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = ",".join(filter(None, [named, *here]))
