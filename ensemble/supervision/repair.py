"""Repairs of a server: a model is reloaded beside what is left of it; as a last resort the server is restarted.

Triton never restarts the process of a python model that died, and goes on sending it requests, which all fail
after a second. Reloading the model from files that look changed starts all of its processes beside the old ones, and
the living ones answer until then.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from http.client import HTTPException

import psutil

from ensemble.deploy.swap import deployment_lock
from ensemble.server.server import TritonServer
from ensemble.serving.triton.backlog import read_metrics
from ensemble.supervision.events import Events
from ensemble.supervision.model_processes import Stub, Stubs
from ensemble.triton.model_control import ModelControl
from workflows.errors import ReleaseError, ServerError

_MOST_RESTARTS = 5
_LEFT_SECONDS = 10.0
_LOAD_SECONDS = 120.0
_SHORTEST_SECONDS = 0.5
_LONGEST_SECONDS = 30.0
_HELD_SECONDS = 2.0

GivenUp = Callable[[], bool]


class Pace:
    """The pace of repairs: at once, but after a repair that did not hold twice as slow each time."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Take a clock, in seconds."""
        self._clock = clock
        self._in_a_row, self._ended = 0, -float("inf")

    def pause(self) -> float:
        """Return the seconds to wait before repairing a fault that was just noticed."""
        if self._clock() - self._ended > _HELD_SECONDS:
            self._in_a_row = 0
        return min(_SHORTEST_SECONDS * 2.0 ** (self._in_a_row - 1), _LONGEST_SECONDS) if self._in_a_row else 0.0

    def repaired(self) -> None:
        """Note that a repair ended, successfully or not."""
        self._in_a_row += 1
        self._ended = self._clock()


class Repairs:
    """Repairs one server. Long steps poll `given_up` and end when it returns True."""

    def __init__(self, server: TritonServer, events: Events) -> None:
        """Take a running server, and the events to report to."""
        self._server, self._events, self._pace = server, events, Pace()
        self._left: list[tuple[float, list[Stub]]] = []
        self.last = 0.0
        """When the last repair ended (`time.monotonic`)."""
        self._watch_anew()

    def deaths(self) -> dict[tuple[str, str], list[Stub]]:
        """Return the processes that ended since the last call, by model and version, of models that now have too few.

        A version that is being unloaded loses its processes on purpose.
        """
        died = self.stubs.died()
        if not died:
            return {}
        self.stubs.find()
        dead: dict[tuple[str, str], list[Stub]] = {}
        for stub in died:
            dead.setdefault((stub.model, stub.version), []).append(stub)
        return {key: stubs for key, stubs in dead.items() if len(self.serving(*key)) < self.wanted(*key)}

    def serving(self, model: str, version: str) -> list[Stub]:
        """Return the processes of a version that requests are sent to."""
        discarded = {stub.process.pid for _, stubs in self._left for stub in stubs}
        return [stub for stub in self.stubs.of(model) if stub.version == version and stub.process.pid not in discarded]

    def wanted(self, model: str, version: str) -> int:
        """Return the configured number of processes of a version; 0 if it is not served."""
        try:
            with self._control() as control:
                return control.instances(model) if version in control.ready_versions(model) else 0
        except ServerError:
            return 0  # the server does not answer at all: the canary tells

    def reload(self, due: dict[str, str], given_up: GivenUp) -> bool:
        """Reload the models in `due` (name to reason) and clear it; return whether that was tried.

        A running deployment takes precedence. If a load fails, the server is restarted; raises as `restart` does.
        """
        failed = ""
        with ExitStack() as stack:
            try:
                stack.enter_context(deployment_lock(self._server.repository))
            except ServerError:
                return False
            except OSError:
                pass  # a repository that cannot be written cannot be deployed to either
            self._wait(given_up)
            for model, reason in due.items():
                if given_up():
                    return False
                failed = failed or self._load(model, reason, given_up)
            self._ended()
        due.clear()
        if failed:
            self.restart(failed, given_up)
        return True

    def waiting(self, model: str) -> int:
        """Return the number of requests that wait for a model's processes; 0 if Triton does not say."""
        place = self._server.addresses
        try:
            return read_metrics(place.host, place.metrics_port, [f'model="{model}"']).waiting
        except (OSError, HTTPException, ValueError):
            return 0

    def restart(self, reason: str, given_up: GivenUp, at_once: bool = False) -> None:
        """Restart the server, `at_once` without waiting for the requests that are in it.

        Raise ServerError if that failed several times in a row, StartGivenUp when `given_up`, which is polled, is true.
        """
        self._events.add("restarting", reason=reason)
        for attempt in range(1, _MOST_RESTARTS + 1):
            self._wait(given_up)
            start = time.monotonic()
            try:
                self._server.stop(at_once)
                self._server.start(given_up)
            except (ServerError, ReleaseError) as error:
                what = "verification_failed" if isinstance(error, ReleaseError) else "restart_failed"
                self._events.add(what, attempt=attempt, error=str(error))
                self._pace.repaired()
                if attempt == _MOST_RESTARTS:
                    outcome = f"given up after {attempt} attempts to restart Triton: {what.replace('_', ' ')}: {error}"
                    raise ServerError(outcome) from None
                continue
            self._watch_anew()
            self._ended()
            self._events.add("restarted", reason=reason, seconds=round(time.monotonic() - start, 3))
            return

    def kill(self, stubs: list[Stub], reason: str) -> None:
        """Kill processes, so that their requests fail after a second instead of waiting for ever."""
        for stub in stubs:
            if stub.alive:
                with suppress(psutil.Error):
                    stub.process.kill()
                    self._events.add("process_killed", pid=stub.process.pid, reason=reason)

    def end_left(self) -> None:
        """Kill processes that a reload left over: Triton never finishes unloading a model with a dead process."""
        late = [stubs for deadline, stubs in self._left if time.monotonic() > deadline]
        self._left = [unloading for unloading in self._left if time.monotonic() <= unloading[0]]
        for stubs in late:
            self.kill(stubs, "left over from before a reload")

    def _load(self, model: str, reason: str, given_up: GivenUp) -> str:
        """Reload a model; return why that failed, or ""."""
        old, start = self.stubs.of(model), time.monotonic()
        try:
            self._server.verify()
            for path in self._server.repository.glob(f"{model}/*/model.py"):
                os.utime(path)  # otherwise Triton takes a load of what is loaded for done
            with self._control() as control:
                _patiently(lambda: control.load(model), given_up)
        except (ServerError, ReleaseError, OSError) as error:
            self._events.add("reload_failed", model=model, reason=reason, error=str(error))
            return f"'{model}' was not reloaded: {error}"
        self.stubs.find()
        self._left.append((time.monotonic() + _LEFT_SECONDS, old))
        self._events.add("model_reloaded", model=model, reason=reason, seconds=round(time.monotonic() - start, 3))
        return ""

    def _watch_anew(self) -> None:
        self.stubs = Stubs(self._server.process_id)
        self._left.clear()
        self._events.state(triton_pid=self._server.process_id)

    def _ended(self) -> None:
        self.last = time.monotonic()
        self._pace.repaired()

    def _wait(self, given_up: GivenUp) -> None:
        """Wait as long as the pace of repairs demands."""
        pause = self._pace.pause()
        if pause:
            self._events.add("waiting", seconds=pause)
        deadline = time.monotonic() + pause
        while time.monotonic() < deadline and not given_up():
            time.sleep(0.05)

    def _control(self) -> ModelControl:
        server = self._server
        return ModelControl(server.addresses.grpc, server.repository, _LOAD_SECONDS, server.client_tls)


def _patiently(action: Callable[[], None], given_up: GivenUp) -> None:
    """Run a long action in another thread; return when it is done or given up, and raise its exception."""
    failed: list[Exception] = []

    def act() -> None:
        try:
            action()
        except Exception as error:
            failed.append(error)

    thread = threading.Thread(target=act, name="repair", daemon=True)
    thread.start()
    while thread.is_alive() and not given_up():
        thread.join(0.05)
    if failed:
        raise failed[0]
