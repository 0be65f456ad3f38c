"""Triton's processes: bound to the one that started them, in the serving environment, ended to the last."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence

import psutil

from ensemble.triton import ServingPython

_KILL_SECONDS = 5
_POLL_SECONDS = 0.01
_BOUND = """
import ctypes, os, signal, sys
PR_SET_PDEATHSIG = 1
ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
if os.getppid() != int(sys.argv[1]):
    sys.exit("the process that wanted Triton has ended")
os.execv(sys.argv[2], sys.argv[2:])
"""  # in an interpreter of its own: code between fork and exec is unsafe in a process that has threads


def launch(
    command: Sequence[str], python: ServingPython, threads: int, more: Mapping[str, str] | None = None
) -> subprocess.Popen[str]:
    """Start a command in the serving environment, in a process group of its own, output and errors on one pipe.

    `more` are further environment variables.

    The kernel kills it when the calling thread ends (`man 2 PR_SET_PDEATHSIG`), so also when this process is killed.
    Its children must see to that for themselves; Triton's stubs do.
    """
    bound = [str(python.executable), "-I", "-S", "-c", _BOUND, str(os.getpid())]
    return subprocess.Popen(
        [*bound, *command],
        env={**serving_environment(python, threads), **(more or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,  # a Ctrl-C in the terminal reaches us, and we stop it
    )


def serving_environment(python: ServingPython, threads: int) -> dict[str, str]:
    """Return the environment in which Triton's stub starts the serving Python: the `python3` that is first on PATH."""
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME")}
    environment["PATH"] = os.pathsep.join([str(python.executable.parent), environment.get("PATH", os.defpath)])
    environment["VIRTUAL_ENV"] = str(python.executable.parent.parent)
    if python.library is not None:
        inherited = environment.get("LD_LIBRARY_PATH")
        environment["LD_LIBRARY_PATH"] = os.pathsep.join([str(python.library), *([inherited] if inherited else [])])
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        environment[name] = str(threads)
    return environment


def kill_group(group: int) -> None:
    """Kill what is left of a process group and return when it is gone, with the ports and files that it held."""
    try:
        os.killpg(group, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return
    deadline = time.monotonic() + _KILL_SECONDS
    while any(_members(group)) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)


def _members(group: int) -> Iterator[int]:
    """Yield the processes of a group that still run. One that waits to be reaped holds nothing any more."""
    for process in psutil.process_iter():
        try:
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                yield process.pid
        except (psutil.Error, ProcessLookupError, PermissionError):
            continue
