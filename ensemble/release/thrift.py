"""Thrift's compact protocol, as far as Parquet uses it: structs as dictionaries by field number.

https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

from __future__ import annotations

from typing import Any

_TRUE, _FALSE, _BYTE, _DOUBLE, _TEXT, _LIST, _SET, _MAP, _STRUCT = 1, 2, 3, 7, 8, 9, 10, 11, 12
_INTEGERS = (4, 5, 6)
_DEEPEST = 16
Struct = dict[int, Any]


class Reader:
    """Bytes that hold structs. Raises ValueError where they do not, before it takes more memory than they have."""

    def __init__(self, content: bytes, place: int = 0) -> None:
        self._content, self.place = content, place

    def struct(self, depth: int = 0) -> Struct:
        """Take a struct."""
        if depth > _DEEPEST:
            raise ValueError("nested too deeply")
        found: Struct = {}
        number = 0
        while head := self._byte():
            number = number + (head >> 4) if head >> 4 else self._integer()
            kind = head & 15
            found[number] = kind == _TRUE if kind in (_TRUE, _FALSE) else self._value(kind, depth)
        return found

    def _value(self, kind: int, depth: int) -> Any:
        if kind in _INTEGERS:
            return self._integer()
        if kind == _TEXT:
            return self._bytes(self._size())
        if kind == _STRUCT:
            return self.struct(depth + 1)
        if kind in (_LIST, _SET):
            return self._list(depth + 1)
        if kind in (_TRUE, _FALSE, _BYTE):
            return self._byte()
        if kind == _DOUBLE:
            return self._bytes(8)
        raise ValueError(f"a value of type {kind}, which Parquet does not have")

    def _list(self, depth: int) -> list[Any]:
        head = self._byte()
        count = head >> 4
        if count == 15:
            count = self._size()
        # Every entry takes a byte or more, so that what fails fails before the list is long.
        return [self._value(head & 15, depth) for _ in range(count)]

    def _integer(self) -> int:
        value = self._size()
        return (value >> 1) ^ -(value & 1)

    def _size(self) -> int:
        value = 0
        for shift in range(0, 70, 7):
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise ValueError("a number without an end")

    def _byte(self) -> int:
        return self._bytes(1)[0]

    def _bytes(self, count: int) -> bytes:
        self.place += count
        if self.place > len(self._content):
            raise ValueError("it ends too early")
        return self._content[self.place - count : self.place]
