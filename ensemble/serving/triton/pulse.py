"""What a model's process is doing, in memory that its supervisor maps, too: since when, on how many rows, of what size.

The process writes it before and after each batch, and answers no question: neither code that keeps the interpreter to
itself nor a process that is stopped keeps the reader waiting. The memory is a file of /dev/shm that has lost its name
at once, so nothing is left of it when the process ends, however that comes; it is opened through the process's own
descriptors (/proc/PID/fd), which those of the same user can, and no client.

When and how many rows are one word of eight bytes, stored at once: a writer may lose its core between two stores, and a
reader would take half of one state with half of another. (`struct.pack_into` even writes zeros first.)
"""

from __future__ import annotations

import mmap
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

_FOLDER, _PREFIX = "/dev/shm", "retrieval-pulse-3-"
"""With the number of words: the code of a release may be older than its supervisor, which then knows nothing of it."""
_BYTES, _PERMITTED, _STATE, _PER_BATCH = 24, 0, 1, 2
"""Three words: permitted microseconds, written once; milliseconds since which, above the rows; requests per batch."""
_ROWS_BITS = 20
_MOST_ROWS = 2**_ROWS_BITS - 2
_RECENT = 0.9
"""How much each batch counts beside the next one, so that a canary in between says little of how large requests are."""


class Beat(NamedTuple):
    """The state that a process reported last."""

    since: float
    """`time.monotonic`, which is one clock for all processes of a machine."""
    rows: int | None
    """Rows of the batch that it works on; None: it works on none."""
    permitted_seconds: float
    """What a right request may take, by the release."""
    per_batch: int
    """Requests like recent ones that a full batch holds; 0: there were none."""


class Pulse:
    """Reports what this process is doing; for one thread."""

    def __init__(self, permitted_seconds: float) -> None:
        """Start as idle; take the seconds that a valid request may take."""
        descriptor, path = tempfile.mkstemp(prefix=_PREFIX, dir=_FOLDER)
        try:
            Path(path).unlink()
            os.write(descriptor, bytes(_BYTES))  # a mapped page without room behind it would end the process
            self._words = memoryview(mmap.mmap(descriptor, _BYTES)).cast("q")  # which keeps a descriptor of its own
        finally:
            os.close(descriptor)
        self._words[_PERMITTED] = round(permitted_seconds * 1e6)
        self._requests = self._rows = 0.0
        self.end()

    def begin(self, rows: Sequence[int], most_rows: int) -> None:
        """Report the start of work on a batch, given the rows of each request and those of a full batch."""
        self._requests = _RECENT * self._requests + len(rows)
        self._rows = _RECENT * self._rows + sum(rows)
        self._words[_PER_BATCH] = max(1, int(self._requests * most_rows / max(1.0, self._rows)))
        self._store(min(sum(rows), _MOST_ROWS) + 1)

    def end(self) -> None:
        """Report that the batch is done."""
        self._store(0)

    def _store(self, rows: int) -> None:
        self._words[_STATE] = int(time.monotonic() * 1000) << _ROWS_BITS | rows


class PulseReader:
    """Reads the pulse of another process."""

    def __init__(self, pid: int) -> None:
        """Map the pulse of a process; raise OSError if it has none (yet), or belongs to another user."""
        self._words = memoryview(_mapped(pid)).cast("q")

    def beat(self) -> Beat:
        """Return the last reported state."""
        since, rows = divmod(self._words[_STATE], 2**_ROWS_BITS)
        return Beat(since / 1000, rows - 1 if rows else None, self._words[_PERMITTED] / 1e6, self._words[_PER_BATCH])


def _mapped(pid: int) -> mmap.mmap:
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            if str(link.readlink()).startswith(f"{_FOLDER}/{_PREFIX}"):
                with link.open("rb") as file:
                    return mmap.mmap(file.fileno(), _BYTES, access=mmap.ACCESS_READ)
        except (FileNotFoundError, ValueError):  # closed meanwhile; a file that is none of ours, too short
            continue
    raise FileNotFoundError(f"process {pid} has no pulse")
