"""The one place that names the columns of the tables."""

from __future__ import annotations

from typing import Final


class Columns:
    """Canonical column names of the `interactions`, `users` and `items` tables."""

    User: Final = "user_id"
    Item: Final = "item_id"
    Rating: Final = "rating"
    Timestamp: Final = "timestamp"
    """Seconds since 1970-01-01 UTC, int64."""
    Event: Final = "event"
    """What kind of interaction it was, such as a view or a purchase; only some sources have it."""
    Split: Final = "split"
    """Which part of a published split a row is in, where its parts came as files."""
    Title: Final = "title"
    ItemIndex: Final = "item_index"
    """Row of the item in the catalogue, int64, 0-based: what vectors, index and history refer to."""
