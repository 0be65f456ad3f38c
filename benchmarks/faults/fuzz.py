"""Fuzzed requests, each with what it deserves: to be answered, to be refused, or either."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import tritonclient.grpc as grpc
from tritonclient.utils import triton_to_np_dtype

from benchmarks.faults.load import ANSWERED, REFUSED, Question
from benchmarks.faults.questions import Array, Subject, drawn, malformed
from ensemble.client.tensors import CLICKS, NOW, TIME, Query, tensors

EITHER = ""
T = TypeVar("T")
Sent = dict[str, tuple[str, Array]]
"""Data type and array by input."""
_WIRE: Mapping[str, Any] = {
    kind: triton_to_np_dtype(kind) for kind in ("INT64", "INT32", "FP64", "FP32", "BOOL", "UINT8", "BYTES")
}


class Fuzz:
    """Requests that are wrong in one way or odd in several, each with what it deserves.

    Odd changes leave a request right; at most one change that makes it wrong comes after them, so that nothing undoes
    it.
    """

    def __init__(self, subject: Subject, seed: int = 0, wrong: float = 0.7) -> None:
        """Take what is asked; a share of `wrong` is to be refused."""
        self._subject, self._random, self._share = subject, np.random.default_rng(seed), wrong
        self._inputs = subject.signature.inputs
        self._odd = [self._left_out, self._odd_text, self._odd_number, self._noise, self._twice, self._at_the_limit]
        self._odd += [self._good_filter, self._odd_time]
        self._wrong = [self._other_type, self._no_user, self._stranger_input, self._shape, self._rows, self._cut]
        self._wrong += [self._lying_lengths, self._top_k, self._too_long, self._bad_text, self._bad_filter]
        self._wrong += [self._bad_time, self._half_a_history, *([self._not_finite] if self._of("FP64") else [])]

    def __call__(self, count: int) -> Iterator[Question]:
        """Yield so many requests."""
        for _ in range(count):
            yield self.request()

    def request(self) -> Question:
        """Return the next request."""
        sent, raw, deserved, done = self._right(), dict[str, bytes](), ANSWERED, list[str]()
        for change in self._picked(self._odd, int(self._random.integers(3))):
            if change(sent, raw) == EITHER:
                deserved = EITHER
            done.append(change.__name__)
        if self._random.random() < self._share:
            (change,) = self._picked(self._wrong, 1)
            deserved = change(sent, raw)
            done.append(change.__name__)
        names = list(sent)
        if "_twice" in done and names:
            names.append(names[0])
        inputs = [_tensor(name, *sent[name], raw.get(name)) for name in names]
        about = " + ".join(applied[1:] for applied in done)
        return Question(self._subject.signature.model, inputs, deserved, malformed, about)

    def _picked(self, changes: list[Any], count: int) -> list[Any]:
        return [changes[place] for place in self._random.choice(len(changes), count, replace=False)]

    def _of(self, *kinds: str, ragged: bool | None = None) -> list[str]:
        """Return the inputs of some data types."""
        lists = ("exclude_item_ids", *CLICKS)
        names = [name for name, kind in self._inputs.items() if kind in kinds]
        return names if ragged is None else [name for name in names if (name in lists) == ragged]

    def _one(self, names: Sequence[T]) -> T:
        return names[int(self._random.integers(len(names)))]

    def _rows_of(self, sent: Sent) -> int:
        return len(sent["user_id"][1]) if "user_id" in sent else 1

    def _right(self) -> Sent:
        """Return a right request of a few rows with everything in it."""
        rows, random, subject = int(self._random.integers(1, 6)), self._random, self._subject
        query = Query(
            drawn(random, subject.users, rows),
            int(random.integers(1, 20)),
            exclude_item_ids=[drawn(random, subject.items, int(random.integers(4))) for _ in range(rows)],
            timestamps=[int(random.integers(2 * 10**9)) for _ in range(rows)] if TIME in self._inputs else None,
            history=[[(self._one(subject.items), 10**9)] for _ in range(rows)] if CLICKS[0] in self._inputs else None,
        )
        return {name: (self._inputs[name], array) for name, array in tensors(subject.signature, query).items()}

    # What leaves a request right, or leaves open whether it is.

    def _left_out(self, sent: Sent, raw: dict[str, bytes]) -> str:
        for name in [
            candidate
            for candidate in sent
            if candidate != "user_id" and candidate not in CLICKS and self._random.random() < 0.5
        ]:
            del sent[name]
        if self._random.random() < 0.5:
            for name in CLICKS:
                sent.pop(name, None)
        return ANSWERED

    def _odd_text(self, sent: Sent, raw: dict[str, bytes]) -> str:
        names = [column for column in self._of("BYTES", ragged=False) if column != "filter"]
        if names:
            name, rows = self._one(names), self._rows_of(sent)
            values = [_ODD_TEXT[number].encode() for number in self._random.integers(len(_ODD_TEXT), size=rows)]
            sent[name] = "BYTES", _objects(values)[:, None]
        return ANSWERED

    def _odd_number(self, sent: Sent, raw: dict[str, bytes]) -> str:
        names = [candidate for candidate in self._of("INT64", "FP64", ragged=False) if candidate != TIME]
        if names:
            name = self._one(names)
            odd = _ODD_FLOATS if self._inputs[name] == "FP64" else _ODD_INTEGERS
            values = self._random.choice(np.array(odd, dtype=_WIRE[self._inputs[name]]), self._rows_of(sent))
            sent[name] = self._inputs[name], values[:, None]
            if self._inputs[name] == "FP64" and np.abs(values).max() > _LARGE:
                return EITHER  # the towers may have no finite vector for it, and say so
        return ANSWERED

    def _odd_time(self, sent: Sent, raw: dict[str, bytes]) -> str:
        if TIME in self._inputs:
            times = self._random.choice(np.array([0, 1, NOW, 10**11 - 1], dtype=np.int64), self._rows_of(sent))
            sent[TIME] = "INT64", times[:, None]
        return ANSWERED

    def _noise(self, sent: Sent, raw: dict[str, bytes]) -> str:
        """Random bits where numbers are: whatever they mean, it is one of the two."""
        name = self._one(sorted(sent))
        kind, array = sent[name]
        if kind != "BYTES":
            raw[name] = self._random.bytes(array.nbytes)
        return EITHER

    def _twice(self, sent: Sent, raw: dict[str, bytes]) -> str:
        """One input twice, which `request` does; what Triton makes of it is its own affair."""
        return EITHER

    def _at_the_limit(self, sent: Sent, raw: dict[str, bytes]) -> str:
        rows, limits = self._rows_of(sent), self._subject.limits
        if self._random.random() < 0.5:
            sent["top_k"] = "INT32", np.full((rows, 1), limits["max_top_k"], dtype=np.int32)
        elif self._random.random() < 0.1:
            self._widen(sent, "exclude_item_ids", limits["max_exclude_item_ids"])
        elif CLICKS[0] in self._inputs:
            self._widen(sent, CLICKS[0], limits["max_history_item_ids"])
        return ANSWERED

    def _good_filter(self, sent: Sent, raw: dict[str, bytes]) -> str:
        ids = drawn(self._random, self._subject.items, 3)
        filters = [{}, {"deny": ids}, {"allow": ids}, {"min_score": 0.1}, {"min_score": 1e299}, {"allow": []}]
        texts = [
            json.dumps(filters[number]).encode()
            for number in self._random.integers(len(filters), size=self._rows_of(sent))
        ]
        sent["filter"] = "BYTES", _objects(texts)[:, None]
        return ANSWERED

    # What makes a request wrong.

    def _other_type(self, sent: Sent, raw: dict[str, bytes]) -> str:
        name = self._one(sorted(sent))
        kind, array = sent[name]
        other_type = self._one([wire for wire in _WIRE if wire != kind])
        sent[name] = other_type, np.full(array.shape, b"1" if other_type == "BYTES" else 1, dtype=_WIRE[other_type])
        raw.pop(name, None)
        return REFUSED

    def _no_user(self, sent: Sent, raw: dict[str, bytes]) -> str:
        del sent["user_id"]
        return REFUSED

    def _stranger_input(self, sent: Sent, raw: dict[str, bytes]) -> str:
        name = self._one(["shoe_size", "", "user_id ", "USER_ID", "résumé", "a" * 5000, "item_id", "../x", "a\nb\x00c"])
        sent[name] = "INT64", np.zeros((self._rows_of(sent), 1), dtype=np.int64)
        return REFUSED

    def _shape(self, sent: Sent, raw: dict[str, bytes]) -> str:
        name = self._one([candidate for candidate in sent if candidate not in ("exclude_item_ids", *CLICKS)])
        kind, array = sent[name]
        rows = len(array)
        shape = [(rows,), (rows, 1, 1), (rows, 2), (rows, 0), (1, rows + 1)][int(self._random.integers(5))]
        sent[name] = kind, np.resize(array, shape)
        raw.pop(name, None)
        return REFUSED

    def _rows(self, sent: Sent, raw: dict[str, bytes]) -> str:
        raw.clear()
        way = int(self._random.integers(3))
        if way == 0:  # one input has more rows than the others
            if len(sent) < 2:
                return self._no_user(sent, raw)
            name = self._one(sorted(sent))
            sent[name] = sent[name][0], np.concatenate([sent[name][1], sent[name][1][:1]])
            return REFUSED
        rows = 0 if way == 1 else self._subject.signature.max_batch_size + 1
        for name, (kind, array) in list(sent.items()):
            sent[name] = kind, np.resize(array, (rows, array.shape[1]))
        return REFUSED

    def _cut(self, sent: Sent, raw: dict[str, bytes]) -> str:
        """Bytes that do not fit the shape."""
        name = self._one([candidate for candidate, (_, array) in sent.items() if array.size])
        content = bytearray(_raw(*sent[name]))
        way = int(self._random.integers(3))
        raw[name] = bytes([content[:-1], content + b"\x00", content + content][way])
        return REFUSED

    def _lying_lengths(self, sent: Sent, raw: dict[str, bytes]) -> str:
        """Strings whose lengths, which stand before each, are not theirs."""
        name, rows = "filter", self._rows_of(sent)
        sent[name] = "BYTES", _objects([b"{}"] * rows)[:, None]
        lie = self._one([b"\xff\xff\xff\xff", b"\x03\x00\x00\x00", b"\x00\x00\x00\x80", b"\x01\x00\x00\x00"])
        raw[name] = b"\x02\x00\x00\x00{}" * (rows - 1) + lie + b"{}"
        return REFUSED

    def _top_k(self, sent: Sent, raw: dict[str, bytes]) -> str:
        values = np.full((self._rows_of(sent), 1), 5, dtype=np.int32)
        most = self._subject.limits["max_top_k"]
        values[int(self._random.integers(len(values)))] = self._random.choice([0, -1, most + 1, 2**31 - 1, -(2**31)])
        sent["top_k"] = "INT32", values
        raw.pop("top_k", None)
        return REFUSED

    def _too_long(self, sent: Sent, raw: dict[str, bytes]) -> str:
        limits = self._subject.limits
        if CLICKS[0] in self._inputs and self._random.random() < 0.7:
            self._widen(sent, CLICKS[0], limits["max_history_item_ids"] + 1)
            raw.pop(CLICKS[0], None)
            raw.pop(CLICKS[1], None)
        else:
            factor = 20 if self._random.random() < 0.05 else 1
            self._widen(sent, "exclude_item_ids", factor * limits["max_exclude_item_ids"] + 1)
            raw.pop("exclude_item_ids", None)
        return REFUSED

    def _bad_text(self, sent: Sent, raw: dict[str, bytes]) -> str:
        name, rows = self._one(self._of("BYTES", ragged=False)), self._rows_of(sent)
        values = [b"right"] * rows if name != "filter" else [b""] * rows
        values[int(self._random.integers(rows))] = self._one(_BAD_TEXT)
        sent[name] = "BYTES", _objects(values)[:, None]
        return REFUSED

    def _bad_filter(self, sent: Sent, raw: dict[str, bytes]) -> str:
        rows = self._rows_of(sent)
        values = [b""] * rows
        values[int(self._random.integers(rows))] = self._one(_BAD_FILTERS).encode()
        sent["filter"] = "BYTES", _objects(values)[:, None]
        return REFUSED

    def _bad_time(self, sent: Sent, raw: dict[str, bytes]) -> str:
        if TIME not in self._inputs:
            return self._top_k(sent, raw)
        times = np.full((self._rows_of(sent), 1), 10**9, dtype=np.int64)
        times[int(self._random.integers(len(times)))] = self._random.choice([-1, 10**11, 2**63 - 1, NOW + 1])
        sent[TIME] = "INT64", times
        raw.pop(TIME, None)
        return REFUSED

    def _half_a_history(self, sent: Sent, raw: dict[str, bytes]) -> str:
        if CLICKS[0] not in self._inputs:
            return self._top_k(sent, raw)
        self._widen(sent, CLICKS[0], 2)
        raw.pop(CLICKS[0], None)
        raw.pop(CLICKS[1], None)
        del sent[self._one(CLICKS)]
        return REFUSED

    def _not_finite(self, sent: Sent, raw: dict[str, bytes]) -> str:
        name, values = self._one(self._of("FP64")), np.ones((self._rows_of(sent), 1))
        values[int(self._random.integers(len(values)))] = self._random.choice([np.nan, np.inf, -np.inf])
        sent[name] = "FP64", values
        raw.pop(name, None)
        return REFUSED

    def _widen(self, sent: Sent, name: str, width: int) -> None:
        """Give every row a list of so many items, or so many clicks."""
        rows, kind = self._rows_of(sent), self._inputs[name]
        item = self._one(self._subject.items)
        filled = np.empty((rows, width), dtype=_WIRE[kind])
        filled[:] = item.encode() if kind == "BYTES" else item
        sent[name] = kind, filled
        if name == CLICKS[0]:
            sent[CLICKS[1]] = "INT64", np.full((rows, width), 10**9, dtype=np.int64)


_ODD_TEXT = [
    "", " ", "\x00", "a\x00b", "\ufeffbom", "\u202eright to left", "e\u0301", "🙂" * 50, "\U0010ffff", "\ufffd",
    "line\nbreak\r\n", "'; DROP TABLE users; --", "%s%n{}{0}", "../../etc/passwd", "\x1b[31mred", "x" * 60_000,
    "M", "ſ", "İ", "NaN", "null", "-1", "\u0000\ud7ff\ue000",
]  # fmt: skip
_ODD_INTEGERS = [0, -1, 1, 2**63 - 1, -(2**63), 2**31, -(2**31) - 1, 2**53 + 1]
_ODD_FLOATS = [0.0, -0.0, 1e308, -1e308, 5e-324, 1e-30, 2.0**53 + 2, 1900.5]
_LARGE = 1e30
_BAD_TEXT = [
    b"\xff", b"\xff\xfe", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82", b"ok\x80",
    b"\xf8\x88\x80\x80\x80", b"\xc3(", b"\xed\xbf\xbf" * 9, b"x" * 70_000,
]  # fmt: skip
_BAD_FILTERS = [
    "{", "[]", "null", "0", '"deny"', "{}{}", '{"deny": 5}', '{"deny": [1.5]}', '{"deny": [true]}', '{"deny": [null]}',
    '{"deny": [[]]}', '{"nonsense": []}', '{"min_score": NaN}', '{"min_score": Infinity}', '{"min_score": "1"}',
    '{"min_score": 1e999}', '{"min_score": ' + "9" * 400 + "}", '{"min_score": ' + "9" * 5000 + "}",
    '{"deny": [], "deny": []}', "[" * 100_000, '{"a":' * 50_000, '{"tags": []}',
    '{"tags": {"no such": {"any": ["x"]}}}', '{"tags": {"\\ud800": {"any": ["\\udfff"]}}}',
    '{"ranges": {"\\ud800": {"min": 0}}}', '{"ranges": {"a": {}}}',
    '{"crowding": {}}', '{"crowding": {"attribute": "\\udc00", "limit": 1}}', '{"\\ud83d": 1}', "\x00", "\ufeff{}",
    '{"deny": [' + "{}," * 100 + "{}]}", "{" + " " * (1 << 20) + "}", '{"allow": [9223372036854775808.0]}',
]  # fmt: skip


def _objects(values: list[bytes]) -> Array:
    objects = np.empty(len(values), dtype=object)
    objects[:] = values
    return objects


def _raw(kind: str, array: Array) -> bytes:
    """Return an array as it goes over the wire."""
    if kind != "BYTES":
        return array.tobytes()
    values = [value.encode() if isinstance(value, str) else bytes(value) for value in array.ravel().tolist()]
    return b"".join(len(value).to_bytes(4, "little") + value for value in values)


def _tensor(name: str, kind: str, array: Array, raw: bytes | None) -> Any:
    """Return an input; `raw` are bytes to be sent in place of the array's."""
    tensor = grpc.InferInput(name, list(array.shape), kind)
    tensor._raw_content = _raw(kind, array) if raw is None else raw  # as another client's bug would
    return tensor
