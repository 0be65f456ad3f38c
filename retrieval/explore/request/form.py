"""The user view's form: the fields of the address to a query, and what the form shows of them."""

from __future__ import annotations

import calendar
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from ensemble.client.filters import Crowding, Filter, Range, TagTest
from ensemble.client.tensors import InvalidRequest, Query, Signature
from retrieval.explore.loaded.explored import Explored
from retrieval.queries.query import typed

if TYPE_CHECKING:
    from werkzeug.datastructures import MultiDict

TOP_K, MOST_SHOWN = 10, 200
_TIME = "%Y-%m-%dT%H:%M:%S"


class Given(dict[str, str]):
    """Fields that no browser sent: the report's, as werkzeug's `MultiDict` has them."""

    def getlist(self, key: str) -> Sequence[str]:
        """Return a field as the only value there is of it."""
        return [self[key]] if key in self else []


Fields: TypeAlias = "Given | MultiDict[str, str]"


@dataclass(frozen=True)
class Asked:
    """What the form asks, checked and typed."""

    user: Any
    top_k: int
    include_seen: bool
    seconds: int
    """When it is asked, since 1970."""
    clicks: tuple[Any, ...]
    """Items of a history that might be: the newest, in order."""
    columns: Mapping[str, Any]
    """Query columns in place of what the release knows of the user."""
    filter: Filter

    def query(self, explored: Explored) -> Query:
        """Return the request."""
        return Query(
            [self.user],
            self.top_k,
            [list(self.clicks)] if self.clicks and not explored.takes_history else None,
            self.include_seen,
            {name: [value] for name, value in self.columns.items()},
            [self.seconds] if explored.dated else None,
            [[(item, self.seconds) for item in self.clicks]] if self.clicks and explored.takes_history else None,
            [self.filter] if self.filter.text() else None,
        )


def asked(fields: Fields, explored: Explored, signature: Signature) -> Asked:
    """Read the form of a user who was chosen; raise InvalidRequest naming the field that is wrong."""
    types = signature.inputs
    item_type = types.get("exclude_item_ids", "INT64")
    user = _id("user", fields.get("user", ""), types["user_id"])
    drop = fields.getlist("drop")
    return Asked(
        user,
        _whole("top-k", fields.get("top_k", "") or str(TOP_K), MOST_SHOWN),
        fields.get("seen", "") == "on",
        _seconds(fields.get("time", ""), explored, user),
        tuple(_id("history", item, item_type) for item in fields.getlist("click") if item not in drop),
        _columns(fields, types, explored),
        _filter(fields, explored, item_type),
    )


def written(seconds: int) -> str:
    """Return a time as a form writes it, UTC."""
    return time.strftime(_TIME, time.gmtime(seconds))


def _columns(fields: Fields, types: Mapping[str, str], explored: Explored) -> dict[str, Any]:
    lists = {column["name"] for column in explored.retriever.transform.inputs if column["list"]}
    names = [name for name in explored.all_attributes if name in types and name not in lists]
    texts = {name: fields.get(f"col.{name}", "").strip() for name in names}
    return {name: typed(name, text, types[name]) for name, text in texts.items() if text}


def _filter(fields: Fields, explored: Explored, item_type: str) -> Filter:
    tags = {name: _tags(fields, name) for name in explored.items.tags}
    ranges = {
        name: Range(_number(fields, "min", name), _number(fields, "max", name)) for name in explored.items.numbers
    }
    limit = fields.get("crowding", "").strip()
    name = fields.get("crowding_by", "")
    allowed = _ids(fields, "allow", item_type)
    return Filter(
        allow=allowed or None,
        deny=_ids(fields, "deny", item_type),
        tags={name: test for name, test in tags.items() if test.document()},
        ranges={name: bounds for name, bounds in ranges.items() if bounds.document()},
        crowding=Crowding(name, _whole(f"at most, by {name}", limit, 10_000)) if limit and name else None,
        min_score=_number(fields, "min_score"),
    )


def _tags(fields: Fields, name: str) -> TagTest:
    tests = {test: [tag for tag in fields.getlist(f"{test}.{name}") if tag.strip()] for test in ("any", "none")}
    return TagTest(any=tests["any"], none=tests["none"])


def _ids(fields: Fields, name: str, item_type: str) -> Sequence[Any]:
    texts = fields.get(name, "").replace(",", " ").split() if item_type != "BYTES" else fields.get(name, "").split(",")
    return [_id(name, text.strip(), item_type) for text in texts if text.strip()]


def _number(fields: Fields, *names: str) -> float | None:
    text = fields.get(".".join(names), "").strip()
    if not text:
        return None
    value = float(typed(" ".join(names), text, "FP64"))
    if not math.isfinite(value):
        raise InvalidRequest(f"{' '.join(names)}: got {text}, expected a finite number")
    return value


def _whole(name: str, text: str, most: int) -> int:
    number = whole_number(text)
    if number is None or not 1 <= number <= most:
        raise InvalidRequest(f"{name}: got {text[:40]}, expected a whole number from 1 to {most}")
    return number


def whole_number(text: str) -> int | None:
    """Return a number of at most 18 digits; None for any other text."""
    return int(text) if text.isdecimal() and len(text) <= 18 else None


def _id(name: str, text: str, data_type: str) -> Any:
    """Return an id; raise InvalidRequest where it is none of the model's type."""
    value = typed(name, text, data_type)
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise InvalidRequest(f"{name} {text[:40]}: the model takes 64-bit integers here")
    return value


def _seconds(text: str, explored: Explored, user: Any) -> int:
    """Return the time of the form: without one, that of the user's newest interaction, else now."""
    if text == "now":
        return int(time.time())
    if text:
        return _parsed(text)
    past = explored.past(explored.user_row(user)).seconds
    return int(past[-1]) if len(past) else int(time.time())


def _parsed(text: str) -> int:
    for form in (_TIME, "%Y-%m-%dT%H:%M"):
        try:
            return calendar.timegm(time.strptime(text, form))
        except ValueError:
            continue
    raise InvalidRequest(f"time: got {text}, expected such as 1998-04-23T18:24:46")
