"""How text becomes tokens. `ensemble/serving/query/vocabulary.py` holds the same rules; tests keep the two equal."""

from __future__ import annotations

import re

_WORD = re.compile(r"[^\W_]+")


def tokens(text: str | None, ngrams: int) -> list[str]:
    """Return the distinct lower-cased words of `text`, then its distinct n-grams, each in order of appearance.

    A word is a maximal run of Unicode letters and digits; an n-gram is `n` neighbouring words joined by a space.
    A null and a text without words give an empty list.
    """
    if text is None:
        return []
    words = _WORD.findall(text.lower())
    runs = (" ".join(words[i : i + n]) for n in range(1, ngrams + 1) for i in range(len(words) - n + 1))
    return list(dict.fromkeys(runs))
