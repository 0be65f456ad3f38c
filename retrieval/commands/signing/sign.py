"""`retrieval sign`: who made a release."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from retrieval.console import Terminal, command
from retrieval.options import Signable


@command
def sign(
    out: Terminal,
    source: Signable,
    key: Annotated[Path, typer.Option("--key", help="PEM: the Ed25519 private key.")],
) -> None:
    """Sign a release, and the copies of it in the model repository beside it.

    \b
    retrieval sign runs/movielens-100k --key keys/release.pem
    """
    from retrieval.runs.places import sign as write_signature

    signed = write_signature(source, key)
    out.result({"release": signed, "signed": True}, f"signed: release {signed}")
