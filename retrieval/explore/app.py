"""The pages: one address each, rendered here, so that whatever they show can be linked to."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlencode

import jinja2
from flask import Flask, Response, redirect, render_template, request, url_for
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response as AnyResponse

from ensemble.layouts import FUSED
from ensemble.serving.errors import ServingError
from retrieval.explore.loaded.explored import Explored, Shelf
from retrieval.explore.request.answers import InProcess
from retrieval.explore.request.form import whole_number
from retrieval.explore.views.item import item_page
from retrieval.explore.views.quality import quality_page
from retrieval.explore.views.user import user_page
from workflows.errors import RetrievalError

if TYPE_CHECKING:
    from ensemble.client import RetrievalClient
    from retrieval.explore.views.serving import Watch

PATIENCE_S = 3.0


class Server(NamedTuple):
    """The running server that answers."""

    address: str
    """HOST:PORT of gRPC."""
    model: str = FUSED
    delta: Path | None = None
    """Where the changes of its catalogue are."""


class Pages:
    """What the views are given: the runs, and what answers."""

    def __init__(self, places: Sequence[Path], server: Server | None) -> None:
        self.shelf, self.address = Shelf(list(places)), server.address if server else None
        self._client: RetrievalClient | None = None
        self._watch: Watch | None = None
        if server:
            from ensemble.client import RetrievalClient  # brings gRPC
            from retrieval.explore.views.drift import Drift
            from retrieval.explore.views.serving import Watch

            self._client = RetrievalClient(server.address, server.model, timeout_s=PATIENCE_S)
            self._watch = Watch(server.address, Drift(places[0], server.delta))

    def explored(self) -> Explored:
        """Return the run that the address asks for, the first unless told."""
        return self.shelf[self._number()]

    def other(self) -> Explored | None:
        """Return the second run; None where there is one alone."""
        return self.shelf[1 - self._number()] if len(self.shelf.places) > 1 else None

    def serving(self) -> dict[str, Any]:
        """Return what the server has done; why that is not known, in place of it."""
        try:
            return self._watch.page() if self._watch else {}
        except RetrievalError as error:
            return {"problem": str(error)}

    def _number(self) -> int:
        number = whole_number(request.args.get("run", "0")) or 0
        return number if number < len(self.shelf.places) else 0

    def answers(self, explored: Explored) -> InProcess | RetrievalClient:
        """Return what answers for a run."""
        return self._client or InProcess(explored)


def create_app(places: Sequence[Path], server: Server | None = None) -> Flask:
    """Return the application over runs; a running server answers if one is named."""
    app = Flask("retrieval.explore", static_folder="static")
    app.jinja_loader = jinja2.PackageLoader("retrieval")
    app.jinja_options = {"autoescape": True, "trim_blocks": True, "lstrip_blocks": True}
    pages = Pages(places, server)
    app.context_processor(lambda: _everywhere(pages))
    _add_views(app, pages)
    _add_errors(app)
    return app


def _add_views(app: Flask, pages: Pages) -> None:
    @app.get("/")
    def start() -> AnyResponse:
        return redirect(url_for("user"))

    @app.get("/user")
    def user() -> str:
        explored = pages.explored()
        return _page("user", explored, user_page(explored, pages.answers(explored), request.args, pages.address))

    @app.get("/item")
    def item() -> str:
        explored = pages.explored()
        return _page("item", explored, item_page(explored, request.args))

    @app.get("/quality")
    def quality() -> str:
        explored = pages.explored()
        return _page("quality", explored, quality_page(explored, pages.other()))

    @app.get("/map")
    def map() -> str:
        explored = pages.explored()
        return _page("map", explored, explored.map.about)

    @app.get("/points.json")
    def points() -> Response:
        return Response(pages.explored().map.document, mimetype="application/json")

    @app.get("/serving")
    def serving() -> str:
        return _page("serving", pages.explored(), pages.serving())

    @app.get("/style.css")
    def style() -> Response:
        return Response(_style(), mimetype="text/css")


def _page(name: str, explored: Explored, content: dict[str, Any]) -> str:
    return render_template(f"explore/{name}.html.j2", explored=explored, fields=request.args, view=name, **content)


@cache
def _style() -> str:
    return render_template("explore/style.css.j2")


def _everywhere(pages: Pages) -> dict[str, Any]:
    """Return what every page shows: the runs, which of them this is, and who answers."""
    names = [place.resolve().name for place in pages.shelf.places]
    run = request.args.get("run", "0")
    of_run = None if run == "0" else run
    return {
        "runs": names,
        "run": run,
        "address": pages.address,
        "live": True,
        "run_address": lambda number: query_string({**dict(request.args.lists()), "run": [str(number)]}),
        # Where links lead; the report, which has the same views, leads within its page.
        "item_address": lambda item: url_for("item", run=of_run, item=item),
        "user_address": lambda user, about: url_for("user", run=of_run, user=user, why=about),
        "points_address": url_for("points", run=of_run),
    }


def query_string(arguments: dict[str, list[str]]) -> str:
    """Return the part of an address that holds the arguments."""
    return "?" + urlencode(arguments, doseq=True) if arguments else ""


def _add_errors(app: Flask) -> None:
    @app.errorhandler(ServingError)
    @app.errorhandler(RetrievalError)
    def unusable(error: Exception) -> tuple[str, int]:
        return render_template("explore/problem.html.j2", problem=str(error), retry=True, view=""), 503

    @app.errorhandler(HTTPException)
    def refused(error: HTTPException) -> tuple[str, int]:
        text = render_template("explore/problem.html.j2", problem=error.description, retry=False, view="")
        return text, error.code or 500
