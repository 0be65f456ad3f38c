"""The pages of `retrieval explore` as a test opens them: without a browser, and in Chromium."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from retrieval.explore.app import create_app
from retrieval.explore.serve import Listening, listen, protect


@pytest.fixture
def pages() -> Callable[..., Any]:
    """Return what opens the pages of runs without a browser, the token given."""

    def opened(*places: Path, **options: Any) -> Any:
        app = create_app(places, **options)
        protect(app, "a token")
        client = app.test_client()
        client.get("/user?token=a+token")
        return client

    return opened


@contextmanager
def running(*places: Path) -> Iterator[Listening]:
    """Serve the pages of runs on a free port inside the block."""
    listening = listen(places)
    thread = threading.Thread(target=listening.run, daemon=True)
    thread.start()
    try:
        yield listening
    finally:
        listening.close()
        thread.join(5)


@pytest.fixture(scope="module")  # its event loop would be in the way of asyncio in later modules
def chromium() -> Iterator[Any]:
    """Debian's Chromium, without a window."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("no Chromium here; apt-get install chromium")
    with playwright.sync_playwright() as started:
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = started.chromium.launch(executable_path=program, args=arguments)
        yield browser
        browser.close()
