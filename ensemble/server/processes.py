"""Triton's processes: bound to the one that started them, in the serving environment, ended to the last."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import psutil

from ensemble.server.environment import SYSTEM_PATH, child_environment
from ensemble.triton.find import ServingPython

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
    command: Sequence[str], python: ServingPython, directory: Path, environment: Mapping[str, str]
) -> subprocess.Popen[str]:
    """Start a command in a working directory, in a process group of its own, output and errors on one pipe.

    `python` runs the few lines that bind it to us.

    The kernel kills it when the calling thread ends (`man 2 PR_SET_PDEATHSIG`), so also when this process is killed.
    Its children must see to that for themselves; Triton's stubs do.
    """
    bound = [str(python.executable), "-I", "-S", "-c", _BOUND, str(os.getpid())]
    return subprocess.Popen(
        [*bound, *command],
        env=environment,
        cwd=directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,  # a Ctrl-C in the terminal reaches us, and we stop it
    )


def serving_environment(python: Path, library: Path | None, threads: int) -> dict[str, str]:
    """Return the variables with which Triton's stub is the Python of a virtual environment: the first on PATH.

    `library` is the directory of its libpython.
    """
    libraries = {} if library is None else {"LD_LIBRARY_PATH": str(library)}
    return child_environment(
        **libraries,
        PATH=os.pathsep.join([str(python / "bin"), SYSTEM_PATH]),
        VIRTUAL_ENV=str(python),
        **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(threads)),
    )


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
