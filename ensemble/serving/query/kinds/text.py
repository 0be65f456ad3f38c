"""The kind `text`: its words and n-grams, as a list of codes."""

from __future__ import annotations

import numpy as np

from ...files.arrays import read_known
from ...files.parameters import Fields
from ..vocabulary import Vocabulary, name_in, tokens
from .base import CODE, Column, Operator, Parts, width_of, with_none

_LETTER_NS = (60.0, 120.0, 180.0)
"""Nanoseconds per character, by the longest n-gram: of a text that is all words of one letter."""


class Text:
    """A text to the codes of its first `max_length` tokens, int64 [n, max_length], then zeros."""

    def __init__(self, fields: Fields, parts: Parts) -> None:
        self._vocabulary = Vocabulary(read_known(parts.folder, name_in(fields, "vocabulary"), "string"))
        self._width, self._ngrams = width_of(fields, parts), fields.integer("ngrams", 1, 3)
        self.codes = self._vocabulary.codes
        self.letter_ns = _LETTER_NS[self._ngrams - 1]
        """Nanoseconds per character of a text, at most."""

    def compute(self, column: Column) -> np.ndarray:
        codes = np.zeros((len(column.values), self._width), dtype=np.int64)
        for row, text in enumerate(with_none(column).tolist()):
            encoded = self._vocabulary.encode(tokens(text, self._ngrams, self._width))
            codes[row, : len(encoded)] = encoded
        return codes


OPERATORS = {"text": Operator(((("string",), False),), CODE, True, Text)}
