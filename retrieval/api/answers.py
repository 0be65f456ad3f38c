"""Answers of a release in this process, as a frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ensemble.batch.everybody import Asking, Everybody, batches
from ensemble.batch.users import listed
from ensemble.client.filters import Filter
from retrieval.queries.query import parse_time
from retrieval.report.examples import Catalogue
from workflows.columns import Columns

if TYPE_CHECKING:
    from ensemble.serving.retriever import Answer

Time = Any  # int | str | datetime


def asking_of(
    top_k: int,
    exclude: Sequence[Any],
    include_seen: bool,
    columns: Mapping[str, Any] | None,
    timestamp: Time,
    filters: Filter | str | None,
) -> Asking:
    """Return what is asked of every user; raise RecipeError for what is no time."""
    if isinstance(timestamp, datetime):
        aware = timestamp if timestamp.tzinfo else timestamp.replace(tzinfo=timezone.utc)
        timestamp = int(aware.timestamp())
    text = (filters.text() or "") if isinstance(filters, Filter) else filters or ""
    return Asking(top_k, list(exclude), include_seen, dict(columns or {}), text, parse_time(str(timestamp)))


def answers(everybody: Everybody, users: Any, asking: Asking, catalogue: Catalogue) -> pd.DataFrame:
    """Return a row for each item that a user gets, best first; columns as `retrieval.Run.recommend` has them.

    Raises
    ------
    DataError
        A user's id is null or not of the release's type, or what is asked is wrong.
    """
    ids = everybody.user_ids() if users is None else listed(users, everybody.retriever.release).ids
    frames = [_frame(batch, everybody.answer(batch, asking)) for batch in batches(ids)]
    recommended = pd.concat(frames, ignore_index=True)
    titles = {item: catalogue.item(item).title for item in recommended[Columns.Item].unique()}
    recommended.insert(3, Columns.Title, recommended[Columns.Item].map(titles))
    return recommended


def _frame(users: np.ndarray, answer: Answer) -> pd.DataFrame:
    width = answer.score.shape[1]
    ranks = np.broadcast_to(np.arange(1, width + 1), answer.score.shape)
    real = ranks <= answer.count[:, None]
    return pd.DataFrame(
        {
            Columns.User: np.repeat(users, answer.count),
            "rank": ranks[real],
            Columns.Item: answer.item_id[real],
            "score": answer.score[real],
            "user_known": np.repeat(answer.user_known, answer.count),
        }
    )
