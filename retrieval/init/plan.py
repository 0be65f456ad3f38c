"""All that `retrieval init` decides about a recipe, each with its reason."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from retrieval.init.baskets import exploded
from retrieval.init.columns.features import Choice, choose, identity, renamed, title
from retrieval.init.columns.profile import Found, Given, Profile, Sampled, address, sample
from retrieval.init.columns.roles import find_roles
from retrieval.init.columns.words import WORDS, name_score
from retrieval.init.splits import given_split, proposed_split
from retrieval.init.times.timestamps import joined, not_read
from retrieval.recipes.toml import inline
from workflows.columns import Columns
from workflows.errors import DataError
from workflows.tables.config import UNITS


class Decided(NamedTuple):
    """What becomes of a column."""

    table: str
    column: str
    """As the file calls it."""
    name: str
    """As we call it."""
    becomes: str
    why: str
    choice: Choice | None
    """Its feature, None for columns that are none."""


@dataclass(frozen=True)
class Plan:
    """What the recipe will say."""

    tables: dict[str, Sampled]
    roles: dict[str, dict[str, Found]]
    decided: list[Decided]
    split: str
    split_why: str
    ignored: dict[str, list[str]] = field(default_factory=dict)
    parts: dict[str, str] = field(default_factory=dict)
    """Addresses of the parts of a given split, where they are files; the interactions are its training rows."""

    @property
    def timestamp(self) -> Found | None:
        """The column of times, if there is one."""
        return self.roles["interactions"].get(Columns.Timestamp)

    def of(self, table: str) -> list[Decided]:
        """Return what becomes of the columns of a table."""
        return [decision for decision in self.decided if decision.table == table]


def make_plan(
    paths: Mapping[str, str],
    given: Mapping[str, Mapping[str, str]],
    directory: Path,
    how: Mapping[str, Given] | None = None,
    unit: str | None = None,
    parts: Mapping[str, str] | None = None,
    split_column: str | None = None,
) -> Plan:
    """Read the tables at `paths` (interactions, and users and items if there are any) and decide.

    What the user says: `given` and `unit` as for `find_roles`; `how` each table is to be read; `parts`, files of the
    test and validation rows of a given split, of which the interactions are the training rows; `split_column`, which
    says the part of each row. Raise DataError where a table cannot be read, or no column can be the user or the item.
    """
    if unit is not None and not re.match(UNITS, unit):
        raise DataError(
            f"--timestamp-unit {unit}: expected days, seconds ..., excel, order, iso, or a pattern such as '%d/%m/%Y'"
        )
    said = how or {}
    tables = {table: sample(path, table, directory, said.get(table, Given())) for table, path in paths.items()}
    rows = said.get("interactions", Given()).rows
    tables["interactions"] = joined(exploded(tables["interactions"], given, rows), given, rows)
    roles = find_roles(tables, given, unit)
    decided: list[Decided] = []
    taken = {column.name for column in tables["interactions"].columns} | set(roles["interactions"])
    for table in tables:
        decided += _columns(tables[table], roles[table], taken)
    ignored = {
        table: [column.name for column in sampled.columns if choose(column).why.endswith("which tables cannot hold")]
        for table, sampled in tables.items()
    }
    named = {part: address(path, directory) for part, path in (parts or {}).items()}
    interactions = tables["interactions"]
    if named:
        named = {"train": interactions.file.path, **named}
        split, why = inline({"kind": "given", **named}), "as you say"
    else:
        split, why = given_split(interactions, split_column) or proposed_split(interactions, roles["interactions"])
    return Plan(tables, roles, decided, split, why, ignored, named)


def lines_of(plan: Plan) -> list[str]:
    """Say which columns of each table have a role and why, what cannot be read, and how rows are split."""
    roles_of = {table: [*plan.roles[table].values()] for table in plan.tables}
    tables = [
        f"{table}: " + "; ".join(f"{role.role} is {role.column.name!r} ({role.why})" for role in roles)
        for table, roles in roles_of.items()
    ]
    left_out = [
        f"{table}: left out, for tables cannot hold it: {name} ({plan.tables[table].column(name).dtype})"
        for table, names in plan.ignored.items()
        for name in names
    ]
    return [*tables, *left_out, f"split: {plan.split}: {plan.split_why}"]


def _columns(table: Sampled, roles: Mapping[str, Found], taken: set[str]) -> list[Decided]:
    by_column = {role.column.name: role for role in roles.values()}
    decided = []
    for column in table.columns:
        if column.name in by_column:
            decided.append(_role(by_column[column.name]))
        elif table.table == "interactions":
            decided.append(_of_interactions(column, roles))
        else:
            decided.append(_attribute(column, taken))
    # The id first, as a reader expects it.
    return sorted(decided, key=lambda decision: decision.name not in roles)


def _role(assigned: Found) -> Decided:
    column = assigned.column
    choice = None
    if assigned.role in (Columns.User, Columns.Item):
        choice = identity(column.distinct)
    elif assigned.role == Columns.Title:
        choice = title()
    return Decided(column.table, column.name, assigned.role, assigned.role, assigned.why, choice)


def _of_interactions(column: Profile, roles: Mapping[str, Found]) -> Decided:
    choice = choose(column)
    why = "is it known when the question is asked?" if choice.kind else choice.why
    if name_score(column.name, Columns.Timestamp) and Columns.Timestamp not in roles:
        why = not_read(column)
    elif name_score(column.name, Columns.Rating) and Columns.Rating not in roles and column.distinct > 1:
        lacking = f"{column.nulls / column.rows:.0%} of the rows have none and would be left out"
        why = f"called like a rating, but {lacking if column.nulls else f'{column.values.iloc[0]!r} is no number'}"
    name = f"{column.name}_column" if column.name in WORDS else column.name  # what is called so has a role
    return Decided(column.table, column.name, name, "left out", why, choice)


def _attribute(column: Profile, taken: set[str]) -> Decided:
    """`taken`: the names that others have; this one's is added."""
    name = renamed(column.name)
    if name in taken:
        name = f"{column.table.removesuffix('s')}_{name}"
    if name in taken:
        raise DataError(f"{column.table}: two columns would be called {name!r}; rename {column.name!r}")
    taken.add(name)
    choice = choose(column)
    return Decided(column.table, column.name, name, choice.kind or "left out", choice.why, choice)
