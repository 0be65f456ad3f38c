"""Tells model processes that work from those that hang, by what each says of itself (`serving/triton/pulse.py`).

A process that is at work is left alone for as long as the batch may take. Past that it hangs, whatever the canary says,
which only meets the process that is free. So does one that was stopped (SIGSTOP).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import psutil

from ensemble.serving.triton.pulse import Beat, PulseReader
from ensemble.supervision.model_processes import Stub


@dataclass(frozen=True)
class Limits:
    """How long a process may stay as it is.

    What a right request takes of an idle core is bounded, and what a batch takes, to twice that; but a machine may be
    slow, or busy, and a change of the catalogue come before the batch.
    """

    batch_seconds: float = 10.0
    """At work on a batch, whatever is permitted ..."""
    requests: float = 10.0
    """... and so many times what a request may take (`[serving] max_request_milliseconds`)."""
    stopped_seconds: float = 3.0


class Hangs:
    """Watches processes."""

    def __init__(self, limits: Limits | None = None) -> None:
        """Begin with no process."""
        self._limits = limits or Limits()
        self._readers: dict[psutil.Process, PulseReader] = {}
        self._stopped: dict[psutil.Process, float] = {}
        self._requests: dict[str, int] = {}

    def found(self, stubs: Sequence[Stub]) -> list[tuple[Stub, str]]:
        """Return those that hang, each with what is known of it."""
        known = {stub.process for stub in stubs}
        self._readers = {process: reader for process, reader in self._readers.items() if process in known}
        self._stopped = {process: since for process, since in self._stopped.items() if process in known}
        reasons = ((stub, self._stop(stub) or self._overdue(stub)) for stub in stubs)
        return [(stub, reason) for stub, reason in reasons if reason]

    def at_work(self, steps: Sequence[Sequence[Stub]], begun: float) -> bool:
        """Return whether a request that waits since `begun` waits for work, by the processes of each model on its way.

        It waits in the first model that has not done anything since, unless one before it, or itself, is at work.
        Models whose processes say nothing (other backends) are passed over; where none says anything, False.
        """
        heard = False
        for stubs in steps:
            beats = [beat for beat in map(self._beat, stubs) if beat is not None]
            if any(beat.rows is not None and not self._past(beat) for beat in beats):
                return True
            if beats and all(beat.since < begun for beat in beats):
                return False
            heard = heard or bool(beats)
        return heard

    def requests(self, model: str) -> int:
        """Return how many requests the last batch of a model had that was seen, of any of its processes; at least 1."""
        return max(1, self._requests.get(model, 0))

    def _stop(self, stub: Stub) -> str:
        """Return what is wrong with a process that was stopped; nothing where it was not, or not for long."""
        try:
            stopped = stub.process.status() == psutil.STATUS_STOPPED
        except psutil.Error:
            stopped = False
        if not stopped:
            self._stopped.pop(stub.process, None)
            return ""
        seconds = time.monotonic() - self._stopped.setdefault(stub.process, time.monotonic())
        return f"stopped for {seconds:.0f} s" if seconds > self._limits.stopped_seconds else ""

    def _overdue(self, stub: Stub) -> str:
        beat = self._beat(stub)
        if beat is not None:
            self._requests[stub.model] = beat.requests
        if beat is None or not self._past(beat):
            return ""
        return f"at work on a batch of {beat.rows} rows for {time.monotonic() - beat.since:.0f} s"

    def _past(self, beat: Beat) -> bool:
        if beat.rows is None:
            return False
        longest = self._limits.batch_seconds + self._limits.requests * beat.permitted_seconds
        return time.monotonic() - beat.since > longest

    def _beat(self, stub: Stub) -> Beat | None:
        if stub.process not in self._readers:
            try:
                self._readers[stub.process] = PulseReader(stub.process.pid)
            except OSError:
                return None
        return self._readers[stub.process].beat()
