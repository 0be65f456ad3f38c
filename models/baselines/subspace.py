"""The first right singular vectors of a matrix that is only ever multiplied with others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from models.metrics import Float32Array

Multiply = Callable[[Float32Array], Float32Array]
_OVERSAMPLED: Final = 16
_ITERATIONS: Final = 3


def right_vectors(
    times: Multiply,
    transposed_times: Multiply,
    shape: tuple[int, int],
    rank: int,
    near: Float32Array | None = None,
) -> Float32Array:
    """Return them as float32 `[columns, rank]`, those of the largest singular values first.

    By randomised subspace iteration (Halko, Martinsson and Tropp 2011). It starts from random vectors; from `near`,
    float32 `[columns, any number]`, where these span most of what is looked for, and then once is enough.
    """
    width = min(rank + _OVERSAMPLED, *shape)
    random = np.random.default_rng(0)
    basis = random.standard_normal((shape[1], width)).astype(np.float32)
    if near is not None and near.shape[1] > width:
        basis = near @ random.standard_normal((near.shape[1], width)).astype(np.float32)
    elif near is not None:
        basis[:, : near.shape[1]] = near
    for _ in range(_ITERATIONS if near is None else 1):
        basis = np.linalg.qr(transposed_times(times(basis)))[0].astype(np.float32)
    projected = times(basis)
    _, vectors = np.linalg.eigh((projected.T @ projected).astype(np.float64))
    return (basis @ vectors[:, ::-1][:, :rank].astype(np.float32)).astype(np.float32)
