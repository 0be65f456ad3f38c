"""`retrieval serve`: a run's Triton in the foreground."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from retrieval.console import Terminal, command_without_json
from retrieval.options import AtLeast, Python, Triton
from workflows.errors import RecipeError

if TYPE_CHECKING:
    from ensemble.client.tls import ServerTls
    from ensemble.server.endpoints import Addresses


@command_without_json
def serve(
    out: Terminal,
    source: Annotated[Path, typer.Argument(metavar="RUN", help="A run, or a Triton model repository.")],
    host: Annotated[
        str, typer.Option("--host", help="Address to bind; others can reach what is not 127.")
    ] = "127.0.0.1",
    grpc_port: Annotated[int, typer.Option("--grpc-port", help="For inference; what clients use.")] = 8001,
    http_port: Annotated[int | None, typer.Option("--http-port", help="HTTP too; off without it.")] = None,
    metrics_port: Annotated[int, typer.Option("--metrics-port", help="For Prometheus.")] = 8002,
    metrics_host: Annotated[
        str, typer.Option("--metrics-host", help="Address to bind for Prometheus; it has no TLS and no key.")
    ] = "127.0.0.1",
    tls_cert: Annotated[Path | None, typer.Option("--tls-cert", help="PEM: TLS with this certificate.")] = None,
    tls_key: Annotated[Path | None, typer.Option("--tls-key", help="PEM: the key of --tls-cert.")] = None,
    tls_ca: Annotated[
        Path | None, typer.Option("--tls-ca", help="PEM: mutual TLS; only clients with its certificates.")
    ] = None,
    triton: Triton = None,
    python: Python = None,
    delta: Annotated[
        Path | None, typer.Option("--delta", help="Follow the changes that `retrieval items` writes to this directory.")
    ] = None,
    verify: Annotated[
        Path | None, typer.Option("--verify", help="PEM: serve only releases that one of these public keys signed.")
    ] = None,
    at_least: AtLeast = None,
    supervise: Annotated[
        bool, typer.Option("--supervise/--no-supervise", help="Ask a canary, reload and restart what does not answer.")
    ] = True,
    log: Annotated[str, typer.Option("--log", help="text, or json: one object a line.")] = "text",
) -> None:
    """Serve a run with Triton, in the foreground, until a signal comes. Its log goes to stderr.

    What breaks is repaired: a model whose process died is reloaded, docs/operating.md says how and what is logged.
    Only gRPC on 127.0.0.1, and Prometheus metrics, unless told otherwise. docs/security.md has the rest.

    \b
    retrieval serve runs/movielens-100k
    retrieval serve runs/movielens-100k --grpc-port 9001 --http-port 9000 --metrics-port 9002
    retrieval serve runs/movielens-100k --delta live
    retrieval serve runs/movielens-100k --host 0.0.0.0 --tls-cert server.pem --tls-key server.key --tls-ca clients.pem
    retrieval serve runs/movielens-100k --verify release.pub.pem
    """
    from ensemble.server.foreground import serve as serve_triton
    from ensemble.server.server import TritonServer
    from ensemble.server.triton_log import as_json
    from retrieval.runs.places import repository_of

    if log not in ("text", "json"):
        raise RecipeError(f"--log {log}: expected text or json")
    if at_least is not None and verify is None:
        raise RecipeError("--at-least goes with --verify: what is not signed can say any time")
    server = TritonServer(
        repository_of(source),
        triton=triton,
        python=python,
        delta=delta,
        host=host,
        grpc_port=grpc_port,
        http_port=http_port,
        metrics_port=metrics_port,
        metrics_host=metrics_host,
        tls=server_tls(tls_cert, tls_key, tls_ca, supervise),
        verify=verify,
        at_least=at_least,
        on_log=out.say if log == "text" else lambda line: out.say(as_json(line)),
    )

    watch = (lambda event: out.say(json.dumps(event))) if supervise else None
    ready = partial(_show_address, out, source, server.repository, secure=tls_cert is not None)
    raise typer.Exit(serve_triton(server, ready, watch))


def _show_address(out: Terminal, source: Path, repository: Path, addresses: Addresses, secure: bool) -> None:
    """Print where the server answers, and a command that asks it."""
    from ensemble.layouts import CHAINED, FUSED, answering_models
    from retrieval.report.examples import any_user

    http = "" if addresses.http_port is None else f", http {addresses.host}:{addresses.http_port}"
    query = f"retrieval{' --tls-ca CA' if secure else ''} query --user {any_user(source)} --address {addresses.grpc}"
    model = "" if FUSED in answering_models(repository) else f" --model {CHAINED}"
    out.show(f"ready: grpc {addresses.grpc}{http}", f"ask it: {query} --run {source}{model}")


def server_tls(certificate: Path | None, key: Path | None, authority: Path | None, supervise: bool) -> ServerTls | None:
    """Return the server's TLS; None where no file is given. Raise RecipeError where one is missing."""
    from ensemble.client.tls import ClientTls, ServerTls

    if certificate is None and key is None and authority is None:
        return None
    if certificate is None or key is None:
        raise RecipeError(
            "TLS takes --tls-cert and --tls-key together; --tls-ca adds that clients must have certificates"
        )
    own = ClientTls.from_environment()
    if supervise and authority is not None and (own is None or own.certificate is None):
        raise RecipeError(
            "with --tls-ca the supervisor needs a client's certificate, too: `retrieval --tls-cert C --tls-key K serve "
            "...`, or leave it out with --no-supervise"
        )
    return ServerTls(certificate, key, authority)
