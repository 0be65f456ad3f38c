"""Labels for new items without a classifier: the mean vector of the items of a class is that class's weight vector.

Weight imprinting (Qi, Brown and Lowe, CVPR 2018, arXiv:1712.07136) and prototypical networks (Snell, Swersky and Zemel,
NeurIPS 2017, arXiv:1703.05175), here with the vectors of an item tower; k nearest neighbours are what they are compared
with (docs/models.md).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ensemble.serving.index.vectors import normalised

NEIGHBOURS = 20
_BLOCK = 1024
_LEAST = np.float32(1e-12)
_Doubles = npt.NDArray[np.float64]
_Floats = npt.NDArray[np.float32]
_Mask = npt.NDArray[np.bool_]


class Prototypes:
    """The probability of each class, from the cosine of an item's vector with the mean vector of the class.

    Vectors are centred by the mean of all items, which says nothing of a class, and scaled to length 1. Classes differ
    in frequency and in how widely their cosines spread, so each class has a slope and an offset of the log odds, by
    linear discriminant analysis (Fisher 1936): of the cosines of its items, each with the mean of the others, against
    those of all other items. Nothing is trained.
    """

    def __init__(self, vectors: _Floats, labels: _Mask) -> None:
        """Take items, float32 [items, d], and their classes, bool [items, classes]; no class is empty."""
        lengthless = normalised(vectors)
        self._centre = lengthless.mean(axis=0)
        own = normalised(lengthless - self._centre)
        sums = own.T @ labels.astype(np.float32)
        length = np.sqrt(np.einsum("dc,dc->c", sums, sums))
        self.weights = sums / np.maximum(length, _LEAST)
        """float32 [d, classes]: the means, with length 1."""
        product = own @ sums
        without = np.sqrt(np.maximum(length**2 - 2 * product + 1, _LEAST))
        cosines = np.where(labels, (product - 1) / without, product / np.maximum(length, _LEAST))
        self.slope, self.offset = _discriminants(cosines, labels)

    def score(self, vectors: _Floats) -> _Floats:
        """Return the probabilities, float32 [n, classes]; an item may be of several classes, or of none."""
        cosines = normalised(normalised(vectors) - self._centre) @ self.weights
        odds = np.clip(cosines.astype(np.float64) * self.slope + self.offset, -700, 700)
        return (1 / (1 + np.exp(-odds))).astype(np.float32)


class Neighbours:
    """Each class's share of the cosines of the `k` nearest labelled items."""

    def __init__(self, vectors: _Floats, labels: _Mask, k: int = NEIGHBOURS) -> None:
        """Take items as `Prototypes` does; all of them are kept."""
        self._vectors = np.ascontiguousarray(normalised(vectors).T)
        self._labels, self.k = labels.astype(np.float32), min(k, len(vectors))

    def score(self, vectors: _Floats) -> _Floats:
        """Return the share of the neighbours' cosines, float32 [n, classes]; negative ones count nothing."""
        blocks = (vectors[start : start + _BLOCK] for start in range(0, len(vectors), _BLOCK))
        return np.concatenate([self._scores(block) for block in blocks])

    def _scores(self, vectors: _Floats) -> _Floats:
        cosines = normalised(vectors) @ self._vectors
        nearest = np.argpartition(-cosines, self.k - 1, axis=1)[:, : self.k]
        weights = np.maximum(np.take_along_axis(cosines, nearest, axis=1), 0)
        total = np.maximum(weights.sum(axis=1, keepdims=True), _LEAST)
        return np.einsum("nk,nkc->nc", weights / total, self._labels[nearest])


def _discriminants(cosines: npt.NDArray[np.floating], labels: _Mask) -> tuple[_Doubles, _Doubles]:
    """Return slope (never negative) and offset of the log odds of every class, float64 [classes]."""
    count, cosines = labels.sum(axis=0), cosines.astype(np.float64)
    others = len(labels) - count
    inside = (cosines * labels).sum(axis=0) / count
    outside = (cosines * ~labels).sum(axis=0) / np.maximum(others, 1)
    square = (cosines - np.where(labels, inside, outside)) ** 2
    slope = np.maximum(inside - outside, 0) / np.maximum(square.mean(axis=0), _LEAST)
    return slope, np.log((count + 1) / (others + 1)) - slope * (inside + outside) / 2


def quality(scores: npt.NDArray[np.floating], truth: _Mask) -> dict[str, float]:
    """Return how well scores, [n, classes], rank the true classes, bool [n, classes]; rows without a class are left
    out.

    `precision@1`: the first class is right. `accuracy`: the same over items with a single class. `map`: the average
    precision of the items in order of their scores, averaged over classes. `ranking_precision`: the average precision
    of the classes, averaged over items. A score that is not finite ranks last and is never right.
    """
    labelled = truth.any(axis=1)
    scores, truth = np.where(np.isfinite(scores), scores, -np.inf)[labelled], truth[labelled]
    if not len(truth):
        return {"items": 0}
    best = np.arange(len(truth)), scores.argmax(axis=1)
    first = truth[best] & np.isfinite(scores[best])
    single, present = truth.sum(axis=1) == 1, truth.any(axis=0)
    figures = {"items": len(truth), "precision@1": float(first.mean()), "single_class_items": int(single.sum())}
    if single.any():
        figures["accuracy"] = float(first[single].mean())
    figures["map"] = float(average_precision(scores[:, present].T, truth[:, present].T).mean())
    return {**figures, "ranking_precision": float(average_precision(scores, truth).mean())}


def average_precision(scores: npt.NDArray[np.floating], truth: _Mask) -> npt.NDArray[np.float64]:
    """Return each row's average precision, float64 [n]; every row has a true entry.

    Equal scores are put in the least favourable order, so that a constant earns nothing.
    """
    order = np.lexsort((truth, -scores), axis=1)
    hits = np.take_along_axis(truth, order, axis=1)
    precision = hits.cumsum(axis=1) / np.arange(1, hits.shape[1] + 1)
    return np.asarray((precision * hits).sum(axis=1) / hits.sum(axis=1))
