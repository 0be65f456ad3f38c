"""`retrieval embeddings`: the vectors of a release, for other tools."""

from __future__ import annotations

import time
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from retrieval.console import Terminal, command
from retrieval.options import Delta, ReleasePath
from workflows.errors import RecipeError


class Side(str, Enum):
    """Whose vectors."""

    items = "items"
    queries = "queries"


class Format(str, Enum):
    """In which form."""

    parquet = "parquet"
    npy = "npy"
    jsonl = "jsonl"
    elasticsearch = "elasticsearch"
    opensearch = "opensearch"


_SUFFIX = {Format.elasticsearch: "elasticsearch.ndjson", Format.opensearch: "opensearch.ndjson"}


@command
def embeddings(
    out: Terminal,
    source: ReleasePath,
    side: Annotated[Side, typer.Option("--side", help="Every item, or every user.")],
    format_: Annotated[Format, typer.Option("--format", help="jsonl is for managed vector search.")] = Format.parquet,
    out_path: Annotated[
        Path | None, typer.Option("--out", help="Where to (default: embeddings/SIDE.FORMAT beside the release).")
    ] = None,
    delta: Delta = None,
    crowding: Annotated[
        str | None, typer.Option("--crowding", help="With jsonl: the attribute that is the crowding tag.")
    ] = None,
    timestamp: Annotated[
        str, typer.Option("--timestamp", help="Of queries: now, last (each user's newest interaction), or seconds.")
    ] = "now",
) -> None:
    """Write a release's item vectors or its users' query vectors to a file, streamed.

    jsonl is the layout that managed vector search takes: id, embedding, restricts, numeric_restricts, crowding_tag.
    elasticsearch and opensearch are lines for their bulk interface. Beside these three, NAME.index.json says how to
    make the index that they go into.

    \b
    retrieval embeddings runs/movielens-100k --side items --format jsonl --out items.jsonl --crowding year
    retrieval embeddings runs/movielens-100k --side items --format opensearch --out items.ndjson
    retrieval embeddings runs/movielens-100k --side queries --timestamp last --out users.parquet
    """
    if crowding is not None and (side, format_) != (Side.items, Format.jsonl):
        raise RecipeError("--crowding goes with --side items --format jsonl")
    if format_ in _SUFFIX and side is not Side.items:
        raise RecipeError(f"--format {format_.value} goes with --side items: a query is sent, not loaded")
    from ensemble.batch.everybody import Asking, Everybody
    from ensemble.batch.vectors import index_path, item_vectors, query_vectors, write_vectors
    from ensemble.serving.files.release import Release
    from ensemble.serving.retriever import ItemAnswers
    from retrieval.queries.query import parse_time
    from retrieval.runs.places import release_of

    release, at, started = release_of(source), parse_time(timestamp), time.monotonic()
    if side is Side.queries:
        everybody = Everybody.load(release, delta)
        vectors = query_vectors(everybody, everybody.user_ids(), Asking(time=at))
    else:
        answers = ItemAnswers(Release.open(release))
        if delta is not None:
            answers.follow(delta)
        vectors = item_vectors(answers.release, answers.catalogue, answers.name, format_.value, crowding)
    place = out_path or release.parent / "embeddings" / f"{side.value}.{_SUFFIX.get(format_, format_.value)}"
    out.step(f"writing {len(vectors.ids):,} vectors of {vectors.dim} numbers")
    write_vectors(vectors, format_.value, place)
    facts = {"path": str(place), "vectors": len(vectors.ids), "dim": vectors.dim, **vectors.facts}
    if vectors.index is not None:
        facts["index"] = str(index_path(place))
    out.result({**facts, "seconds": round(time.monotonic() - started, 2)}, str(place))
