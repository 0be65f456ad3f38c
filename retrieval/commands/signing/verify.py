"""`retrieval verify`: whether a release is whole, who signed it, and that it answers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from retrieval.console import Terminal, command
from retrieval.options import AtLeast, Signable


@command
def verify(
    out: Terminal,
    source: Signable,
    key: Annotated[Path, typer.Option("--key", help="PEM: one or more Ed25519 public keys.")],
    at_least: AtLeast = None,
) -> None:
    """Verify every byte of a release, who signed it and that it answers; exit code 2 where anything is wrong.

    An older release is signed, too: --at-least refuses one that was made before the time given, as printed here.

    \b
    retrieval verify runs/movielens-100k --key keys/release.pub.pem
    retrieval verify runs/movielens-100k --key keys/release.pub.pem --at-least 2026-09-01T12:00:00+00:00
    """
    from ensemble.release.examination import examine
    from ensemble.release.sign import open_signed
    from ensemble.serving.index.engines import ENGINES, kind_of
    from retrieval.runs.places import release_of

    opened = open_signed(release_of(source), key, at_least)
    if kind_of(opened) not in ENGINES:  # another engine's items lie elsewhere, and may not be reached from here
        examine(opened)
    facts = {name: str(opened.manifest[name]) for name in ("release", "created")}
    result = {**facts, "verified": True}
    out.result(result, f"verified: release {facts['release']}, made at {facts['created']}")
