"""`retrieval query`: a question to a running server, its answer as a table or JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from retrieval.console import Terminal, command
from retrieval.options import ADDRESS, Address, Exclude, IncludeSeen
from retrieval.queries.filter_options import NO_FILTER, FilterOptions


@command
def query(
    out: Terminal,
    user: Annotated[list[str], typer.Option("--user", help="A user id; may be repeated.")],
    address: Address = ADDRESS,
    top_k: Annotated[int, typer.Option("--top-k", help="How many items per user.")] = 10,
    exclude: Exclude = None,
    include_seen: IncludeSeen = False,
    column: Annotated[list[str] | None, typer.Option("--column", help="NAME=VALUE, a query column.")] = None,
    timestamp: Annotated[int | None, typer.Option("--timestamp", help="Ask as of then, seconds since 1970.")] = None,
    watched: Annotated[list[str] | None, typer.Option("--watched", help="ITEM or ITEM@SECONDS, just watched.")] = None,
    filters: FilterOptions = NO_FILTER,
    run: Annotated[Path | None, typer.Option("--run", help="A run, for the items' titles.")] = None,
    model: Annotated[str, typer.Option("--model", help="retrieval_chained asks the chained layout.")] = "retrieval",
) -> None:
    """Ask a running server for users' recommendations.

    \b
    retrieval query --user 196 --run runs/movielens-100k
    retrieval query --user 196 --user 22 --top-k 5 --exclude 50 --exclude 181 --json
    retrieval query --user 100000 --column age=33 --column occupation=artist --address 127.0.0.1:8001
    retrieval query --user 196 --watched 50 --watched 181@893286638 --timestamp 893286700
    retrieval query --user 196 --tag genres=Comedy --not-tag genres=Horror --range year=1990: --limit-per year=2
    """
    from retrieval.queries.query import Question, ask

    question = Question(user, top_k, exclude or [], include_seen, column or [], timestamp, watched or [], filters)
    answers = ask(address, question, run, model)
    out.result([answer.as_json() for answer in answers], *(answer.as_table() for answer in answers))
