"""What a model's process is doing, in memory that its supervisor maps, too: since when, on how many rows, for how long.

The process writes it before and after each batch, and answers no question: neither code that keeps the interpreter to
itself nor a process that is stopped keeps the reader waiting. The memory is a file of /dev/shm that has lost its name
at once, so nothing is left of it when the process ends, however that comes; it is opened through the process's own
descriptors (/proc/PID/fd), which those of the same user can, and no client.
"""

from __future__ import annotations

import mmap
import os
import struct
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

_FOLDER, _PREFIX = "/dev/shm", "retrieval-pulse-"
_LAYOUT = struct.Struct("=dqd")
_IDLE = -1


class Beat(NamedTuple):
    """What a process said last."""

    since: float
    """`time.monotonic`, which is one clock for all processes of a machine."""
    rows: int | None
    """Rows of the batch that it works on; None: it works on none."""
    permitted_seconds: float
    """What a right request may take, by the release."""


class Pulse:
    """Tells what this process is doing; for one thread."""

    def __init__(self, permitted_seconds: float) -> None:
        """Begin as a process that has nothing to do; take what a right request may take."""
        self._permitted = permitted_seconds
        descriptor, path = tempfile.mkstemp(prefix=_PREFIX, dir=_FOLDER)
        try:
            Path(path).unlink()
            os.write(descriptor, bytes(_LAYOUT.size))  # a mapped page without room behind it would end the process
            self._memory = mmap.mmap(descriptor, _LAYOUT.size)  # which keeps a descriptor of its own
        finally:
            os.close(descriptor)
        self.end()

    def begin(self, rows: int) -> None:
        """Say that work on so many rows begins."""
        _LAYOUT.pack_into(self._memory, 0, time.monotonic(), rows, self._permitted)

    def end(self) -> None:
        """Say that it is done."""
        _LAYOUT.pack_into(self._memory, 0, time.monotonic(), _IDLE, self._permitted)


class PulseReader:
    """Reads the pulse of another process."""

    def __init__(self, pid: int) -> None:
        """Find it; raise OSError where the process has none (yet), or is another user's."""
        self._memory = _mapped(pid)

    def beat(self) -> Beat:
        """Return what the process said last."""
        since, rows, permitted = _LAYOUT.unpack_from(self._memory)
        return Beat(since, None if rows == _IDLE else rows, permitted)


def _mapped(pid: int) -> mmap.mmap:
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            if str(link.readlink()).startswith(f"{_FOLDER}/{_PREFIX}"):
                with link.open("rb") as file:
                    return mmap.mmap(file.fileno(), _LAYOUT.size, access=mmap.ACCESS_READ)
        except (FileNotFoundError, ValueError):  # closed meanwhile; a file that is none of ours, too short
            continue
    raise FileNotFoundError(f"process {pid} has no pulse")
