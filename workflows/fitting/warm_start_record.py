"""The earlier run that a warm start's features were fitted on: what must agree, and what is left on disk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import pandas as pd

from workflows.columns import Columns
from workflows.config import FeatureSide, Sequence
from workflows.errors import RecipeError
from workflows.features.files import read_rows
from workflows.features.plan import FIRST_ITEM, HISTORY, FeatureSpec, history_of, plan

Rows = npt.NDArray[np.int64]
UNSEEN: Final = 2
"""The code of a value that a vocabulary does not hold."""
AS_MADE: Final = -1
"""Instead of a row of the earlier table: the row starts as the table was made."""
GROWTH: Final = "growth"
_MAY_CHANGE: Final = ("min_frequency", "max_size", "max_tokens", "file", "ids")
_LAST: Final = "last.json"


class Earlier(NamedTuple):
    """The features of an earlier run."""

    directory: Path
    query: FeatureSide
    item: FeatureSide

    @property
    def run(self) -> Path:
        """Return the run's directory, for messages."""
        return self.directory.parent


class WarmStart(NamedTuple):
    """What training needs to go on from the towers of the earlier run."""

    rows: Mapping[str, Rows] = MappingProxyType({})
    """By feature with an embedding table: the row of the earlier table that each row starts from, or AS_MADE, int64
    [cardinality]. Codes that the earlier run had stand for themselves."""
    last: Mapping[str, int] = MappingProxyType({})
    """The time of the last row of the earlier run's `train` and `valid`, seconds since 1970."""


class _Specs(msgspec.Struct):
    """Of features.json."""

    query: list[FeatureSpec]
    item: list[FeatureSpec]


def check_same(side: FeatureSide, earlier: FeatureSide, section: str, run: Path) -> None:
    """Refuse features that the earlier run's towers do not fit.

    Raises
    ------
    RecipeError
        A feature is missing, new, in another place or made otherwise; names it and what differs.
    """
    ours, theirs = _features(side, section), _features(earlier, section)
    for name in [*ours, *theirs]:
        if (name in ours) != (name in theirs):
            which = "has no such feature" if name in ours else "has it and this recipe has not"
            raise RecipeError(f"[{section}] {name}: {run} {which}; {_REMEDY}")
    if list(ours) != list(theirs):
        raise RecipeError(f"[{section}]: the order of the features is {', '.join(theirs)} in {run}; {_REMEDY}")
    for name, feature in ours.items():
        for option, here, there in _differences(feature, theirs[name]):
            raise RecipeError(f"[{section}] {name}: {option} is {here!r}, and in {run} {there!r}; {_REMEDY}")


def check_specs(specs: list[FeatureSpec], earlier: list[FeatureSpec], run: Path) -> None:
    """Refuse features whose data have another shape than the earlier run's: wider vectors, say; raise RecipeError."""
    for ours, theirs in zip(specs, earlier, strict=True):
        for option in ("kind", "dtype", "max_length", "pretrained"):
            here, there = getattr(ours, option), getattr(theirs, option)
            if here != there:
                raise RecipeError(f"feature {ours.name!r}: {option} is {here!r}, and in {run} {there!r}; {_REMEDY}")


def rows_of_history(items: pd.Series, earlier: pd.Series) -> Rows:
    """Return the earlier rows of the history's table, int64 [items + 3], given the item ids of both catalogues.

    An item's row goes with its id, wherever the catalogue has it; a new item starts from the row of an unknown one.
    """
    places = pd.Index(earlier).get_indexer(pd.Index(items)).astype(np.int64)
    return np.concatenate([np.arange(FIRST_ITEM), np.where(places < 0, UNSEEN, places + FIRST_ITEM)])


def write_warm_start(
    rows: Mapping[str, Rows], specs: list[FeatureSpec], items: pd.DataFrame, earlier: Earlier, directory: Path
) -> None:
    """Write what features grew from, for `read_warm_start`, into their directory.

    `rows` are those of `WarmStart`, but the history's; `specs` the features of both sides, the query's first; `items`
    the catalogue, in the order of `item_index`.

    Raises
    ------
    RecipeError
        A feature is not what it was in the earlier run (`check_specs`).
    """
    then = msgspec.json.decode((earlier.directory / "features.json").read_bytes(), type=_Specs)
    check_specs(specs, [*then.query, *then.item], earlier.run)
    out = directory / GROWTH
    out.mkdir()
    if any(spec.kind == "sequence" for spec in specs):
        before = pd.read_parquet(earlier.directory / "catalogue.parquet", columns=[Columns.Item])
        rows = {**rows, HISTORY: rows_of_history(items[Columns.Item], before[Columns.Item])}
    for name, values in rows.items():
        np.save(out / f"{name}.npy", values)
    times = {name: read_rows(earlier.directory / name, [Columns.Timestamp]) for name in ("train", "valid")}
    last = {name: int(rows[Columns.Timestamp].max()) for name, rows in times.items()}
    (out / _LAST).write_bytes(msgspec.json.encode(last))


def read_warm_start(directory: Path) -> WarmStart | None:
    """Return what the features go on from, None where they were fitted from zero; raise OSError or ValueError."""
    out = directory / GROWTH
    if not out.exists():
        return None
    rows = {path.stem: np.load(path, allow_pickle=False) for path in sorted(out.glob("*.npy"))}
    return WarmStart(rows, msgspec.json.decode((out / _LAST).read_bytes(), type=dict[str, int]))


_REMEDY: Final = (
    f"to go on from a run its features must stay, but for {', '.join(_MAY_CHANGE)}; without --from training starts "
    "from zero"
)


def _features(side: FeatureSide, section: str) -> dict[str, Any]:
    """Return every feature of a side by its name, in the order in which a tower has them."""
    history = history_of(side)
    named: dict[str, Any] = {entry.output: entry.feature for entry in plan(side, section)}
    return {**named, HISTORY: history} if history else named


def _differences(ours: Any, theirs: Any) -> Iterator[tuple[str, Any, Any]]:
    if type(ours) is not type(theirs):
        yield "kind", ours.__struct_config__.tag, theirs.__struct_config__.tag
        return
    if not isinstance(ours, Sequence) and ours.is_hashed != theirs.is_hashed:
        yield "max_size", ours.max_size, theirs.max_size
    for option in ours.__struct_fields__:
        here, there = getattr(ours, option), getattr(theirs, option)
        if here != there and option not in _MAY_CHANGE:
            yield option, here, there
