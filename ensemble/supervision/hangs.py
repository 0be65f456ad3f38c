"""Tells busy model processes from hanging ones, by the pulse of each (`serving/triton/pulse.py`).

A busy process is left alone for as long as its batch may take. After that it hangs, whatever the canary says, which
only reaches a free process. A process that was stopped (SIGSTOP) hangs as well.
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
    """How long a process may stay in one state.

    The time of a valid request on an idle core is bounded, and that of a batch is at most twice as long; but a machine
    may be slow or busy, and a catalogue change may have to be applied before the batch.
    """

    batch_seconds: float = 10.0
    """At work on a batch, whatever is permitted ..."""
    requests: float = 10.0
    """... and so many times what a request may take (`[serving] max_request_milliseconds`)."""
    stopped_seconds: float = 3.0


class Hangs:
    """Detects hanging processes."""

    def __init__(self, limits: Limits = Limits()) -> None:
        """Start without any process."""
        self._limits = limits
        self._readers: dict[psutil.Process, PulseReader] = {}
        self._stopped: dict[psutil.Process, float] = {}
        self._per_batch: dict[str, int] = {}

    def found(self, stubs: Sequence[Stub]) -> list[tuple[Stub, str]]:
        """Return the hanging processes, each with the reason."""
        known = {stub.process for stub in stubs}
        self._readers = {process: reader for process, reader in self._readers.items() if process in known}
        self._stopped = {process: since for process, since in self._stopped.items() if process in known}
        reasons = ((stub, self._stop(stub) or self._overdue(stub)) for stub in stubs)
        return [(stub, reason) for stub, reason in reasons if reason]

    def at_work(self, steps: Sequence[Sequence[Stub]], begun: float) -> bool:
        """Return whether a request that has waited since `begun` waits for busy processes, given those of each model on
        its way.

        It waits in the first model that has not done anything since then, unless that model or one before it is busy.
        Models without a pulse (other backends) are skipped; if there are no others, the result is False.
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

    def per_batch(self, model: str) -> int:
        """Return how many requests like recent ones a full batch of a model holds; at least 1."""
        return max(1, self._per_batch.get(model, 0))

    def _stop(self, stub: Stub) -> str:
        """Return the reason if a process has been stopped for too long, otherwise nothing."""
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
        if beat is None:
            return ""
        self._per_batch[stub.model] = beat.per_batch
        if not self._past(beat):
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
