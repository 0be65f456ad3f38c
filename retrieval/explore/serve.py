"""The local server of the pages: loopback, a port of its own, and a token, which lets in who has it."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import webbrowser
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import waitress
from flask import Flask, Response, abort, redirect, request
from werkzeug.wrappers import Response as AnyResponse

from retrieval.explore.app import Server, create_app, query_string
from workflows.errors import ServerError

LOCALHOST = "127.0.0.1"
POLICY = "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
_THREADS = 4
_LARGEST_REQUEST = 1 << 20


class Listening(NamedTuple):
    """A server that is bound and will answer once it runs."""

    server: Any
    address: str
    """With the token; what a browser opens."""

    def run(self) -> None:
        """Answer until the process is interrupted or `close` is called."""
        self.server.run()

    def close(self) -> None:
        """Stop."""
        self.server.close()


def listen(places: Sequence[Path], host: str = LOCALHOST, port: int = 0, server: Server | None = None) -> Listening:
    """Bind the pages of runs to a port, 0 for any that is free; raise ServerError where that cannot be."""
    return bind(create_app(places, server), host, port)


def bind(app: Flask, host: str = LOCALHOST, port: int = 0, policy: str = POLICY) -> Listening:
    """Bind an application to a port, behind a token of its own; raise ServerError where it is taken, or the host is not
    one of this machine."""
    token = secrets.token_urlsafe(24)
    protect(app, token, policy)
    try:
        server = waitress.create_server(
            app, host=host, port=port, threads=_THREADS, max_request_body_size=_LARGEST_REQUEST, ident=None
        )
    except OSError as error:
        raise ServerError(f"--host {host} --port {port}: {error.strerror}; give another, or none") from None
    bound = f"[{host}]" if ":" in host else host
    return Listening(server, f"http://{bound}:{server.effective_port}/?token={token}")


def protect(app: Flask, token: str, policy: str = POLICY) -> None:
    """Refuse requests without the token; take it from the address once, then from a cookie of this server alone."""
    cookie = "explore_" + hashlib.sha256(token.encode()).hexdigest()[:8]  # cookies do not tell ports apart

    @app.before_request
    def check() -> AnyResponse | None:
        if "token" in request.args and _is_same(request.args["token"], token):
            rest = {name: values for name, values in request.args.lists() if name != "token"}
            there = redirect(request.path + query_string(rest))
            there.set_cookie(cookie, token, httponly=True, samesite="Strict")
            return there
        if not _is_same(request.cookies.get(cookie, ""), token):
            abort(403, "open the address that `retrieval explore` printed: its token lets you in")
        return None

    @app.after_request
    def harden(response: Response) -> Response:
        response.headers.update({**_HEADERS, "Content-Security-Policy": policy})
        return response


def _is_same(token_given: str, token: str) -> bool:
    return hmac.compare_digest(token_given.encode(), token.encode())


def open_browser(address: str, say: Callable[[str], None]) -> None:
    """Open the address in the user's browser, if there is one."""
    if not webbrowser.open(address):
        say("no browser could be opened here; open the address yourself")
