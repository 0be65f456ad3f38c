"""The tensors of the Triton model `retrieval`, and the conversion of a request's arrays to a checked `Request`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..errors import InvalidRequest
from ..names import CONTROLS
from ..query.sequence import TIME, Clicks
from ..query.times import FAR
from ..query.transform import Column
from ..search.budget import Budget
from ..search.filter_text import MAX_BYTES as MAX_FILTER_BYTES

USER = "user_id"
NO_ITEM = {"INT64": -(2**63), "BYTES": ""}
"""Pads lists of item ids: an id that no catalogue has."""
NO_SCORE = np.finfo(np.float32).min
"""The score of a place that no item has, in what leaves the server: JSON has no infinity. Nothing scores less.
A float32: with NumPy 1 a Python number of that size makes float64 of an array of float32."""
NOW = -(2**63)
"""As `timestamp`: the time at which the server reads the request."""
MAX_TEXT_BYTES = 1 << 16
"""Longest text in a request; filters have a limit of their own."""
MAX_VALUES = 10_000
"""Longest list of one row in a column."""
_FEW = 32
_ENTRY_NS = {"INT64": 200.0, "FP64": 20.0, "BYTES": 1000.0}
"""Nanoseconds per entry of a list, to read it and look it up."""
_BYTE_NS = 2.0
"""Nanoseconds per byte of a list's texts, to decode and hash them."""
WIRE = {"int64": "INT64", "float64": "FP64", "string": "BYTES"}
"""Triton data type by the data type of a raw column."""


class Tensor(NamedTuple):
    """One input or output of the model; the batch axis comes before `dims`."""

    name: str
    dtype: str
    dims: int
    optional: bool = False
    ragged: bool = False


class Request(NamedTuple):
    """Rows to answer."""

    columns: dict[str, Column]
    """Raw query columns that were sent, `user_id` among them, n rows each."""
    top_k: np.ndarray
    """int64 [n]."""
    include_seen: np.ndarray
    """bool [n]: answer with items of the user's known history too."""
    exclude: tuple[np.ndarray, np.ndarray]
    """Row, int64 [m], and item id, [m], of every item that an answer must not hold."""
    clicks: Clicks | None = None
    """The users' newest interactions, where the request carries any."""
    filters: Sequence[str] | None = None
    """Each row's filter as JSON, "" for none; None: no row has one."""


Arrays = Mapping[str, np.ndarray]
Outputs = list[tuple[str, np.ndarray]]
"""Name and array of each output of one request."""


def input_tensors(
    columns: Sequence[Mapping[str, Any]], id_dtype: Mapping[str, str], history: bool = False
) -> list[Tensor]:
    """Return the inputs of a model whose transform takes `columns` (the `inputs` of its `transform.json`)."""
    clicks = [
        Tensor("history_item_ids", WIRE[id_dtype["item_id"]], -1, True, True),
        Tensor("history_timestamps", "INT64", -1, True, True),
    ]
    extra = [
        Tensor(column["name"], WIRE[column["dtype"]], -1 if column["list"] else 1, True, bool(column["list"]))
        for column in columns
        if column["name"] != USER
    ]
    return [
        Tensor(USER, WIRE[id_dtype[USER]], 1),
        *extra,
        Tensor("top_k", "INT32", 1, True),
        Tensor("exclude_item_ids", WIRE[id_dtype["item_id"]], -1, True, True),
        Tensor("include_seen", "BOOL", 1, True),
        Tensor("filter", "BYTES", 1, True),
        *(clicks if history else []),
    ]


def output_tensors(id_dtype: Mapping[str, str]) -> list[Tensor]:
    """Return the outputs of the model."""
    return [
        Tensor("item_id", WIRE[id_dtype["item_id"]], -1),
        Tensor("score", "FP32", -1),
        Tensor("count", "INT32", 1),
        Tensor("user_known", "BOOL", 1),
    ]


def most_entries(dtype: str, milliseconds: float) -> int:
    """Return how many list entries of a Triton data type a request can have within its budget."""
    return int(Budget(milliseconds).most(_ENTRY_NS[dtype]))


class Reader:
    """Converts the arrays of requests to one `Request`."""

    def __init__(self, tensors: Sequence[Tensor], limits: Mapping[str, int]) -> None:
        """Take the model's inputs and the release's `serving` section (top_k, max_top_k, max_exclude_item_ids)."""
        self._tensors = {tensor.name: tensor for tensor in tensors}
        self._columns = [tensor for tensor in tensors if tensor.name not in CONTROLS]
        self._ragged = {tensor.name for tensor in tensors if tensor.ragged}
        self._limits = limits

    def read(self, requests: Sequence[Arrays], budget: Budget | None = None) -> Request:
        """Concatenate requests that sent the same inputs, arrays [rows, width], row after row.

        Raises
        ------
        InvalidRequest
            A required input is missing, or a value is out of range, not finite or not UTF-8. The message counts rows
            over all of `requests`; read one request alone to learn its own row.
        TooMuch
            Reading its lists and looking up their ids would exceed the budget, from which they are paid before they are
            read.
        """
        if budget is not None:
            self._pay(requests, budget)
        if USER not in requests[0]:
            raise InvalidRequest(f"column '{USER}': missing; expected {self._tensors[USER].dtype} [rows, 1]")
        rows = sum(len(arrays[USER]) for arrays in requests)
        if not rows:
            raise InvalidRequest(f"column '{USER}': no rows; expected at least one")
        for name in filter(requests[0].__contains__, self._tensors):
            actual = sum(len(arrays[name]) if name in self._ragged else arrays[name].size for arrays in requests)
            if actual != rows:
                raise InvalidRequest(f"column '{name}': {actual} rows, expected {rows} as in '{USER}'")
        sent = [tensor for tensor in self._columns if tensor.name in requests[0]]
        columns = {tensor.name: self._column(tensor, requests) for tensor in sent}
        if TIME in columns:
            columns[TIME] = _dated(columns[TIME])
        return Request(
            columns,
            self._top_k(requests, rows),
            self._include_seen(requests, rows),
            self._exclude(requests, rows),
            self._clicks(requests, rows),
            self._filters(requests),
        )

    def _pay(self, requests: Sequence[Arrays], budget: Budget) -> None:
        for name in requests[0]:
            if name in self._ragged and any(arrays[name].size for arrays in requests):
                shapes = [arrays[name].shape for arrays in requests]
                lengths = np.repeat([width for _, width in shapes], [rows for rows, _ in shapes])
                dtype = self._tensors[name].dtype
                budget.spend_each(lengths, _ENTRY_NS[dtype])
                if dtype == "BYTES":
                    sizes = [sum(map(len, row)) for arrays in requests for row in arrays[name].tolist()]
                    budget.spend_each(np.array(sizes, dtype=np.int64), _BYTE_NS)

    def _column(self, tensor: Tensor, requests: Sequence[Arrays]) -> Column:
        if not tensor.ragged:
            values = _plain(tensor, _joined(requests, tensor.name))
            if tensor.dtype == "FP64" and not np.isfinite(values).all():
                row = int(np.flatnonzero(~np.isfinite(values))[0])
                raise _invalid(
                    tensor.name, row, values[row], "a finite number; leave the column out where it is unknown"
                )
            return Column(values)
        lengths, values = _ragged(requests, tensor.name)
        _check_lengths(tensor.name, lengths, MAX_VALUES, "values")
        offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
        np.cumsum(lengths, out=offsets[1:])
        return Column(_plain(tensor, values, lengths), None, offsets)

    def _top_k(self, requests: Sequence[Arrays], rows: int) -> np.ndarray:
        if "top_k" not in requests[0]:
            return np.full(rows, self._limits["top_k"], dtype=np.int64)
        values, highest = _joined(requests, "top_k").astype(np.int64), self._limits["max_top_k"]
        least, most = extremes(values)
        if least < 1 or most > highest:
            row = int(np.flatnonzero((values < 1) | (values > highest))[0])
            raise _invalid("top_k", row, values[row], f"an integer from 1 to {highest}")
        return values

    def _include_seen(self, requests: Sequence[Arrays], rows: int) -> np.ndarray:
        return _joined(requests, "include_seen") if "include_seen" in requests[0] else np.zeros(rows, dtype=bool)

    def _filters(self, requests: Sequence[Arrays]) -> Sequence[str] | None:
        if "filter" not in requests[0]:
            return None
        values = _joined(requests, "filter")
        if not any(values.tolist()):
            return None
        return _plain(self._tensors["filter"], values, longest=MAX_FILTER_BYTES).tolist()

    def _exclude(self, requests: Sequence[Arrays], rows: int) -> tuple[np.ndarray, np.ndarray]:
        tensor = self._tensors["exclude_item_ids"]
        if tensor.name not in requests[0]:
            return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=object if tensor.dtype == "BYTES" else np.int64)
        if not any(arrays[tensor.name].size for arrays in requests):
            return np.zeros(0, dtype=np.int64), requests[0][tensor.name].reshape(-1)
        return self._ids(tensor, requests, rows, "max_exclude_item_ids")

    def _clicks(self, requests: Sequence[Arrays], rows: int) -> Clicks | None:
        """Read `history_item_ids` and `history_timestamps`, without padding."""
        names = [name for name in ("history_item_ids", "history_timestamps") if name in requests[0]]
        if not names or not self._tensors.keys() >= set(names):
            return None
        ids, times = _pair(requests, names)
        if not any(array.size for array in ids):
            return None
        tensor = self._tensors["history_item_ids"]
        row_of, values = self._ids(tensor, requests, rows, "max_history_item_ids")
        seconds = np.concatenate([array.reshape(-1) for array in times])
        real = values != NO_ITEM[tensor.dtype]
        if not real.all():
            row_of, values, seconds = row_of[real], values[real], seconds[real]
        wrong = (seconds < 0) | (seconds >= FAR)
        if wrong.any():
            raise _out_of_time("history_timestamps", wrong, row_of, seconds)
        return Clicks(row_of, values, seconds)

    def _ids(self, tensor: Tensor, requests: Sequence[Arrays], rows: int, limit: str) -> tuple[np.ndarray, np.ndarray]:
        """Return row and id of every entry of a ragged input."""
        lengths, values = _ragged(requests, tensor.name)
        _check_lengths(tensor.name, lengths, self._limits[limit], "ids")
        return np.repeat(np.arange(rows), lengths), _plain(tensor, values, lengths)


def _dated(column: Column) -> Column:
    """Check the queries' times; `NOW` becomes missing."""
    now = column.values == NOW
    wrong = ((column.values < 0) | (column.values >= FAR)) & ~now
    if wrong.any():
        raise _out_of_time(TIME, wrong, np.arange(len(wrong)), column.values)
    return Column(column.values, now if now.any() else None)


def _pair(requests: Sequence[Arrays], names: list[str]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return both arrays of every request; refuse one without the other, or lists of different lengths."""
    if len(names) < 2:
        partner = {"history_item_ids": "history_timestamps", "history_timestamps": "history_item_ids"}[names[0]]
        raise InvalidRequest(f"column '{partner}': missing, row 0; expected as many entries as in '{names[0]}'")
    ids, times = ([request[name] for request in requests] for name in names)
    row = 0
    for these, those in zip(ids, times, strict=True):
        if these.shape != those.shape:
            actual, expected = list(those.shape), f"{list(these.shape)} as of '{names[0]}'"
            raise InvalidRequest(f"column '{names[1]}', row {row}: shape {actual}, expected {expected}")
        row += len(these)
    return ids, times


def _out_of_time(name: str, wrong: np.ndarray, rows: np.ndarray, seconds: np.ndarray) -> InvalidRequest:
    first = int(wrong.argmax())
    return _invalid(name, int(rows[first]), seconds[first], "seconds since 1970, >= 0, and not milliseconds")


def extremes(values: np.ndarray) -> tuple[int, int]:
    """Return the minimum and maximum of int64 [n], n > 0; for a few values, faster than NumPy."""
    if len(values) > _FEW:
        return int(values.min()), int(values.max())
    listed = values.tolist()
    return min(listed), max(listed)


def _joined(requests: Sequence[Arrays], name: str) -> np.ndarray:
    """Return all values of an input [rows, 1], row after row."""
    if len(requests) == 1:
        return requests[0][name].reshape(-1)
    return np.concatenate([arrays[name] for arrays in requests]).reshape(-1)


def _ragged(requests: Sequence[Arrays], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return each row's length, and all values in order; the rows of a request have the same length."""
    shapes = [arrays[name].shape for arrays in requests]
    lengths = np.repeat([shape[1] for shape in shapes], [shape[0] for shape in shapes])
    return lengths, np.concatenate([arrays[name].reshape(-1) for arrays in requests])


def _plain(
    tensor: Tensor, values: np.ndarray, lengths: np.ndarray | None = None, longest: int = MAX_TEXT_BYTES
) -> np.ndarray:
    """Return the values as the transform takes them; bytes, at most `longest`, are decoded."""
    if tensor.dtype != "BYTES":
        return values
    if max(map(len, values), default=0) > longest:
        position = next(index for index, value in enumerate(values) if len(value) > longest)
        row = _row_of(position, lengths)
        actual, expected = len(values[position]), f"expected at most {longest}"
        raise InvalidRequest(f"column '{tensor.name}', row {row}: {actual} bytes, {expected}")
    decoded: list[str] = []
    try:
        for value in values:
            decoded.append(value.decode("utf-8") if isinstance(value, bytes) else str(value))
    except UnicodeDecodeError:
        raise _invalid(tensor.name, _row_of(len(decoded), lengths), value, "UTF-8 text") from None
    return np.array(decoded, dtype=object)


def _row_of(position: int, lengths: np.ndarray | None) -> int:
    """Return the row of a value, given the lengths of the rows (None: one value each)."""
    return position if lengths is None else int(np.repeat(np.arange(len(lengths)), lengths)[position])


def _check_lengths(name: str, lengths: np.ndarray, longest: int, what: str) -> None:
    if int(lengths.max()) > longest:
        row = int(lengths.argmax())
        raise InvalidRequest(f"column '{name}', row {row}: {lengths[row]} {what}, expected at most {longest}")


def _invalid(name: str, row: int, value: object, expected: str) -> InvalidRequest:
    shown = repr(value) if isinstance(value, (bytes, str)) else str(value)
    return InvalidRequest(f"column '{name}', row {row}: got {shown[:80]}, expected {expected}")
