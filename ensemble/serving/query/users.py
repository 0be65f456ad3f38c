"""The raw query columns and precomputed features of known users, looked up by `user_id`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InvalidRelease
from ..files.arrays import null_column, read_column, read_ids, take
from ..files.parameters import Fields, shown
from ..files.release import Release, Sealed
from ..files.schema import MOST_ROWS, Schema, choice, integer, list_of, taken
from .sequence import TIME
from .transform import Column

USER = "user_id"
READY = "users/features/{:02d}.npy"
"""A feature of every user, by its place in the `features` of `users.json`."""
FILE = "users/users.json"
SCHEMA: Schema = {
    "rows": integer(0, MOST_ROWS),
    "columns": list_of({"name": Fields.name, "dtype": choice("int64", "float64", "string"), "list": Fields.flag}),
    "features": lambda fields, key: fields.texts(key, 0),
}
_KNOWING = frozenset((USER, TIME))
"""What a request may say that changes nothing of what the release knows of a user."""


class Users:
    """The users table of a release."""

    def __init__(self, release: Sealed, inputs: Sequence[Mapping[str, object]]) -> None:
        """Read the columns that the query transform takes; `inputs` as in its `transform.json`."""
        stated = taken(release.fields(FILE), SCHEMA)
        stored = {column["name"] for column in stated["columns"]}
        self._inputs = [(str(column["name"]), str(column["dtype"]), bool(column["list"])) for column in inputs]
        self._ids = read_ids(release, f"users/{USER}", release.manifest["id_dtype"][USER])
        self._columns = {
            name: read_column(release, f"users/{name}", dtype, is_list, self._ids.size)
            for name, dtype, is_list in self._inputs
            if name in stored and name != USER
        }
        self._root = release.path
        names = enumerate(stated["features"])
        self._ready = [(name, _read_ready(release, READY.format(place))) for place, name in names]
        """Name and values, [users] or [users, max_length], of the precomputed features."""

    def check(
        self, users: int, lasting: Sequence[str], outputs: Sequence[Mapping[str, Any]], codes: Mapping[str, int]
    ) -> None:
        """Raise InvalidRelease unless there are `users` users, with their `lasting` features in the declared shape.

        `codes`: the number of codes of each feature that is a code.
        """
        if self._ids.size != users or [name for name, _ in self._ready] != list(lasting):
            raise InvalidRelease(f"{self._root}/users: not of {users} users with the features {', '.join(lasting)}")
        features = {spec["name"]: ((spec["max_length"],) * spec["list"], np.dtype(spec["dtype"])) for spec in outputs}
        for number, (name, values) in enumerate(self._ready):
            if values.shape != (users, *features[name][0]) or values.dtype != features[name][1]:
                raise InvalidRelease(
                    f"{self._root / READY.format(number)}: {values.dtype} {values.shape}, expected {features[name][1]} "
                    f"{(users, *features[name][0])}"
                )
            _check_values(self._root / READY.format(number), name, values, codes.get(name))

    def rows_of(self, user_ids: np.ndarray) -> np.ndarray:
        """Return the users' rows, int64 [n], -1 for an unknown user."""
        return self._ids.rows_of(user_ids)

    def ready(self, sent: Mapping[str, Column], rows: np.ndarray) -> dict[str, np.ndarray] | None:
        """Return the precomputed, time-independent features, [n] or [n, max_length].

        None if there are none, a row is no known user, or the request overrides a column.
        """
        if not self._ready or not sent.keys() <= _KNOWING:
            return None
        if len(rows) == 1:
            row = int(rows[0])
            return None if row < 0 else {name: values[row : row + 1] for name, values in self._ready}
        if np.minimum.reduce(rows) < 0:
            return None
        return {name: values.take(rows, axis=0) for name, values in self._ready}

    def complete(
        self, sent: Mapping[str, Column], rows: np.ndarray, names: Collection[str] | None = None
    ) -> dict[str, Column]:
        """Return the raw query columns `names` (None: all), from the request, else from the release, else null."""
        columns = {}
        for name, dtype, is_list in self._inputs:
            if names is not None and name not in names:
                continue
            if name in sent:
                columns[name] = sent[name]
            elif name in self._columns:
                columns[name] = take(self._columns[name], rows, dtype)
            else:
                columns[name] = null_column(len(rows), dtype, is_list)
        return columns


def stated_users(release: Release, inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Mapping[str, Any]]) -> None:
    """Raise InvalidRelease, naming the field, unless `users.json` fits the manifest and the transform."""
    fields = release.fields(FILE)
    stated = taken(fields, SCHEMA)
    if stated["rows"] != (users := release.manifest["counts"]["users"]):
        raise fields.error(f"rows is {stated['rows']}, the manifest counts {users} users")
    output_names = [feature["name"] for feature in outputs]
    for key, known, of in (("columns", list(inputs), "inputs"), ("features", output_names, "outputs")):
        for entry in stated[key]:
            if entry not in known or stated[key].count(entry) > 1:
                raise fields.error(f"{key}: {shown(entry)} is none of the {of} of query/transform.json, or there twice")


def _check_values(place: Path, name: str, values: np.ndarray, codes: int | None) -> None:
    """Raise InvalidRelease if a precomputed feature is not finite, or a code out of range."""
    if not values.size:
        return
    if codes is None:
        if not np.isfinite(values).all():
            raise InvalidRelease(f"{place}: feature '{name}' holds a number that is not finite")
        return
    least, most = int(values.min()), int(values.max())
    if least < 0 or most >= codes:
        raise InvalidRelease(f"{place}: feature '{name}' holds codes from {least} to {most}, expected 0 to {codes - 1}")


def _read_ready(release: Sealed, name: str) -> np.ndarray:
    header = release.header(name)
    return release.array(name, np.int64, np.float32, dimensions=len(header.shape))
