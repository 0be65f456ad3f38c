"""Keeps a server answering: looks at the processes of its models and at a canary, and repairs what does not work.

Triton never restarts a python model's process that died, and goes on handing requests to it, each of which fails after
a second. Loading the model anew, from files that look changed, starts all of its processes beside the old ones; those
that live go on answering until the new ones do. What a reload does not mend, a restart of the server does.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from ensemble.canaries import Canaries
from ensemble.deploy import _lock as deployment_lock
from ensemble.events import Event, Events, now
from ensemble.health import CanaryResult
from ensemble.layouts import CHAINED, STEPS, answering_models
from ensemble.model_control import ModelControl
from ensemble.pace import Pace
from ensemble.server import TritonServer
from ensemble.stubs import Stub, Stubs, kill
from workflows.diagnostics import ServerError

_MOST_RESTARTS = 5
_LEFT_SECONDS = 10.0
_LOAD_SECONDS = 120.0


@dataclass(frozen=True)
class Patience:
    """When the supervisor acts."""

    canary_seconds: float = 5.0
    """Between two canaries."""
    timeout_seconds: float = 2.0
    """For each of a canary's questions."""
    failures: int = 2
    """So many in a row, a second apart, are a fault."""


def _silent(_: Event) -> None:
    """Tell nobody."""


@dataclass
class _Health:
    """What is known of a model that clients ask."""

    failures: int = 0
    reloaded: bool = False
    """Since it was last healthy."""
    since: float | None = None
    """When trouble was noticed (`time.monotonic`)."""


@dataclass
class _Due:
    """Models to load anew, by name, each with why; and processes of an earlier loading that must not stay."""

    models: dict[str, str] = field(default_factory=dict)
    left: list[tuple[float, list[Stub]]] = field(default_factory=list)


class Supervisor:
    """Watches one server."""

    def __init__(
        self, server: TritonServer, tell: Callable[[Event], None] = _silent, patience: Patience | None = None
    ) -> None:
        """Take a server that runs; `tell` gets every event, from the thread that calls `run`."""
        self._server, self._patience = server, patience or Patience()
        self._models = answering_models(server.repository)
        place = server.addresses
        self.events = Events(
            server.repository,
            place.grpc_port,
            tell,
            host=place.host,
            ports=place.ports,
            supervisor_pid=os.getpid(),
            started=now(),
        )
        self._health = {model: _Health() for model in self._models}
        self._pace, self._asked, self._repaired = Pace(), False, 0.0
        self._told: dict[str, dict[str, object]] = {}
        self._watch_anew()

    def run(self, given_up: Callable[[], bool]) -> None:
        """Watch and repair until `given_up`, asked often, says so.

        Raises
        ------
        ServerError
            The server could not be restarted, several times in a row.
        StartGivenUp
            `given_up` said so during a restart.
        """
        patience, address = self._patience, self._server.addresses.grpc
        tls = self._server.client_tls
        with Canaries(address, self._models, patience.canary_seconds, patience.timeout_seconds, tls) as canaries:
            try:
                while not given_up():
                    self._look(canaries, given_up)
            finally:
                self.events.end()

    def _look(self, canaries: Canaries, given_up: Callable[[], bool]) -> None:
        """Look once; this takes a fifth of a second where nothing is wrong."""
        asked = iter((False, True))
        status = self._server.wait(lambda: next(asked) or given_up())
        if given_up():
            return
        if status is not None:
            self._restart(f"Triton ended by itself with status {status}", given_up)
            canaries.soon()
            return
        self._note_deaths()
        self._end_left()
        for begun, result in canaries.results():
            self._judge(begun, result, given_up)
        if self._due.models and self._reload(given_up):
            canaries.soon()

    def _note_deaths(self) -> None:
        died = self._stubs.died()
        if not died:
            return
        self._stubs.find()
        for model, version in dict.fromkeys((one.model, one.version) for one in died):
            wanted, there = self._wanted(model, version), len(self._serving(model, version))
            if there < wanted:
                pids = [one.process.pid for one in died if (one.model, one.version) == (model, version)]
                self.events.add("process_died", model=model, version=version, pids=pids, left=there, of=wanted)
                self._due.models[model] = f"process {', '.join(map(str, pids))} died"
                self._troubled(model)

    def _wanted(self, model: str, version: str) -> int:
        """Return how many processes a version of a model has by its configuration; 0 where it is not served."""
        try:
            with self._control() as control:
                return control.instances(model) if version in control.ready_versions(model) else 0
        except ServerError:
            return 0  # the server does not answer at all: the canary tells

    def _serving(self, model: str, version: str) -> list[Stub]:
        """Return the processes that requests go to."""
        left = {one.process.pid for _, stubs in self._due.left for one in stubs}
        return [one for one in self._stubs.of(model) if one.version == version and one.process.pid not in left]

    def _troubled(self, step: str) -> None:
        for model, health in self._health.items():
            if health.since is None and step in self._steps(model):
                health.since = time.monotonic()

    def _judge(self, begun: float, result: CanaryResult, given_up: Callable[[], bool]) -> None:
        """Take a canary's result; two failures in a row are a reason to load the model anew, then to restart."""
        if begun < self._repaired:
            return
        self._told = {**self._told, result.model: _facts(result)}
        self.events.state(canary=self._told)
        health = self._health[result.model]
        if result.healthy:
            self._recovered(result.model, health)
        elif not result.alive and self._reached(result):
            health.failures += 1
            health.since = health.since or begun
            self.events.add("canary_failed", **_facts(result), in_a_row=health.failures)
        if health.failures >= self._patience.failures and not self._due.models:
            self._act(result, health, given_up)

    def _reached(self, result: CanaryResult) -> bool:
        """Return whether a failure says anything: a server that never could be asked may want a certificate of us."""
        if self._asked or result.state != "unreachable":
            return True
        if not self.events.counts["canary_impossible"]:
            self.events.add("canary_impossible", reason=result.reason, remedy="give `retrieval --tls-ca CA serve ...`")
        return False

    def _act(self, result: CanaryResult, health: _Health, given_up: Callable[[], bool]) -> None:
        reason = f"canary of '{result.model}' {result.state}: {result.reason}"
        if health.reloaded:
            self._restart(reason, given_up)
            return
        health.reloaded = True
        self._end_hung(result)
        self._due.models.update(dict.fromkeys(self._steps(result.model), reason))

    def _recovered(self, model: str, health: _Health) -> None:
        self._asked = True
        if health.since is not None:
            self.events.add("recovered", model=model, seconds=round(time.monotonic() - health.since, 3))
        self._health[model] = _Health()

    def _end_hung(self, result: CanaryResult) -> None:
        """Kill processes that answer nobody: requests in them then fail, instead of waiting for ever."""
        if result.state == "late":
            for model in self._steps(result.model):
                for pid in kill(self._stubs.of(model)):
                    self.events.add("process_killed", model=model, pid=pid, reason="answers nobody")

    def _steps(self, model: str) -> list[str]:
        """Return the models with processes of their own behind one that clients ask."""
        steps = STEPS if model == CHAINED else (model,)
        return [one for one in steps if any(self._server.repository.glob(f"{one}/*/model.py"))]

    def _reload(self, given_up: Callable[[], bool]) -> bool:
        """Load the models that are due anew; return whether that was done. A deployment under way goes before."""
        failed = ""
        with ExitStack() as stack:
            try:
                stack.enter_context(deployment_lock(self._server.repository))
            except ServerError:
                return False
            for model, reason in list(self._due.models.items()):
                self._wait(given_up)
                if given_up():
                    return False
                failed = failed or self._load(model, reason, given_up)
        if failed:
            self._restart(failed, given_up)
        return True

    def _load(self, model: str, reason: str, given_up: Callable[[], bool]) -> str:
        """Load a model anew; return why that failed, or nothing."""
        old, start = self._stubs.of(model), time.monotonic()
        try:
            _touch(self._server.repository.glob(f"{model}/*/model.py"))
            with self._control() as control:
                _patiently(lambda: control.load(model), given_up)
        except (ServerError, OSError) as error:
            self.events.add("reload_failed", model=model, reason=reason, error=str(error))
            return f"'{model}' was not loaded anew: {error}"
        del self._due.models[model]
        self._stubs.find()
        self._due.left.append((time.monotonic() + _LEFT_SECONDS, old))
        self._mended()
        self.events.add("model_reloaded", model=model, reason=reason, seconds=round(time.monotonic() - start, 3))
        return ""

    def _end_left(self) -> None:
        """Kill what a reload left over: Triton does not get to the end of unloading a model with a dead process."""
        due = [stubs for deadline, stubs in self._due.left if time.monotonic() > deadline]
        self._due.left = [one for one in self._due.left if time.monotonic() <= one[0]]
        for stubs in due:
            for pid in kill(stubs):
                self.events.add("process_killed", pid=pid, reason="left over from before a reload")

    def _restart(self, reason: str, given_up: Callable[[], bool]) -> None:
        self.events.add("restarting", reason=reason)
        for attempt in range(1, _MOST_RESTARTS + 1):
            self._wait(given_up)
            start = time.monotonic()
            try:
                self._server.stop()
                self._server.start(given_up)
            except ServerError as error:
                self.events.add("restart_failed", attempt=attempt, error=str(error))
                self._pace.repaired()
                if attempt == _MOST_RESTARTS:
                    raise ServerError(f"given up after {attempt} attempts to restart Triton: {error}") from None
                continue
            self._watch_anew()
            self._mended()
            self.events.add("restarted", reason=reason, seconds=round(time.monotonic() - start, 3))
            return

    def _watch_anew(self) -> None:
        """Begin with a server that was just started."""
        self._stubs = Stubs(self._server.process_id)
        self._due = _Due()
        for model in self._models:
            self._health[model] = _Health(since=self._health[model].since)
        self.events.state(triton_pid=self._server.process_id)

    def _mended(self) -> None:
        self._repaired = time.monotonic()
        self._pace.repaired()
        for health in self._health.values():
            health.failures = 0

    def _wait(self, given_up: Callable[[], bool]) -> None:
        """Wait as long as the repairs before ask for."""
        pause = self._pace.pause()
        if pause:
            self.events.add("waiting", seconds=pause)
        deadline = time.monotonic() + pause
        while time.monotonic() < deadline and not given_up():
            time.sleep(0.05)

    def _control(self) -> ModelControl:
        server = self._server
        return ModelControl(server.addresses.grpc, server.repository, _LOAD_SECONDS, server.client_tls)


def _facts(result: CanaryResult) -> dict[str, object]:
    return {
        "model": result.model,
        "state": result.state,
        "reason": result.reason,
        "release": result.release,
        "version": result.version,
    }


def _touch(paths: Iterable[Path]) -> None:
    """Make files look changed: otherwise Triton takes a load of what is loaded for done."""
    for path in paths:
        os.utime(path)


def _patiently(action: Callable[[], None], given_up: Callable[[], bool]) -> None:
    """Do what may take long in another thread; return when it is done, or given up. Raises what it raises."""
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
