"""The recipe's `[index]`, `[serving]` and `[bench]`."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from workflows.config import PositiveInt, Section


class Index(Section, frozen=True, kw_only=True):
    """How the item vectors are searched."""

    kind: Literal["flat"] = "flat"
    """`flat` compares the query with every item: exact."""


class Serving(Section, frozen=True, kw_only=True):
    """How the released model answers inside Triton."""

    top_k: PositiveInt = 100
    """Answers per row when the request does not say `top_k`."""
    max_top_k: PositiveInt = 1000
    """A larger `top_k` is refused."""
    max_batch_size: PositiveInt = 256
    """Rows in one request, and rows that Triton joins into one execution."""
    max_queue_delay_microseconds: Annotated[int, Meta(ge=0)] = 0
    """How long Triton may wait for more requests to join a batch."""
    instances: PositiveInt = 1
    """Model instances (processes)."""
    threads: PositiveInt = 1
    """Threads per instance for the tower and the search."""
    max_exclude_item_ids: PositiveInt = 10_000
    """Longest `exclude_item_ids` of one row."""
    max_history_item_ids: PositiveInt = 1000
    """Longest `history_item_ids` of one row: the newest interactions that a request carries."""


class Bench(Section, frozen=True, kw_only=True):
    """What `retrieval bench` measures."""

    batch: tuple[PositiveInt, ...] = (1,)
    """Rows per request."""
    concurrency: tuple[PositiveInt, ...] = (
        1,
        4,
        16,
    )
    """Requests in flight."""
    measurement_interval_ms: PositiveInt = 2000
    requests: PositiveInt = 1000
    """Distinct real requests drawn from the run's test users."""
