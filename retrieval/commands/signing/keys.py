"""`retrieval keys`: a pair of keys to sign releases with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from retrieval.console import Terminal, command


@command
def keys(
    out: Terminal,
    name: Annotated[Path, typer.Argument(metavar="NAME", help="The pair becomes NAME.pem and NAME.pub.pem.")],
) -> None:
    """Make a pair of keys: who holds the private one signs releases, who holds the public one verifies them.

    \b
    retrieval keys keys/release
    """
    from ensemble.release.sign import new_keys

    private, public = (name.with_name(f"{name.name}{suffix}.pem") for suffix in ("", ".pub"))
    new_keys(private, public)
    result = {"private": str(private), "public": str(public)}
    out.result(result, f"private: {private} (to sign with; keep it)", f"public: {public}")
