"""Starts Triton's processes in the serving environment, bound to the thread that started them, and ends all of them."""

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
    """Start a command in a process group of its own, with output and errors on one pipe, and no other variables than
    given.

    The kernel kills it when the calling thread ends (`man 2 PR_SET_PDEATHSIG`), hence also when this process is killed;
    a few lines in an interpreter see to that. Its children must see to that for themselves; Triton's stubs do.
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
    """Return the variables that make Triton's stub use the Python of a virtual environment, the first on PATH.

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
    """Kill a process group; return when it is gone, and its ports and files with it."""
    try:
        os.killpg(group, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return
    deadline = time.monotonic() + _KILL_SECONDS
    while any(_members(group)) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)


def _members(group: int) -> Iterator[int]:
    """Yield the running processes of a group, without zombies, which hold nothing any more."""
    for process in psutil.process_iter():
        try:
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                yield process.pid
        except (psutil.Error, ProcessLookupError, PermissionError):
            continue
