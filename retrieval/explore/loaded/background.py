"""What takes seconds and is found once, beside the page that waits for it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

Found = TypeVar("Found")


class Background(Generic[Found]):
    """The result of a function that runs in a thread of its own."""

    def __init__(self, find: Callable[[], Found]) -> None:
        """Start the function."""
        self._future = ThreadPoolExecutor(1, type(self).__name__).submit(find)

    @property
    def ready(self) -> bool:
        """Return whether it ended."""
        return self._future.done()

    def wait(self) -> None:
        """Wait until it ended, in whatever way."""
        self._future.exception()

    @property
    def problem(self) -> str:
        """Return why there is no result, "" where there is one; wait for it."""
        return str(self._future.exception() or "")

    @property
    def result(self) -> Found:
        """Return the result, or raise what the function raised; wait for it."""
        return self._future.result()
