"""`retrieval keys`: a pair of keys to sign releases with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from retrieval.console import Terminal, command
from retrieval.options import AsJson


@command
def keys(
    out: Terminal,
    name: Annotated[Path, typer.Argument(metavar="NAME", help="The pair becomes NAME.pem and NAME.pub.pem.")],
    json: AsJson = False,
) -> None:
    """Make a pair of keys: who holds the private one signs releases, who holds the public one verifies them.

    \b
    retrieval keys keys/release
    """
    from ensemble.release.sign import new_keys

    private, public = (name.with_name(f"{name.name}{suffix}.pem") for suffix in ("", ".pub"))
    new_keys(private, public)
    if json:
        out.json({"private": str(private), "public": str(public)})
    else:
        out.results.print(f"private: {private} (to sign with; keep it)\npublic: {public}", soft_wrap=True)
