"""The processes of Triton's python models ("stubs"), seen from outside, since Triton does not notice when one dies."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import psutil

from ensemble.triton.find import STUB


class Stub(NamedTuple):
    """The process of one model instance."""

    process: psutil.Process
    model: str
    version: str

    @property
    def alive(self) -> bool:
        """Return whether it runs; Triton does not reap those that have ended."""
        try:
            return self.process.is_running() and self.process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return False


class Stubs:
    """The stubs of one tritonserver."""

    def __init__(self, server_pid: int) -> None:
        """Take the process id of tritonserver and find its stubs."""
        self._server = psutil.Process(server_pid)
        self._known: dict[int, Stub] = {}
        self.find()

    def find(self) -> None:
        """Add the stubs that were started since."""
        with suppress(psutil.Error):
            for process in self._server.children():
                if process.pid not in self._known:
                    stub = _stub(process)
                    if stub is not None:
                        self._known[process.pid] = stub

    def died(self) -> list[Stub]:
        """Return the stubs that have ended since the last call, on purpose or not."""
        ended = [stub for stub in self._known.values() if not stub.alive]
        for stub in ended:
            del self._known[stub.process.pid]
        return ended

    def all(self) -> list[Stub]:
        """Return the stubs that ran when they were last looked at."""
        return list(self._known.values())

    def of(self, model: str) -> list[Stub]:
        """Return the running stubs of a model, of all versions."""
        return [stub for stub in self._known.values() if stub.model == model and stub.alive]


def ended_children(server_pid: int) -> list[int]:
    """Return the ended children of a tritonserver; during its start each of them is a model that failed."""
    try:
        children = psutil.Process(server_pid).children()
        return [child.pid for child in children if child.status() == psutil.STATUS_ZOMBIE]
    except psutil.Error:
        return []


def _stub(process: psutil.Process) -> Stub | None:
    """Return the stub for a child process of tritonserver, started as `STUB .../MODEL/VERSION/model.py ...`."""
    try:
        command = process.cmdline()
    except psutil.Error:
        return None
    if len(command) < 2 or Path(command[0]).name != STUB:
        return None
    place = Path(command[1])
    return Stub(process, place.parent.parent.name, place.parent.name)
