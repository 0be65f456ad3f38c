"""The tensors between client and server: the model's signature, a query as tensors, an answer as Python values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Union

import numpy as np

from ensemble.client.filters import Filter
from workflows.errors import ServerError

ItemId = Union[int, str]
Exclusions = Sequence[Sequence[Any]]

Histories = Sequence[Sequence[tuple[Any, int]]]
Filters = Sequence[Union[Filter, str, None]]

CLICKS = ("history_item_ids", "history_timestamps")
RESERVED = ("user_id", "top_k", "exclude_item_ids", "include_seen", "filter", *CLICKS)
TIME = "timestamp"
OUTPUTS = ("item_id", "score", "count", "user_known")
NO_ITEM: Mapping[str, ItemId] = {"INT64": -(2**63), "BYTES": ""}
"""Pads lists of item ids: an id that no catalogue has, which the server ignores."""
NOW = -(2**63)
"""As `timestamp`: the time at which the server reads the request."""

_NUMPY: dict[str, type] = {
    "INT64": np.int64,
    "INT32": np.int32,
    "FP64": np.float64,
    "FP32": np.float32,
    "BOOL": np.bool_,
}
_TAKES = {
    "INT64": "a 64-bit integer",
    "INT32": "a 32-bit integer",
    "FP64": "a number",
    "FP32": "a number",
    "BYTES": "a string",
    "BOOL": "true or false",
}


class ClientError(ServerError):
    """Base of the client's errors. A failure of the server that fits no subclass is raised as this class."""

    status: str = ""
    """gRPC status, such as "INTERNAL"; "" where the error was found before a request was sent."""


class InvalidRequest(ClientError, ValueError):
    """The request is wrong; the message names column, row and expectation. Sending it again cannot help."""


@dataclass(frozen=True)
class Signature:
    """Inputs, outputs and limits of a served model, read from its configuration."""

    model: str
    max_batch_size: int
    inputs: Mapping[str, str]
    """Triton data type by input name, such as `{"user_id": "INT64"}`."""
    default_top_k: int | None = None
    """Sent where a query leaves `top_k` out, so that Triton sees the same set of inputs and joins the requests."""
    max_top_k: int | None = None
    outputs: tuple[str, ...] = OUTPUTS
    """What the model gives."""

    @property
    def columns(self) -> list[str]:
        """Return the query columns that a request may carry besides `user_id`."""
        return [name for name in self.inputs if name not in RESERVED]


@dataclass(frozen=True)
class Query:
    """Rows to answer, not yet checked against a model."""

    user_ids: Sequence[Any] | np.ndarray
    """One id per row."""
    top_k: int | None = None
    """Answers per row; the release's own number where None."""
    exclude_item_ids: Exclusions | None = None
    """Per row, the item ids that its answer must not hold."""
    include_seen: bool = False
    """Answer with items of the user's known history too."""
    columns: Mapping[str, Sequence[Any] | np.ndarray] = field(default_factory=dict)
    """Further query columns, one value per row; they override what the release knows of the user."""
    timestamps: Sequence[int] | np.ndarray | None = None
    """Per row the query's time, seconds since 1970: nothing later counts as the user's history. None is the server's
    clock. A model to which time means nothing is not told."""
    history: Histories | None = None
    """Per row the user's newest interactions, `(item id, seconds since 1970)`, which join those that the release knows
    and are not recommended; of equal times the later in the list is the newer."""
    filters: Filters | None = None
    """Per row what its answer may hold, as a `Filter` or as the JSON text that the server takes (docs/serving.md).
    None: a row has no filter, or no row has one."""


@dataclass(frozen=True)
class Recommendations:
    """The answer to one row, best item first."""

    item_ids: list[ItemId]
    scores: list[float]
    user_known: bool
    """False: the release has never seen this user id and answered from the other columns alone."""
    release: str | None = None
    """Which release answered, and after a + how many changes of its catalogue; None where the model does not say."""


def read_signature(config: Mapping[str, Any]) -> Signature:
    """Read the signature from Triton's model configuration (the `config` object of its JSON form)."""
    parameters = {name: value.get("string_value", "") for name, value in config.get("parameters", {}).items()}
    inputs = {str(column["name"]): _data_type(column["data_type"]) for column in config.get("input", [])}
    model, rows = str(config["name"]), int(config.get("max_batch_size", 0))
    if "user_id" not in inputs or rows < 1:
        has = f"inputs {', '.join(inputs) or 'none'} and max_batch_size {rows}"
        raise ClientError(f"model '{model}' is no retrieval model: it has {has}; expected `user_id` and batching")
    outputs = tuple(str(column["name"]) for column in config.get("output", []))
    return Signature(model, rows, inputs, _number(parameters, "top_k"), _number(parameters, "max_top_k"), outputs)


def tensors(signature: Signature, query: Query) -> dict[str, np.ndarray]:
    """Check `query` against the model and return its inputs by name, arrays of n rows.

    Inputs that every query can have are always present, `exclude_item_ids` as `[n, 0]` where nothing is excluded:
    Triton never joins requests that send different sets of inputs.

    Raises
    ------
    InvalidRequest
        A column is unknown, of another length than `user_ids`, or holds a value of another type; names column and row.
    """
    _check_list("user_id", query.user_ids)
    rows = len(query.user_ids)
    arrays = {"user_id": _column(signature, "user_id", query.user_ids, rows)}
    top_k = signature.default_top_k if query.top_k is None else _checked_top_k(signature, query.top_k)
    if top_k is not None:
        arrays["top_k"] = np.full((rows, 1), top_k, dtype=np.int32)
    id_type = signature.inputs.get("exclude_item_ids", "INT64")
    arrays["exclude_item_ids"] = _padded("exclude_item_ids", id_type, query.exclude_item_ids, rows, NO_ITEM[id_type])
    arrays["include_seen"] = np.full((rows, 1), bool(query.include_seen))
    arrays["filter"] = _filters(signature, query.filters, rows)
    arrays.update(_clicks(signature, query.history, rows))
    if TIME in signature.inputs:
        times = np.full(rows, NOW) if query.timestamps is None else query.timestamps
        arrays[TIME] = _column(signature, TIME, times, rows)
    for name, values in query.columns.items():
        if name not in signature.columns:
            known = ", ".join(signature.columns) or "no column but user_id"
            raise InvalidRequest(f"column '{name}': the model does not take it; it takes {known}")
        arrays[name] = _column(signature, name, values, rows)
    return {name: array for name, array in arrays.items() if name in signature.inputs}


def slices(arrays: Mapping[str, np.ndarray], rows: int) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    """Cut the inputs into requests of at most `rows` rows; yield the number of the first row with each."""
    for start in range(0, len(arrays["user_id"]), rows):
        yield start, {name: array[start : start + rows] for name, array in arrays.items()}


def recommendations(result: Any) -> list[Recommendations]:
    """Return the rows of tritonclient's `InferResult`, each cut to the number of items that it holds."""
    counts, known = _output(result, "count").ravel(), _output(result, "user_known").ravel()
    ids, scores = _output(result, "item_id"), _output(result, "score")
    release = result.as_numpy("release")
    name = None if release is None or not release.size else release.flat[0].decode("utf-8")
    return [
        Recommendations(
            [_python(item) for item in ids[row, :count].tolist()], scores[row, :count].tolist(), bool(known[row]), name
        )
        for row, count in enumerate(counts.tolist())
    ]


def _python(item: int | bytes) -> ItemId:
    return item.decode("utf-8") if isinstance(item, bytes) else item


def _output(result: Any, name: str) -> np.ndarray:
    array: np.ndarray | None = result.as_numpy(name)
    if array is None:
        raise ClientError(f"the answer has no output '{name}': the model is not one of ours, or of another version")
    return array


def _data_type(name: str) -> str:
    short = name.removeprefix("TYPE_")
    return "BYTES" if short == "STRING" else short


def _number(parameters: Mapping[str, str], name: str) -> int | None:
    return int(parameters[name]) if parameters.get(name, "").isdigit() else None


def _checked_top_k(signature: Signature, top_k: int) -> int:
    highest = signature.max_top_k or 2**31 - 1
    if isinstance(top_k, bool) or not isinstance(top_k, (int, np.integer)) or not 1 <= top_k <= highest:
        raise InvalidRequest(f"column 'top_k': got {top_k!r}, expected an integer from 1 to {highest}")
    return int(top_k)


def _check_list(name: str, values: object, expected: str = "expected a list or array with one value per row") -> None:
    if isinstance(values, (str, bytes)) or not isinstance(values, (Sequence, np.ndarray)):
        raise InvalidRequest(f"column '{name}', {expected}, got {values!r}")
    if isinstance(values, np.ndarray) and values.ndim != 1:
        raise InvalidRequest(f"column '{name}': expected one dimension, [rows], got shape {list(values.shape)}")


def _column(signature: Signature, name: str, values: Sequence[Any] | np.ndarray, rows: int) -> np.ndarray:
    _check_list(name, values)
    if len(values) != rows:
        raise InvalidRequest(f"column '{name}': {len(values)} values, expected {rows}, one per user id")
    return _array(name, signature.inputs[name], values).reshape(rows, 1)


def _filters(signature: Signature, filters: Filters | None, rows: int) -> np.ndarray:
    """Return the filters as text, [rows, 1]; "" for a row without one."""
    if filters is not None and "filter" not in signature.inputs:
        raise InvalidRequest(f"column 'filter': model '{signature.model}' takes none; release it again")
    _check_list("filter", [] if filters is None else filters, "expected a list with one filter, or None, per row")
    if filters is not None and len(filters) != rows:
        raise InvalidRequest(f"column 'filter': {len(filters)} filters, expected {rows}, one per user id")
    texts = [""] * rows if filters is None else [*map(_filter_text, range(rows), filters)]
    return _array("filter", "BYTES", texts).reshape(rows, 1)


def _filter_text(row: int, of_row: Filter | str | None) -> str:
    if of_row is None or isinstance(of_row, str):
        return of_row or ""
    if not isinstance(of_row, Filter):
        raise InvalidRequest(
            f"column 'filter', row {row}: got {of_row!r}, expected an ensemble.client.filters.Filter, JSON text or None"
        )
    try:
        return of_row.text()
    except (TypeError, ValueError) as error:
        raise InvalidRequest(f"column 'filter', row {row}: {of_row!r} is not made of plain values: {error}") from None


def _clicks(signature: Signature, history: Histories | None, rows: int) -> dict[str, np.ndarray]:
    """Return the rows' interactions as two padded arrays."""
    if CLICKS[0] not in signature.inputs:
        if history is not None:
            raise InvalidRequest(f"history: model '{signature.model}' was trained without one and takes none")
        return {}
    parts: list[list[list[Any]]] = [[], []]
    for row, clicks in enumerate([()] * rows if history is None else history):
        _check_list(CLICKS[0], clicks, f"row {row}: expected a list of (item id, timestamp)")
        for entry, click in enumerate(clicks):
            if not isinstance(click, (tuple, list)) or len(click) != 2:
                raise InvalidRequest(f"history, row {row}, entry {entry}: got {click!r}, expected (item id, timestamp)")
        for part, column in zip(parts, zip(*clicks, strict=True) if clicks else ((), ()), strict=True):
            part.append(list(column))
    data_type = signature.inputs[CLICKS[0]]
    return {
        CLICKS[0]: _padded(CLICKS[0], data_type, parts[0], rows, NO_ITEM[data_type]),
        CLICKS[1]: _padded(CLICKS[1], "INT64", parts[1], rows, 0),
    }


def _padded(name: str, data_type: str, lists: Exclusions | None, rows: int, blank: ItemId) -> np.ndarray:
    """Return ragged lists as one array [rows, longest]."""
    if lists is None:
        lists = [()] * rows
    if len(lists) != rows:
        raise InvalidRequest(f"column '{name}': {len(lists)} lists, expected {rows}, one per user id")
    width = 0
    for row, values in enumerate(lists):
        _check_list(name, values, f"row {row}: expected a list or array of item ids")
        width = max(width, len(values))
    filled = np.full((rows, width), blank, dtype=object if data_type == "BYTES" else np.int64)
    for row, values in enumerate(lists):
        filled[row, : len(values)] = _array(name, data_type, values, f"row {row}, entry")
    return filled


def _array(name: str, data_type: str, values: Sequence[Any] | np.ndarray, place: str = "row") -> np.ndarray:
    """Return `values` as an array of the input's data type; refuse a value that would change by it."""
    if isinstance(values, np.ndarray) and data_type in _NUMPY and values.dtype == _NUMPY[data_type]:
        return values
    listed = values.tolist() if isinstance(values, np.ndarray) else list(values)
    for position, value in enumerate(listed):
        if not _fits(value, data_type):
            actual, expected = f"got {value!r} ({type(value).__name__})", _TAKES.get(data_type, data_type)
            raise InvalidRequest(f"column '{name}', {place} {position}: {actual}, expected {expected}")
    return np.array(listed, dtype=_NUMPY.get(data_type, np.object_))


def _fits(value: object, data_type: str) -> bool:
    if data_type == "BYTES":  # a lone surrogate is no text: it has no UTF-8 form
        return isinstance(value, str) and not any("\ud800" <= letter <= "\udfff" for letter in value)
    if data_type == "BOOL":
        return isinstance(value, (bool, np.bool_))
    if isinstance(value, (bool, np.bool_)):
        return False
    if data_type in ("INT64", "INT32"):
        limit = 2 ** (int(data_type[3:]) - 1)
        return isinstance(value, (int, np.integer)) and -limit <= value < limit
    return isinstance(value, (int, float, np.integer, np.floating))
