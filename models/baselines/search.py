"""Which settings a peer is fitted with: those that find most validation rows."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple, TypeVar

from models.baselines.als import Als
from models.baselines.baseline import Peer
from models.baselines.ease import Ease
from models.baselines.item_knn import ItemKnn, RecentItemKnn
from models.baselines.popularity import Popularity
from models.baselines.task import Task
from models.evaluation.config import PeerName
from models.metrics import Ranking
from workflows.progress import Progress, silent

CHOSEN_BY: Final = "recall@10"
"""Of unseen items, on validation rows."""
VALIDATION_ROWS: Final = 20_000
"""At most about so many of them decide."""

Some = TypeVar("Some", bound=Peer)
Grid = Mapping[str, Sequence[float]]
"""Values of each setting, ascending."""


class Family(NamedTuple):
    """A kind of peer: what it is called, and the settings that are tried."""

    title: str
    start: Any
    """The peer, a dataclass, that the search starts from."""
    grid: Grid


_KNN: Final[Grid] = {
    "neighbours": (5, 10, 20, 50, 100, 200, 500),
    "shrinkage": (0, 3, 10, 30, 100, 300),
    "user_exponent": (0, 0.25, 0.5, 0.75),
}
FAMILIES: Final[Mapping[PeerName, Family]] = {
    "popularity": Family("popularity", Popularity(), {}),
    "knn": Family("item KNN", ItemKnn(), _KNN),
    "recent-knn": Family(
        "recent item KNN", RecentItemKnn(), {"decay": (0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99), **_KNN}
    ),
    "ease": Family("EASE", Ease(200), {"l2": (5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)}),
    "als": Family(
        "ALS",
        Als(),
        {
            "regularization": (0.1, 0.3, 1, 3, 10, 30, 100, 200),
            "alpha": (0.5, 1, 2, 5, 10, 20, 40),
            "factors": (16, 32, 64, 128, 256, 512),
            "item_exponent": (0, 0.25, 0.5, 0.75),
        },
    ),
}


class Searched(NamedTuple):
    """What a search found."""

    peer: Peer
    tried: list[dict[str, Any]]
    """The settings, in order, each with its figure on the validation rows."""
    seconds: float
    complete: bool
    """Whether no neighbouring settings are better; False where the time was up first."""


class Fitted(NamedTuple):
    """A peer fitted with its best settings, and how well it does."""

    searched: Searched
    rankings: dict[str, Ranking]
    """Of the test rows."""
    fit_seconds: float
    """Of the last fit alone, on training and validation rows."""


def fit_best(
    family: Family, valid: Task, test: Task, seconds: float, seed: int = 0, progress: Progress = silent
) -> Fitted:
    """Choose settings on validation rows, in about so many seconds; fit those on all known rows, rank the test rows.

    Raises
    ------
    Refused
        It cannot be fitted here.
    """
    searched = search(family, valid.sample(VALIDATION_ROWS, seed), seconds, progress)
    start = time.perf_counter()
    progress(f"{family.title}: fitting {_shown(searched.peer)} on training and validation rows")
    scores = test.fit(searched.peer)
    fitted = time.perf_counter()
    return Fitted(searched, test.rank(scores, coverage=False, progress=progress), fitted - start)


def search(family: Family, valid: Task, seconds: float, progress: Progress = silent) -> Searched:
    """Climb from the family's start to settings whose neighbours on the grid, one setting at a time, are no better.

    No fit begins that would, by the time of the slowest so far, end after so many seconds.
    """
    begun, slowest, figures = time.perf_counter(), 0.0, dict[Peer, float]()

    def figure(peer: Peer) -> float:
        nonlocal slowest
        if peer not in figures:
            start = time.perf_counter()
            if figures and start - begun + slowest > seconds:
                raise TimeoutError
            figures[peer] = _figure(peer, valid)
            took = time.perf_counter() - start
            slowest = max(slowest, took)
            progress(f"{family.title}: {_shown(peer)}: validation {CHOSEN_BY} {figures[peer]:.4f}, {took:.1f} s")
        return figures[peer]

    complete = _climb(family, figure) if family.grid else True
    best = max(figures, key=lambda peer: figures[peer]) if figures else family.start
    if not complete:
        progress(f"{family.title}: {seconds:g} s were up after {len(figures)} settings")
    tried = [{**peer.settings(), CHOSEN_BY: value} for peer, value in figures.items()]
    return Searched(best, tried, time.perf_counter() - begun, complete)


def best_of(peers: Sequence[Some], title: str, valid: Task, progress: Progress) -> Some:
    """Return the one of these peers that finds most validation rows; raise Refused where one cannot be fitted here."""
    tried: dict[Some, float] = {}
    for peer in peers:
        tried[peer] = _figure(peer, valid)
        progress(f"{title}: {_shown(peer)}: validation {CHOSEN_BY} {tried[peer]:.4f}")
    return max(tried, key=lambda peer: tried[peer])


def _figure(peer: Peer, valid: Task) -> float:
    return valid.rank(valid.fit(peer), coverage=False)["unseen"].metrics()[CHOSEN_BY]


def _climb(family: Family, figure: Any) -> bool:
    """Try settings until no neighbour is better; return False where the time was up before."""
    best, moved = family.start, True
    try:
        figure(best)
        while moved:
            moved = False
            for setting, values in family.grid.items():
                better = _along(best, setting, values, figure)
                moved, best = moved or better != best, better
    except TimeoutError:
        return False
    return True


def _along(best: Any, setting: str, values: Sequence[float], figure: Any) -> Any:
    """Return the best peer along one setting: up from where it is while that helps, else down."""
    at = values.index(getattr(best, setting))
    for step in (1, -1):
        place, moved = at, False
        while 0 <= place + step < len(values):
            following = replace(best, **{setting: values[place + step]})
            if figure(following) <= figure(best):
                break
            best, place, moved = following, place + step, True
        if moved:
            break
    return best


def _shown(peer: Peer) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in peer.settings().items()) or "it"
