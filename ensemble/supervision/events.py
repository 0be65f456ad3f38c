"""Events of a server's supervisor: one JSON object each, counted, and kept in a file beside the server's models."""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from workflows.errors import DiskError
from workflows.files import atomic_write

_KEPT = 50
_FILE = ".serving-{}.json"

Event = dict[str, Any]
"""`time` (UTC), `event` (its name), and further facts."""


def ignored(_: Event) -> None:
    """Ignore the event."""


class Events:
    """Reports, counts and stores events. For one thread at a time."""

    def __init__(self, repository: Path, port: int, tell: Callable[[Event], None] = ignored, **facts: Any) -> None:
        """Take the server's repository and gRPC port, a function for each event, and further facts for the file."""
        self._path, self._tell = repository / _FILE.format(port), tell
        self._facts: dict[str, Any] = facts
        self.counts: Counter[str] = Counter()
        self._last: deque[Event] = deque(maxlen=_KEPT)

    def add(self, name: str, **facts: Any) -> None:
        """Report, count and store an event."""
        event = {"time": now(), "event": name, **facts}
        self.counts[name] += 1
        self._last.append(event)
        self._tell(event)
        self._keep()

    def state(self, **facts: Any) -> None:
        """Change the facts in the file."""
        if any(self._facts.get(name) != value for name, value in facts.items()):
            self._facts.update(facts)
            self._keep()

    def end(self) -> None:
        """Remove the file, since the server has ended."""
        with suppress(OSError):
            self._path.unlink(missing_ok=True)

    def _keep(self) -> None:
        content = {**self._facts, "counts": dict(self.counts), "events": list(self._last)}
        with suppress(OSError, DiskError):  # a repository that cannot be written is served all the same
            atomic_write(self._path, json.dumps(content).encode())


def now() -> str:
    """Return the time in UTC, ISO 8601, to the millisecond."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def kept(repository: Path) -> dict[int, dict[str, Any]]:
    """Return the content of the files of a repository's servers, by gRPC port."""
    servers = {}
    for path in sorted(repository.glob(_FILE.format("*"))):
        with suppress(OSError, ValueError):
            servers[int(path.stem.rpartition("-")[2])] = json.loads(path.read_bytes())
    return servers
