"""Small valid tables, the real MovieLens-100K, and a publisher on 127.0.0.1 that can misbehave."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import numpy as np
import pandas as pd
import pytest

from workflows.config import MovieLens
from workflows.sources.download import cache_directory
from workflows.sources.movielens import fetch
from workflows.tables.store import Tables


@pytest.fixture
def frames() -> dict[str, pd.DataFrame]:
    """Frames that `Tables` accepts: three users, four items, two of them of one title."""
    return {
        "interactions": pd.DataFrame(
            {
                "user_id": np.array([1, 1, 2, 3, 3, 3]),
                "item_id": np.array([10, 30, 20, 40, 10, 30]),
                "rating": np.array([5, 4, 3, 2, 1, 0.5], dtype=np.float32),
                "timestamp": np.array([100, 200, 100, 300, 100, 200]),
            }
        ),
        "users": pd.DataFrame({"user_id": np.array([1, 2, 3]), "gender": ["F", None, "é"], "age": [1.0, np.nan, 3.0]}),
        "items": pd.DataFrame(
            {
                "item_id": np.array([10, 20, 30, 40]),
                "title": ["A", "B", "A", "Ünï"],
                "year": [1990.0, np.nan, 1991.0, 2000.0],
                "genres": [["War"], [], ["Drama", "War"], ["Film-Noir"]],
            }
        ),
    }


@pytest.fixture(scope="session")
def movielens_100k() -> Tables:
    """The real data set, from the cache or the network."""
    return fetch(MovieLens(variant="100k"), cache_directory(), lambda line: None)


class Publisher(ThreadingHTTPServer):
    """Serves `content` at every path, with ranges; the first responses may be `cut` after so many bytes."""

    daemon_threads = True

    def __init__(self, content: bytes, cuts: list[int]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.content, self.cuts = content, cuts
        self.ranges: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/file.zip"


class _Handler(BaseHTTPRequestHandler):
    server: Publisher

    def do_GET(self) -> None:
        requested = self.headers.get("Range")
        self.server.ranges.append(requested)
        start = int(re.fullmatch(r"bytes=(\d+)-", requested)[1]) if requested else 0  # type: ignore[index]
        rest = self.server.content[start:]
        if requested and not rest:
            self.send_error(416)
            return
        self.send_response(206 if requested else 200)
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        self.wfile.write(rest[: self.server.cuts.pop(0)] if self.server.cuts else rest)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def _publisher(content: bytes, cuts: list[int] | None = None) -> Iterator[Publisher]:
    with Publisher(content, cuts or []) as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield server
        finally:  # one whose socket is closed below it would spin as long as the tests last
            server.shutdown()


@pytest.fixture(scope="session")
def publish() -> Callable[..., AbstractContextManager[Publisher]]:
    """`publish(content, cuts)` starts a publisher whose first responses are cut after so many bytes."""
    return _publisher
