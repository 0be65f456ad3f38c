"""A server in the foreground: until a signal comes, or it ends by itself."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from ensemble.server.server import Addresses, StartGivenUp, TritonServer
from ensemble.supervision.events import Event
from ensemble.supervision.supervisor import Supervisor
from workflows.errors import ServerError


def serve(
    server: TritonServer, ready: Callable[[Addresses], None], watch: Callable[[Event], None] | None = None
) -> int:
    """Run the server until SIGTERM, SIGINT or its own end; return the exit status, 0 after a signal.

    `ready` is called once it answers. With `watch`, which is told of every event, a supervisor repairs what breaks.
    Call from the main thread, which is where Python handles signals.

    Raises
    ------
    ServerError
        It did not start; it ended by itself, unsupervised; it could not be restarted.
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
    """Yield what says whether SIGTERM or SIGINT came.

    A flag to be looked at, not an exception: that could be raised anywhere, between starting a process and knowing
    of it, or go unnoticed in a system call that was about to begin.
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
