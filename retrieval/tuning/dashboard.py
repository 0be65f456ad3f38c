"""Optuna's dashboard of a search, on this machine, for who has the token."""

from __future__ import annotations

import threading
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from retrieval.tuning.tune import study_storage
from workflows.errors import RetrievalError

POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; font-src 'self' data:; "
    "frame-ancestors 'none'; base-uri 'none'"
)
"""The dashboard writes its styles into the page; its scripts are files."""
METHODS = ("GET", "POST", "PUT", "DELETE")


class Dashboard:
    """The dashboard of one search; nothing is shown before it is opened."""

    def __init__(self, say: Callable[[str], None]) -> None:
        """Take what says the address; raise RetrievalError where the dashboard is not installed."""
        if any(find_spec(name) is None for name in ("optuna_dashboard", "flask", "waitress")):
            raise RetrievalError("--dashboard needs optuna-dashboard: pip install 'merlin-retrieval[dashboard]'")
        self._say, self._thread = say, threading.Thread()
        self.address = ""

    def open(self, study: Path) -> None:
        """Serve a study's file in the background."""
        from flask import Flask, request
        from optuna_dashboard import wsgi  # type: ignore[import-untyped]
        from werkzeug.wrappers import Response

        from retrieval.explore.serve import bind

        dashboard = wsgi(study_storage(study))
        app = Flask("retrieval.tuning", static_folder=None)

        @app.route("/", defaults={"path": ""}, methods=METHODS)
        @app.route("/<path:path>", methods=METHODS)
        def anything(path: str) -> Response:
            return Response.from_app(dashboard, request.environ)

        listening = bind(app, policy=POLICY)
        self.address = listening.address
        self._thread = threading.Thread(target=listening.run, daemon=True)
        self._thread.start()
        self._say(f"dashboard: {listening.address}")

    def wait(self) -> None:
        """Go on until the process is interrupted."""
        self._say("the search is over; the dashboard is shown until Ctrl-C")
        self._thread.join()
