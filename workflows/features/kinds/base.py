"""What every kind of feature is: a section of the recipe that knows what becomes of it on the way to the towers.

A kind is a class in a file of its own. `ensemble/serving/query/kinds` has a file of the same name for how it is served.
A recipe is read without Merlin, which takes seconds to import: a method that needs NVTabular imports it itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Literal, NamedTuple, Protocol

import numpy as np
from msgspec import Meta

from workflows.columns import Columns
from workflows.section import Section

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt
    import pandas as pd

    from workflows.features.pretrained import Pretrained
    from workflows.fitting.learned import Learned

Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_-]*$")]
Form = Literal["categorical", "continuous", "list", "weighted-list", "vector"]
"""`FeatureSpec.kind`: one code, one number, a list of codes, such a list with weights, several numbers."""
Compiled = tuple[str, dict[str, Any]]
"""An operator of the compiled transform and its parameters, without inputs and output."""
Unfit = Callable[["pd.Series"], "npt.NDArray[np.bool_]"]
"""Finds the values of a column, bool `[n]`, that a feature would not be finite in float32 for."""
Rule = tuple[bool, str]
"""Whether options exclude each other, and why."""

NUMBERS: Final = ("integers", "floats")
VALUES: Final = ("integers", "strings", "floats (whole numbers)")
"""Values that are told apart one by one."""
LISTS: Final = ("lists of strings", "lists of integers")
VECTORS: Final = ("lists of floats", "lists of integers")
"""Lists of numbers to compute with."""


class Sources(NamedTuple):
    """What the graph of a kind is made with besides its columns."""

    scratch: str
    """A directory of this workflow alone for vocabularies: NVTabular caches them by path."""
    tables: Mapping[str, Any]
    """The table of each aggregate, by feature."""


class Known(Protocol):
    """What is known of raw columns before anything is fitted."""

    def distinct(self, column: str, derive: Callable[[Any], Any] | None = None, most: int | None = None) -> int:
        """Return how many distinct values a column has, or things that `derive` makes of it; at most `most`."""

    def width(self, column: str) -> int:
        """Return how many numbers a vector of a column has."""


class Kind(Section, frozen=True, kw_only=True):
    """Base of all kinds."""

    example: ClassVar[str] = ""
    """Lines of a recipe, for the reference."""

    def needs_time(self, column: str) -> bool:
        """Return whether it makes use of the time of the interactions."""
        raise NotImplementedError

    def columns(self, column: str) -> tuple[str, ...]:
        """Return the raw columns that it reads, those of lists before their weights."""
        return (column,)

    def unfit(self, column: str) -> dict[str, Unfit]:
        """Return the columns of numbers that it reads, each with the check of its values."""
        return {}

    @property
    def learns_every_value(self) -> bool:
        """Return whether each value, however rare, gets an embedding of its own."""
        return False

    def located(self, at: Callable[[str], str]) -> Any:
        """Return it with the paths of its files as `at` makes them of those in the recipe."""
        return self

    def files(self) -> tuple[str, ...]:
        """Return the files that it is made from besides the tables."""
        return ()


class ColumnKind(Kind, frozen=True, kw_only=True):
    """Base of the kinds that are made of raw columns by NVTabular, `column` being the recipe's key."""

    name: Name | None = None
    """What the feature is called; else as its column, or `<column>_<kind>` where a column has several."""

    def accepts(self, column: str) -> tuple[str, ...]:
        """Return the types of column, in words, that it can read in this place."""
        return NUMBERS

    def needs_time(self, column: str) -> bool:
        return Columns.Timestamp in self.columns(column)

    def rules(self) -> list[Rule]:
        """Return which of its options exclude each other."""
        return []

    @property
    def suffix(self) -> str:
        """Return what tells it from the other features of its column."""
        return str(self.__struct_config__.tag).replace("-", "_")

    def outputs(self, name: str) -> tuple[str, ...]:
        """Return the names of the arrays that it consists of."""
        return (name,)

    @property
    def form(self) -> Form:
        """Return what it looks like to a tower."""
        return "categorical"

    @property
    def width(self) -> int | None:
        """Return the width of its arrays, 0 for scalars, None where the column's vectors say it."""
        return 0

    @property
    def shared(self) -> str:
        """Return the vocabulary that it has in common with other features; "" for its own."""
        return ""

    @property
    def is_hashed(self) -> bool:
        """Return whether every value is hashed: there is no vocabulary."""
        return False

    @property
    def keeps_dictionaries(self) -> bool:
        """Return whether text is only looked up, for which each distinct value once will do."""
        return False

    def pretrained(self) -> Pretrained | None:
        """Return the vectors that its embedding table starts from, if there are some."""
        return None

    @property
    def trains_table(self) -> bool:
        """Return whether training changes its embedding table."""
        return True

    def chain(self, entry: Planned, sources: Sources) -> Any:
        """Return its NVTabular graph, from raw columns in canonical form to columns of the names of its arrays."""
        raise NotImplementedError

    def codes(self, learned: Learned, output: str) -> int:
        """Return how many codes it has once it is fitted, those of padding, null and unseen left aside."""
        raise NotImplementedError

    def foretold_codes(self, known: Known, column: str) -> int:
        """Return how many codes it will have, before it is fitted."""
        raise NotImplementedError

    def compiled(self, learned: Learned, output: str) -> Compiled:
        """Return what its served form does; a vocabulary and a table are named later, and are "" until then."""
        raise NotImplementedError


class Planned(NamedTuple):
    """One feature of the recipe: `output` is made as `feature` says."""

    output: str
    column: str
    """The recipe's key: a raw column, or the name of a cross."""
    feature: ColumnKind

    @property
    def kind(self) -> str:
        """Return the feature's `kind` in the recipe."""
        return str(self.feature.__struct_config__.tag)

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the raw columns that it reads."""
        return self.feature.columns(self.column)

    @property
    def arrays(self) -> tuple[str, ...]:
        """Return the names of the arrays that it consists of."""
        return self.feature.outputs(self.output)

    @property
    def is_numbers(self) -> bool:
        """Return whether it is made of numbers alone, float32, and has no codes."""
        return self.feature.form in ("continuous", "vector")


def named(entry: Planned) -> Any:
    """Return the column under the feature's name, so that statistics and vocabularies are found under it, too."""
    from nvtabular.ops import Rename

    return [entry.column] >> Rename(name=entry.output)


def given(**options: Any) -> dict[str, Any]:
    """Return the options that are not None or False."""
    return {name: value for name, value in options.items() if value is not None and value is not False}


def unfit_lists(values: pd.Series, nan: bool) -> npt.NDArray[np.bool_]:
    """Return which lists of numbers hold an infinity in float32, or, where `nan` says so, a NaN; bool `[n]`."""

    def is_unfit(entries: Any) -> bool:
        if not isinstance(entries, (list, tuple, np.ndarray)) or any(isinstance(entry, str) for entry in entries):
            return False
        with np.errstate(over="ignore"):
            numbers = np.array([np.nan if entry is None else entry for entry in entries], np.float64)
            numbers = numbers.astype(np.float32)
        return bool((np.isinf(numbers) | (np.isnan(numbers) & nan)).any())

    return np.fromiter(map(is_unfit, values), dtype=bool, count=len(values))


def rising(edges: tuple[float, ...]) -> bool:
    """Return whether bucket edges are finite, rise strictly, and are there."""
    return len(edges) > 0 and bool(np.all(np.diff(edges) > 0)) and bool(np.isfinite(edges).all())
