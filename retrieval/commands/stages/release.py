"""`retrieval release`: the stage that writes the release and its Triton model repository."""

from __future__ import annotations

from typing import Annotated

import typer

from retrieval.console import Terminal, command
from retrieval.options import CACHE, Cache, Force, RunPath, SignWith
from retrieval.runs.run import Run, advance


@command
def release(
    out: Terminal,
    run: RunPath,
    layout: Annotated[
        str | None,
        typer.Option("--layout", help="fused, chained, both or onnx, instead of the recipe's [serving] layout."),
    ] = None,
    sign: SignWith = None,
    cache: Cache = CACHE,
    force: Force = False,
) -> None:
    """Write the release and the Triton model repository.

    \b
    retrieval release runs/movielens-100k
    retrieval release runs/movielens-100k --layout both
    retrieval release runs/movielens-100k --sign keys/release.pem
    retrieval release runs/movielens-100k --json
    """
    opened = Run.open(run) if layout is None else Run.open(run).with_layout(layout)
    (done,) = advance(opened, ["release"], cache, out, force)
    if sign is not None:
        from retrieval.runs.places import sign as write_signature

        write_signature(run, sign)
    out.result(done, done["outputs"][-1])
