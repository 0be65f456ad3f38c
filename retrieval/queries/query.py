"""A question on the command line to a running server, its answer as a table or JSON."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from rich.table import Table

from ensemble.client.tensors import InvalidRequest, Recommendations
from ensemble.layouts import FUSED
from retrieval.queries.filter_options import NO_FILTER, FilterOptions, filter_of
from retrieval.report.tables import Item, answer_table
from workflows.errors import RecipeError

_INTEGER, _FLOAT = ("INT64", "INT32"), ("FP64", "FP32")


@dataclass(frozen=True)
class Question:
    """What the user typed; ids and values are still text."""

    users: list[str]
    top_k: int
    exclude: list[str]
    include_seen: bool
    columns: list[str]
    """`NAME=VALUE`, for every user asked about."""
    timestamp: int | None = None
    """Seconds since 1970: ask as of then; None is now."""
    watched: list[str] = field(default_factory=list)
    """`ITEM` or `ITEM@SECONDS`, the newest interactions of every user asked about; without a time, the query's."""
    filters: FilterOptions = NO_FILTER


@dataclass(frozen=True)
class UserAnswer:
    """One user's answer."""

    user: int | str
    known: bool
    items: list[Item]

    def as_json(self) -> dict[str, Any]:
        """Return the answer, ready for JSON."""
        return {
            "user_id": self.user,
            "user_known": self.known,
            "items": [
                {
                    "rank": rank,
                    "item_id": item.id,
                    **({"title": item.title, "genres": item.genres} if item.title != str(item.id) else {}),
                    "score": item.score,
                }
                for rank, item in enumerate(self.items, start=1)
            ],
        }

    def as_table(self) -> Table:
        """Return the answer as a table."""
        known = "" if self.known else "  (unknown user: answered from the other columns alone)"
        return answer_table(f"user {self.user}{known}", self.items)


def ask(address: str, question: Question, run: Path | None, model: str = FUSED) -> list[UserAnswer]:
    """Ask a model of the server at `address`; titles come from `run` where one is given.

    Raises
    ------
    InvalidRequest
        An id or a column's value is not of the model's type; names it.
    Unavailable, DeadlineExceeded, ClientError
        As `RetrievalClient.recommend`.
    """
    from ensemble.client import RetrievalClient  # brings gRPC

    with RetrievalClient(address, model) as client:
        types = client.signature().inputs
        users = [typed("--user", text, types["user_id"]) for text in question.users]
        exclude = [typed("--exclude", text, types.get("exclude_item_ids", "INT64")) for text in question.exclude]
        item_type = types.get("exclude_item_ids", "INT64")
        chosen = filter_of(question.filters, lambda option, text: typed(option, text, item_type))
        answers = client.recommend(
            users,
            top_k=question.top_k,
            exclude_item_ids=[exclude] * len(users),
            include_seen=question.include_seen,
            columns={name: [value] * len(users) for name, value in columns_of(question.columns, types)},
            timestamps=_times(question, len(users), types),
            history=[_watched(question, types)] * len(users) if question.watched else None,
            filters=[chosen] * len(users) if chosen else None,
        )
    return [
        UserAnswer(user, answer.user_known, items)
        for user, answer, items in zip(users, answers, _described(answers, run), strict=True)
    ]


def _described(answers: list[Recommendations], run: Path | None) -> list[list[Item]]:
    pairs = [list(zip(answer.item_ids, answer.scores, strict=True)) for answer in answers]
    if run is None:
        return [[Item(item, str(item), score=score) for item, score in row] for row in pairs]
    from retrieval.report.examples import Catalogue

    catalogue = Catalogue.of(run)
    return [[catalogue.item(item, score) for item, score in row] for row in pairs]


def columns_of(texts: list[str], types: Any) -> list[tuple[str, Any]]:
    """Return the columns of `NAME=VALUE` texts, typed as the model's inputs `types` are; raise InvalidRequest."""
    columns = []
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise InvalidRequest(f"--column {text}: expected NAME=VALUE, such as age=33")
        columns.append((name, typed(f"--column {name}", value, types.get(name, "BYTES"))))
    return columns


def _times(question: Question, users: int, types: Any) -> list[int] | None:
    if question.timestamp is None:
        return None
    if "timestamp" not in types:
        raise InvalidRequest(f"--timestamp {question.timestamp}: the model was trained without the query's time")
    return [question.timestamp] * users


def _watched(question: Question, types: Any) -> list[tuple[Any, int]]:
    now = int(time.time()) if question.timestamp is None else question.timestamp
    clicks = []
    for text in question.watched:
        item, at, seconds = text.rpartition("@")
        # An id may hold an @ itself: what follows the last one is a time only if it is a number.
        dated = bool(at) and seconds.isdecimal()
        option = f"--watched {text}"
        item_id = typed(option, item if dated else text, types.get("exclude_item_ids", "INT64"))
        clicks.append((item_id, typed(option, seconds, "INT64") if dated else now))
    return clicks


def typed(option: str, text: str, data_type: str) -> Any:
    """Return what an option's text says, as the Triton data type wants it; raise InvalidRequest naming the option."""
    kind: Any = int if data_type in _INTEGER else float if data_type in _FLOAT else str
    try:
        return kind(text)
    except ValueError:
        expected = "an integer" if kind is int else "a number"
        raise InvalidRequest(f"{option} {text}: the model takes {expected} here ({data_type})") from None


def parse_time(text: str) -> int | Literal["last"]:
    """Return `last`, or seconds since 1970; raise RecipeError for anything else."""
    if text == "last":
        return "last"
    if text == "now":
        return int(time.time())
    if text.isdecimal():
        return int(text)
    raise RecipeError(f"--timestamp {text}: expected now, last, or seconds since 1970 such as 893286638")
