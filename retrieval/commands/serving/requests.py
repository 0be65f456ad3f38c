"""`retrieval requests`: real requests as a file, for a perf_analyzer that runs elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from retrieval.console import Terminal, command
from retrieval.options import ADDRESS, Address, Layout


@command
def requests(
    output: Terminal,
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run; its test interactions say who asks how often.")],
    out: Annotated[Path, typer.Option("--out", help="The file, JSON; one that is there is replaced.")],
    address: Address = ADDRESS,
    count: Annotated[int, typer.Option("--count", min=1, help="Distinct requests.")] = 1000,
    batch: Annotated[int, typer.Option("--batch", min=1, help="What perf_analyzer is given as -b.")] = 1,
    layout: Layout = None,
) -> None:
    """Write requests drawn from the run as perf_analyzer's --input-data: for one that runs elsewhere.

    `retrieval bench` does it all on this machine. perf_analyzer's own random numbers are users that no release knows.

    \b
    retrieval requests runs/movielens-100k --out requests.json
    perf_analyzer -m retrieval -i grpc -u 127.0.0.1:8001 --input-data requests.json --concurrency-range 1:16:5
    """
    import json

    from ensemble.client import RetrievalClient
    from ensemble.measure.benchmark import draw_requests, input_data
    from retrieval.runs.run import Run
    from retrieval.runs.serving import answering_model
    from workflows.files import atomic_write

    opened = Run.open(run)
    model = answering_model(opened, layout)
    with RetrievalClient(address, model) as client:
        signature = client.signature()
    drawn = draw_requests(opened.directory, count, seed=opened.recipe.seed)
    rows = input_data(signature, drawn, batch)
    atomic_write(out, json.dumps(rows).encode())
    summary = {"path": str(out), "requests": len(rows["data"]), "model": model, "batch": batch}
    output.result(summary, f"{out}: {len(rows['data'])} requests for model '{model}'")
