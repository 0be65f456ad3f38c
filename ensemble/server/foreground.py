"""A server in the foreground: until a signal comes, or it ends by itself."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from ensemble.server.endpoints import Addresses
from ensemble.server.server import StartGivenUp, TritonServer
from ensemble.supervision.events import Event
from ensemble.supervision.supervisor import Supervisor
from workflows.errors import ServerError


def serve(
    server: TritonServer, ready: Callable[[Addresses], None], watch: Callable[[Event], None] | None = None
) -> int:
    """Run a server until SIGTERM or SIGINT, and return 0. Call from the main thread, where Python handles signals.

    `ready` is called with the server's addresses once it answers, `watch` with every event of a supervisor that repairs
    the server; None: it is not supervised. Raise ServerError if it did not start, ended by itself without a supervisor,
    or could not be restarted.
    """
    with _signals() as came:
        try:
            server.start(given_up=came)
            ready(server.addresses)
            if watch is not None:
                Supervisor(server, watch).run(came)
            status = server.wait(given_up=came)
        except StartGivenUp:
            return 0
        finally:
            server.stop()
    if status is None:
        return 0
    raise ServerError(f"Triton ended by itself with status {status}")


@contextmanager
def _signals() -> Iterator[Callable[[], bool]]:
    """Yield a function that returns whether SIGTERM or SIGINT has come.

    A flag, not an exception: an exception could be raised anywhere, such as between starting a process and storing its
    id, or be lost in a system call that was about to begin.
    """
    came = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal came
        came = True

    previous = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield lambda: came
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
