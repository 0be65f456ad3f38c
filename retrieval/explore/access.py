"""Who may open the pages: the one who has the token in the address, and afterwards in a cookie."""

from __future__ import annotations

import hashlib
import hmac
from urllib.parse import urlencode

from flask import Flask, Response, abort, redirect, request
from werkzeug.wrappers import Response as AnyResponse

POLICY = "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


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


def query_string(arguments: dict[str, list[str]]) -> str:
    """Return the part of an address that holds the arguments."""
    return "?" + urlencode(arguments, doseq=True) if arguments else ""
