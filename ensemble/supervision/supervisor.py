"""Keeps a server answering: watches the processes of its models and a canary, and repairs what fails.

Processes are checked five times a second: those that ended are replaced, and those that hang are killed and replaced
(`hangs.py`). A canary that fails twice in a row is a fault, unless it is only late and its model is busy: first the
model's processes are killed and it is reloaded, then the server is restarted (`repair.py`).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

from ensemble.layouts import CHAINED, STEPS, answering_models
from ensemble.server.server import TritonServer
from ensemble.supervision.canaries import Canaries
from ensemble.supervision.events import Event, Events, ignored, now
from ensemble.supervision.hangs import Hangs
from ensemble.supervision.health import CanaryResult
from ensemble.supervision.repair import GivenUp, Repairs

_CANARY_SECONDS = 5.0
"""Between two canaries."""
_TIMEOUT_SECONDS = 5.0
"""For each of a canary's questions. Long: a machine without a free core is late, too, and a reload is no help."""
_FAILURES = 2
"""So many canaries that fail in a row, a second apart, are a fault."""
_BATCHES = 3
"""So many of them may wait, and fail one a second, for a process that died; else the server is started again."""


@dataclass
class _Health:
    """The health of a model that clients ask."""

    failures: int = 0
    """Canaries in a row, since the last repair."""
    reloaded: bool = False
    """For its canary, and not healthy since."""
    since: float | None = None
    """When trouble was noticed (`time.monotonic`)."""


class Supervisor:
    """Supervises one server."""

    def __init__(self, server: TritonServer, tell: Callable[[Event], None] = ignored) -> None:
        """Take a running server; `tell` is called with every event, in the thread that calls `run`."""
        self._server, place = server, server.addresses
        facts = {"host": place.host, "ports": place.ports, "supervisor_pid": os.getpid(), "started": now()}
        self.events = Events(server.repository, place.grpc_port, tell, **facts)
        self._health = {model: _Health() for model in answering_models(server.repository)}
        self._repairs, self._hangs = Repairs(server, self.events), Hangs()
        self._due: dict[str, str] = {}
        self._told: dict[str, dict[str, object]] = {}
        self._asked = False

    def run(self, given_up: GivenUp) -> None:
        """Watch and repair until `given_up`, which is polled, is true; during a restart it raises StartGivenUp then.

        Raise ServerError if the server could not be restarted, several times in a row.
        """
        address, tls = self._server.addresses.grpc, self._server.client_tls
        with Canaries(address, list(self._health), _CANARY_SECONDS, _TIMEOUT_SECONDS, tls) as canaries:
            try:
                while not given_up():
                    if self._look(canaries, given_up):
                        canaries.soon()
            finally:
                self.events.end()

    def _look(self, canaries: Canaries, given_up: GivenUp) -> bool:
        """Check once, for a fifth of a second if nothing is wrong; return whether something was repaired."""
        status = self._server.ended()
        if given_up():
            return False
        if status is not None:
            self._trouble(list(self._health))
            self._restart(f"Triton ended by itself with status {status}", given_up)
            return True
        for stub, reason in self._hangs.found(self._repairs.stubs.all()):
            self._repairs.kill([stub], reason)
        self._note_deaths()
        self._repairs.end_left()
        for begun, result in canaries.results():
            self._judge(begun, result, given_up)
        if self._due and (reason := self._stranded()):
            self._restart(reason, given_up, at_once=True)
            return True
        if not self._due or not self._repairs.reload(self._due, given_up):
            return False
        self._repaired()
        return True

    def _note_deaths(self) -> None:
        for (model, version), stubs in self._repairs.deaths().items():
            pids, left = [stub.process.pid for stub in stubs], len(self._repairs.serving(model, version))
            self.events.add("process_died", model=model, version=version, pids=pids, left=left)
            self._due[model] = f"process {', '.join(map(str, pids))} died"
            self._trouble([health_model for health_model in self._health if model in self._steps(health_model)])

    def _judge(self, begun: float, result: CanaryResult, given_up: GivenUp) -> None:
        """Evaluate the result of a canary, unless it was sent before the last repair."""
        if begun < self._repairs.last:
            return
        self._told = {**self._told, result.model: _facts(result)}
        self.events.state(canary=self._told)
        health = self._health[result.model]
        if result.healthy:
            self._recovered(result.model, health)
        elif result.state == "late" and self._at_work(result.model, begun):
            self.events.add("canary_waits", **_facts(result))
        elif not result.alive and self._reached(result):
            health.failures += 1
            health.since = health.since or begun
            self.events.add("canary_failed", **_facts(result), in_a_row=health.failures)
        if health.failures >= _FAILURES and not self._due:
            self._act(result, health, given_up)

    def _recovered(self, model: str, health: _Health) -> None:
        self._asked = True
        if health.since is not None:
            self.events.add("recovered", model=model, seconds=round(time.monotonic() - health.since, 3))
        self._health[model] = _Health()

    def _reached(self, result: CanaryResult) -> bool:
        """Return whether a failure counts: a server that could never be asked may demand a client certificate."""
        if self._asked or result.state != "unreachable":
            return True
        if not self.events.counts["canary_impossible"]:
            self.events.add("canary_impossible", reason=result.reason, remedy="give `retrieval --tls-ca CA serve ...`")
        return False

    def _act(self, result: CanaryResult, health: _Health, given_up: GivenUp) -> None:
        """Repair the model whose canary failed."""
        reason, steps = f"canary of '{result.model}' {result.state}: {result.reason}", self._steps(result.model)
        if health.reloaded or not steps:
            self._restart(reason, given_up)
            return
        health.reloaded = True
        # One that Triton calls not healthy it names; else which of them is at fault is not known.
        faulty = [step for step in steps if f"'{step}_" in result.reason] or steps
        if result.state != "unreachable":
            # They would go on answering wrongly, or not at all, until the new ones are there, and some never end.
            self._repairs.kill([stub for step in faulty for stub in self._repairs.stubs.of(step)], reason)
        self._due.update(dict.fromkeys(faulty, reason))

    def _stranded(self) -> str:
        """Return why the due models cannot be reloaded beside the requests that wait for them, or "".

        Triton hands waiting requests to the dead process, one batch a second: the last of 300 large requests would fail
        after five minutes, and hold up later ones until then.
        """
        for model in self._due:
            if any(stub.alive for stub in self._repairs.stubs.of(model)):
                continue
            waiting = self._repairs.waiting(model)
            if waiting > _BATCHES * self._hangs.per_batch(model):
                return f"{waiting} requests wait for '{model}', whose process died"
        return ""

    def _restart(self, reason: str, given_up: GivenUp, at_once: bool = False) -> None:
        self._due.clear()
        self._repairs.restart(reason, given_up, at_once)
        self._repaired()

    def _repaired(self) -> None:
        for health in self._health.values():
            health.failures = 0

    def _trouble(self, models: list[str]) -> None:
        for model in models:
            self._health[model].since = self._health[model].since or time.monotonic()

    def _at_work(self, model: str, begun: float) -> bool:
        """Return whether a canary that was sent at `begun` is late because its model is busy."""
        self._repairs.stubs.find()  # those of a deployment since
        return self._hangs.at_work([self._repairs.stubs.of(step) for step in self._steps(model)], begun)

    def _steps(self, model: str) -> list[str]:
        """Return the models with processes behind one that clients ask."""
        steps = STEPS if model == CHAINED else (model,)
        return [step for step in steps if any(self._server.repository.glob(f"{step}/*/model.py"))]


def _facts(result: CanaryResult) -> dict[str, object]:
    return {name: getattr(result, name) for name in ("model", "state", "reason", "release", "version")}
