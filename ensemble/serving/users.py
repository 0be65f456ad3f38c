"""What the release knows of its users: the raw query columns that a `user_id` alone resolves to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from .arrays import null_column, read_column, read_values, take
from .ids import IdTable
from .release import Release
from .transform import Column

USER = "user_id"


class Users:
    """The users table of a release."""

    def __init__(self, release: Release, inputs: Sequence[Mapping[str, object]]) -> None:
        """Read the columns of the table that the query transform takes; `inputs` as in its `transform.json`."""
        stored = {column["name"]: column for column in release.json("users/users.json")["columns"]}
        self._inputs = [(str(one["name"]), str(one["dtype"]), bool(one["list"])) for one in inputs]
        self._columns = {
            name: read_column(release, f"users/{name}", dtype, is_list)
            for name, dtype, is_list in self._inputs
            if name in stored and name != USER
        }
        self._ids = IdTable(read_values(release, f"users/{USER}", release.manifest["id_dtype"][USER]))

    def rows_of(self, user_ids: np.ndarray) -> np.ndarray:
        """Return the users' rows, int64 [n], -1 for an unknown user."""
        return self._ids.rows_of(user_ids)

    def complete(self, sent: Mapping[str, Column], rows: np.ndarray) -> dict[str, Column]:
        """Return every raw query column: as the request sent it, else as the release knows it, else null."""
        columns = {}
        for name, dtype, is_list in self._inputs:
            if name in sent:
                columns[name] = sent[name]
            elif name in self._columns:
                columns[name] = take(self._columns[name], rows, dtype)
            else:
                columns[name] = null_column(len(rows), dtype, is_list)
        return columns
