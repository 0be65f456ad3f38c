"""The view of a user: who they are, what they did, what they are answered, and what simple models would answer."""

from __future__ import annotations

import time
from collections.abc import Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ensemble.client.tensors import ClientError, InvalidRequest, Recommendations
from ensemble.serving.errors import ServingError
from retrieval.explore.loaded.explored import Explored
from retrieval.explore.loaded.items import Shown
from retrieval.explore.request.answers import InProcess
from retrieval.explore.request.form import Asked, Fields, asked, written
from retrieval.explore.request.snippets import HERE, snippets
from retrieval.explore.request.why import Why, why
from retrieval.explore.views.timeline import timeline

if TYPE_CHECKING:
    from ensemble.client import RetrievalClient

HISTORY_SHOWN, USERS_SHOWN = 60, 30


class Answered(NamedTuple):
    """An item of an answer."""

    item: Shown
    score: float | None
    in_test: bool
    """In the user's test rows."""


class Column(NamedTuple):
    """What one model answers."""

    title: str
    items: list[Answered]
    problem: str = ""
    note: str = ""

    @property
    def hits(self) -> int:
        """Return how many of them the user chose in the test rows."""
        return sum(item.in_test for item in self.items)


def user_page(
    explored: Explored, answers: InProcess | RetrievalClient, fields: Fields, address: str | None
) -> dict[str, Any]:
    """Return what the page shows for the fields of its address; a wrong field is said in it."""
    page: dict[str, Any] = {"found": _found(explored, fields), "asked": None, "problem": "", "columns": []}
    page["clicks"] = _clicks(explored, fields)
    if not fields.get("user", ""):
        return page
    try:
        signature = answers.signature()
        question = asked(fields, explored, signature)
        page["asked"] = question
        page.update(_about(explored, question))
        query = question.query(explored)
        page["snippets"] = snippets(signature, query, address or HERE)
        started = time.perf_counter()
        [answer] = answers.ask(query)
        page["milliseconds"] = 1e3 * (time.perf_counter() - started)
        page.update(_answer(explored, question, answer))
        page["why"] = _why(explored, fields, question)
    except (ServingError, ClientError) as error:
        page["problem"] = str(error)
        page["retry"] = isinstance(error, ClientError) and not isinstance(error, InvalidRequest)
    return page


def find_users(explored: Explored, text: str) -> list[int]:
    """Return the rows of users whose id begins with `text`, or who have all the words in it, or NAME=VALUE, as
    attributes."""
    words = [word.casefold() for word in text.split()]
    columns = explored.all_attributes
    rows = (row for row in range(len(explored.user_ids)) if _fits(explored, columns, row, words))
    return list(islice(rows, USERS_SHOWN))


def _fits(explored: Explored, columns: Mapping[str, list[Any]], row: int, words: list[str]) -> bool:
    if len(words) == 1 and str(explored.user_ids[row]).casefold().startswith(words[0]):
        return True
    values = {name.casefold(): str(column[row]).casefold() for name, column in columns.items()}
    pairs = {f"{name}={value}" for name, value in values.items()} | set(values.values())
    return all(word in pairs for word in words)


def _found(explored: Explored, fields: Fields) -> list[tuple[Any, str, int]]:
    """Return users to choose from: id, attributes in words, and how much they did."""
    text = fields.get("q", "").strip()
    if not text and fields.get("user", ""):
        return []
    rows = find_users(explored, text) if text else [explored.user_row(user) for user in explored.example_users]
    counts = explored.counts()
    return [(explored.user_ids[row], in_words(explored.attributes(row)), int(counts[row])) for row in rows]


def in_words(attributes: Mapping[str, Any]) -> str:
    """Return attributes as one line of text."""
    told = [(name, value) for name, value in attributes.items() if value is not None and value != []]
    return " · ".join(f"{name} {_word(value)}" for name, value in told)


def _word(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(_word(inner) for inner in value[:5]) + (" …" if len(value) > 5 else "")
    return f"{value:g}" if isinstance(value, float) else str(value)


def _clicks(explored: Explored, fields: Fields) -> list[tuple[str, str]]:
    """Return the items that the form adds to the history, as they are written and in words."""
    kept = [text for text in fields.getlist("click") if text not in fields.getlist("drop")]
    rows = [explored.items.row_of_text(text) for text in kept]
    return [(text, explored.items.titles[row] if row >= 0 else text) for text, row in zip(kept, rows, strict=True)]


def _about(explored: Explored, question: Asked) -> dict[str, Any]:
    row = explored.user_row(question.user)
    past = explored.past(row)
    newest = list(zip(past.items[::-1].tolist(), past.seconds[::-1].tolist(), strict=True))[:HISTORY_SHOWN]
    return {
        "known": row >= 0,
        "attributes": explored.attributes(row) if row >= 0 else {},
        "count": len(past.items),
        "time": written(question.seconds),
        "seconds": question.seconds,
        "span": (int(past.seconds[0]), int(past.seconds[-1])) if len(past.items) > 1 else None,
        "timeline": timeline(past.seconds, question.seconds) if len(past.items) and explored.timed else "",
        "history": [
            (explored.items.shown(item), written(when)[:10] if explored.timed else "", when <= question.seconds)
            for item, when in newest
        ],
    }


def _answer(explored: Explored, question: Asked, answer: Recommendations) -> dict[str, Any]:
    test = explored.in_test(question.user)
    known = [(explored.items.row(item), score) for item, score in zip(answer.item_ids, answer.scores, strict=True)]
    items = [
        Answered(explored.items.shown(row), score, explored.items.ids[row] in test) for row, score in known if row >= 0
    ]
    strange = len(answer.item_ids) - len(items)
    note = "" if len(answer.item_ids) == question.top_k else f"{len(answer.item_ids)} items fit what is asked"
    if strange:
        note = f"{strange} answered items are not of this run: the server has another release, or a changed catalogue"
    columns = [Column("this model", items, note=note)]
    columns += [_peer(explored, name, rows, test) for name, rows in _peers(explored, question).items()]
    return {
        "columns": columns,
        "user_known": answer.user_known,
        "release": answer.release,
        "test_items": len(test),
    }


def _why(explored: Explored, fields: Fields, question: Asked) -> Why | None:
    """Explain the item that the form asks about; None where it asks about none that there is."""
    row = explored.items.row_of_text((fields.getlist("why") or [""])[-1])
    if row < 0:
        return None
    with explored.lock:
        return why(explored, question.query(explored), row, _profile(explored, question))


def _profile(explored: Explored, question: Asked) -> np.ndarray:
    """Return the rows of the items that the user has chosen up to the time that is asked for, and just now."""
    clicks = [row for row in map(explored.items.row, question.clicks) if row >= 0]
    past = explored.past(explored.user_row(question.user), question.seconds)
    return np.concatenate([past.items, np.array(clicks, np.int64)])


def _peer(explored: Explored, name: str, rows: list[int] | str, test: set[Any]) -> Column:
    if isinstance(rows, str):
        return Column(name, [], rows)
    items = [Answered(explored.items.shown(row), None, explored.items.ids[row] in test) for row in rows]
    return Column(name, items)


def _peers(explored: Explored, question: Asked) -> dict[str, Any]:
    """Ask the simple models the same: history up to the time, what is left out, and which items are allowed."""
    profile, had = _profile(explored, question), explored.past(explored.user_row(question.user)).items
    left_out = np.zeros(0, np.int64) if question.include_seen else np.concatenate([had, profile])
    [filtered] = explored.retriever.catalogue.filters.of_rows([question.filter.text()])
    allowed = None if filtered is None or filtered.mask is None else filtered.mask.bits
    return explored.peers.best(profile, left_out, allowed, question.top_k)
