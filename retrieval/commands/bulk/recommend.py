"""`retrieval recommend`: everybody's answers, without a server."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from retrieval.console import Terminal, command
from retrieval.options import (
    AsJson,
    Delta,
    Exclude,
    IncludeSeen,
    ReleasePath,
    Scheduler,
    Texts,
    Workers,
)
from retrieval.queries.filter_options import NO_FILTER, FilterOptions, filter_of

if TYPE_CHECKING:
    from ensemble.batch.everybody import Asking, Everybody


@dataclass(frozen=True)
class Wanted:
    """What the user typed, of all that every user is asked with; ids and values are still text."""

    top_k: int | None
    exclude: list[str]
    include_seen: bool
    columns: list[str]
    timestamp: str
    filters: FilterOptions = NO_FILTER


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
    json: AsJson = False,
) -> None:
    """Answer many users through the release, as the server would: a Parquet row per user, in parts.

    The same command again continues where it stopped. Columns: user_id, item_ids, scores, count, user_known.

    \b
    retrieval recommend runs/movielens-100k --users all --out answers --top-k 20
    retrieval recommend runs/movielens-100k --users 196,22 --out few --tag genres=Comedy --range year=1990: --json
    retrieval recommend runs/movielens-100k --users users.csv --out answers --workers 2 --timestamp last
    """
    from retrieval.runs.places import release_of

    request = Wanted(top_k, exclude or [], include_seen, column or [], timestamp, filters)
    done = _recommend(out, (release_of(source), delta), users, out_path, request, (workers, scheduler), force)
    if json:
        out.json(asdict(done))
    else:
        speed = f", {done.rows_per_s:,.0f} users/s" if done.rows_per_s else ", all kept from before"
        out.results.print(f"{done.out}: {done.users:,} users in {done.parts} parts{speed}", soft_wrap=True)


def _recommend(
    out: Terminal,
    where: tuple[Path, Path | None],
    users: str,
    target: Path,
    request: Wanted,
    cluster: tuple[int | None, str | None],
    force: bool,
) -> Any:
    from ensemble.batch.answers import Task, answer_all
    from ensemble.batch.everybody import Everybody
    from ensemble.batch.users import choose
    from workflows.features.dask_cluster import client

    everybody = Everybody.load(*where)
    chosen = choose(users, everybody.retriever.release)
    if chosen.repeated:
        out.say(f"--users {users}: {chosen.repeated:,} repeated ids; each user is answered once")
    task = Task(*where, everybody.retriever.name, asking_of(request, everybody), target)
    with client(*cluster) as joined:
        return answer_all(task, everybody, chosen.ids, joined, out.step, now=request.timestamp == "now", force=force)


def asking_of(request: Wanted, everybody: Everybody) -> Asking:
    """Return what was typed, checked against the release's inputs; raise InvalidRequest naming the option."""
    from ensemble.batch.everybody import Asking
    from ensemble.client.filters import Filter
    from retrieval.queries.query import columns_of, parse_time, typed

    types = everybody.signature.inputs
    item_type = types["exclude_item_ids"]
    wanted_filter = filter_of(request.filters, lambda option, text: typed(option, text, item_type))
    return Asking(
        top_k=request.top_k,
        exclude=[typed("--exclude", text, item_type) for text in request.exclude],
        include_seen=request.include_seen,
        columns=dict(columns_of(request.columns, types)),
        filter=wanted_filter.text() if isinstance(wanted_filter, Filter) else wanted_filter or "",
        time=parse_time(request.timestamp),
    )
