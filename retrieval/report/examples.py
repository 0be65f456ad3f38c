"""Recommendations of a few users beside what they liked: what the demo prints and the report shows."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ensemble.release.item_columns import items_of
from ensemble.serving.files.release import Release
from retrieval.explore.loaded.items import titled
from retrieval.explore.views.map import categories
from retrieval.report.tables import Example, Item
from retrieval.runs.places import release_of
from workflows.columns import Columns

Ask = Callable[[Sequence[Any], int, Sequence[int]], "list[list[tuple[Any, float]]]"]
"""Users, top_k and each user's time, seconds since 1970 -> for each user the (item id, score) pairs, best first."""

LIKED = 4.0
"""A rating from here on says that the user liked the item, where ratings go that far; else those above the middle."""
FACTS = 3
"""So many columns of a user are told, the first that there are."""
ENOUGH_LIKED = 10
"""An example user has liked at least this many training items."""


class Catalogue:
    """Titles and genres by item id."""

    def __init__(self, items: pd.DataFrame) -> None:
        self._rows: dict[int | str, Any] = {row[Columns.Item]: row for row in items.to_dict("records")}

    @classmethod
    def of(cls, run: Path) -> Catalogue:
        """Read the items of a run, or of another place of a release."""
        place = run / "features" / "catalogue.parquet"
        return cls(pd.read_parquet(place) if place.is_file() else items_of(Release.open(release_of(run))))

    def item(self, item_id: int | str, score: float | None = None, held_out: bool = False) -> Item:
        """Describe an item; one that is not in the catalogue is described by its id."""
        row = self._rows.get(item_id, {})
        title = titled(row.get(Columns.Title), item_id, row.get("year"))
        return Item(item_id, title, ", ".join(categories(row.get("genres"))), score, held_out)


def examples(run: Path, ask: Ask, users: Sequence[int | str], top_k: int = 10) -> list[Example]:
    """Ask for the users' recommendations and set them beside what they liked in the training and validation rows.

    Each is asked for as of the user's last such row: a model of time would make little of the years since.
    """
    catalogue = Catalogue.of(run)
    had = pd.concat([_interactions(run, part) for part in ("train", "valid")], ignore_index=True)
    test, liking, rated = _interactions(run, "test"), _liking(had), _is_rated(had)
    facts = pd.read_parquet(run / "features" / "users.parquet").set_index(Columns.User)
    last: list[int] = had.groupby(Columns.User)[Columns.Timestamp].max().reindex(list(users), fill_value=0).tolist()
    shown = []
    for user, answer in zip(users, ask(users, top_k, last), strict=True):
        held_out = set(test.loc[test[Columns.User] == user, Columns.Item])
        liked = _liked(had[had[Columns.User] == user], catalogue, top_k, liking, rated)
        served = [catalogue.item(item, score, item in held_out) for item, score in answer]
        shown.append(Example(user, _facts(facts, user), liked, served))
    return shown


def pick_users(run: Path, count: int, seed: int = 42) -> list[int | str]:
    """Return users with something to compare: enough liked training items, and test rows. The same ones every time.

    Where there are too few of them, those of the test rows who liked the most.
    """
    train, test = _interactions(run, "train"), _interactions(run, "test")
    liked = train[train[Columns.Rating] >= _liking(train)].groupby(Columns.User).size()
    counts = liked.reindex(pd.Index(test[Columns.User].unique(), name=Columns.User).sort_values(), fill_value=0)
    able = counts[counts >= ENOUGH_LIKED].index
    if len(able) < count:
        able = counts.sort_values(ascending=False, kind="stable").index[:count].sort_values()
    chosen = np.random.default_rng(seed).permutation(len(able))[:count]
    users: list[int | str] = able[np.sort(chosen)].tolist()
    return users


def any_user(source: Path) -> str:
    """Return a user that a shell command can ask for, quoted; `ID` where there is no release to know one from."""
    samples = release_of(source) / "selftest.json"
    return shlex.quote(str(json.loads(samples.read_bytes())["user_ids"][0])) if samples.is_file() else "ID"


def from_release(release: Path) -> Ask:
    """Return what asks the release in this process, without a server."""
    from ensemble.serving.retriever import Retriever

    retriever = Retriever.load(release)
    id_type: type = object if retriever.release.manifest["id_dtype"]["user_id"] == "string" else np.int64

    def ask(users: Sequence[Any], top_k: int, times: Sequence[int]) -> list[list[tuple[Any, float]]]:
        ids: np.ndarray = np.array(users, dtype=id_type).reshape(-1, 1)
        inputs = {
            "user_id": ids,
            "top_k": np.full(ids.shape, top_k, np.int32),
            "timestamp": np.array(times, dtype=np.int64).reshape(-1, 1),
        }
        answer = retriever.answer(retriever.reader.read([inputs]))
        rows = zip(answer.item_id.tolist(), answer.score.tolist(), answer.count.tolist(), strict=True)
        return [list(zip(items[:count], scores[:count], strict=True)) for items, scores, count in rows]

    return ask


def _is_rated(rows: pd.DataFrame) -> bool:
    """Return whether there are ratings: without any, all rows have the same."""
    return bool(rows[Columns.Rating].nunique() > 1)


def _liking(rows: pd.DataFrame) -> float:
    """Return the rating from which on it says that the user liked the item."""
    ratings = rows[Columns.Rating]
    return LIKED if (ratings >= LIKED).any() else float(ratings.median())


def _interactions(run: Path, part: str) -> pd.DataFrame:
    from workflows.features.files import read_rows

    return read_rows(run / "features" / part)


def _liked(rows: pd.DataFrame, catalogue: Catalogue, count: int, liking: float, rated: bool) -> list[Item]:
    best = rows.sort_values([Columns.Rating, Columns.Timestamp], ascending=False, kind="stable")
    best = best[best[Columns.Rating] >= liking].head(count)
    return [
        catalogue.item(item, float(rating) if rated else None)
        for item, rating in zip(best[Columns.Item], best[Columns.Rating], strict=True)
    ]


def _facts(users: pd.DataFrame, user: int | str) -> str:
    if user not in users.index:
        return ""
    row = users.loc[user]
    told = [
        column for column in users.columns if not isinstance(row[column], (list, np.ndarray)) and pd.notna(row[column])
    ]
    return ", ".join(f"{column} {_plain(row[column])}" for column in told[:FACTS])


def _plain(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value
