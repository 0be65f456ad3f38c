"""The recipe's `[evaluate]`."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from workflows.section import PositiveInt, Section

PeerName = Literal["popularity", "knn", "recent-knn", "ease", "als"]
PositiveFloat = Annotated[float, Meta(gt=0.0)]


class Evaluate(Section, frozen=True, kw_only=True):
    """What the test rows are asked for beside the figures that every run has."""

    rows: PositiveInt | None = None
    """About so many test rows are asked for, all those of users drawn evenly; the figures then come with the standard
    error of drawing. None: all rows. Of a million items a row takes about 8 ms on two cores."""
    seed: Annotated[int, Meta(ge=0)] = 0
    """Of drawing them: runs that share it are asked for the same rows."""
    ks: Annotated[tuple[PositiveInt, ...], Meta(min_length=1)] = (10, 20, 50)
    """The cut-offs of the figures per user, which papers report: recall, ndcg, precision, hit rate and map at each (see
    docs/metrics.md)."""
    peers: tuple[PeerName, ...] = ("popularity", "knn", "recent-knn", "ease", "als")
    """The simple models that every run is compared with, fitted to the same rows: item KNN, the same with recent items
    counting more (where rows have times), EASE, and ALS by the library `implicit`, an extra. Popularity always is."""
    peers_seconds: PositiveFloat = 120.0
    """The search for a peer's settings, on validation rows, takes about so long at most. It may take less, as it ends
    where no neighbouring settings are better."""
