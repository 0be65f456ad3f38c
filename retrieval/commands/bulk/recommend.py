"""`retrieval recommend`: everybody's answers, without a server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from retrieval.console import Terminal, command
from retrieval.options import Delta, Exclude, IncludeSeen, ReleasePath, Scheduler, Texts, Workers
from retrieval.queries.filter_options import NO_FILTER, FilterOptions, filter_of


@command
def recommend(
    out: Terminal,
    source: ReleasePath,
    users: Annotated[str, typer.Option("--users", help="all; a .parquet, .csv, .jsonl or .txt file; or ID,ID.")],
    out_path: Annotated[Path, typer.Option("--out", help="A directory; what it has of the same answers is kept.")],
    top_k: Annotated[int | None, typer.Option("--top-k", help="How many items per user.")] = None,
    workers: Workers = None,
    scheduler: Scheduler = None,
    delta: Delta = None,
    exclude: Exclude = None,
    include_seen: IncludeSeen = False,
    column: Annotated[Texts, typer.Option("--column", help="NAME=VALUE, a query column, for every user.")] = None,
    timestamp: Annotated[
        str, typer.Option("--timestamp", help="now, last (each user's newest interaction), or seconds since 1970.")
    ] = "now",
    filters: FilterOptions = NO_FILTER,
    force: Annotated[bool, typer.Option("--force", help="Replace what --out holds.")] = False,
) -> None:
    """Answer many users through the release, as the server would: a Parquet row per user, in parts.

    The same command again continues where it stopped. Columns: user_id, item_ids, scores, count, user_known.

    \b
    retrieval recommend runs/movielens-100k --users all --out answers --top-k 20
    retrieval recommend runs/movielens-100k --users 196,22 --out few --tag genres=Comedy --range year=1990: --json
    retrieval recommend runs/movielens-100k --users users.csv --out answers --workers 2 --timestamp last
    """
    from ensemble.batch.answers import Task, answer_all
    from ensemble.batch.everybody import Asking, Everybody
    from ensemble.batch.users import choose
    from ensemble.client.filters import Filter
    from retrieval.queries.query import columns_of, parse_time, typed
    from retrieval.runs.places import release_of
    from workflows.features.dask_cluster import client

    where = release_of(source), delta
    everybody = Everybody.load(*where)
    chosen = choose(users, everybody.retriever.release)
    if chosen.repeated:
        out.say(f"--users {users}: {chosen.repeated:,} repeated ids; each user is answered once")
    types = everybody.signature.inputs
    item_type = types["exclude_item_ids"]
    wanted = filter_of(filters, lambda option, text: typed(option, text, item_type))
    asking = Asking(
        top_k=top_k,
        exclude=[typed("--exclude", text, item_type) for text in exclude or []],
        include_seen=include_seen,
        columns=dict(columns_of(column or [], types)),
        filter=wanted.text() if isinstance(wanted, Filter) else wanted or "",
        time=parse_time(timestamp),
    )
    task = Task(*where, everybody.retriever.name, asking, out_path)
    with client(workers, scheduler) as joined:
        done = answer_all(task, everybody, chosen.ids, joined, out.step, now=timestamp == "now", force=force)
    speed = f", {done.rows_per_s:,.0f} users/s" if done.rows_per_s else ", all kept from before"
    out.result(done, f"{done.out}: {done.users:,} users in {done.parts} parts{speed}")
