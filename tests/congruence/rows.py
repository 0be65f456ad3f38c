"""Answers row by row, from the serving code and from Triton, and whether they are the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tritonclient.grpc as grpc
from tritonclient.utils import np_to_triton_dtype

from ensemble.client.retry import as_input

Rows = list[tuple[list[Any], list[float], bool]]
"""Of each row the item ids, the scores, and whether the user is known."""


def rows_of(ids: Any, scores: Any, counts: Any, known: Any) -> Rows:
    """Return the rows of an answer's arrays."""
    return [
        (
            [item_id.decode() if isinstance(item_id, bytes) else item_id for item_id in ids[row][:count]],
            list(scores[row][:count]),
            bool(flag),
        )
        for row, (count, flag) in enumerate(zip(np.ravel(counts).tolist(), np.ravel(known).tolist(), strict=True))
    ]


def ask(client: grpc.InferenceServerClient, model: str, inputs: Mapping[str, np.ndarray]) -> Rows:
    """Ask a model in Triton."""
    tensors = [as_input(name, np_to_triton_dtype(array.dtype), array) for name, array in inputs.items()]
    result = client.infer(model, tensors)
    return rows_of(*(result.as_numpy(name) for name in ("item_id", "score", "count", "user_known")))


def assert_congruent(actual: Rows, expected: Rows) -> None:
    """Assert the same ids and flags, and scores within 1e-5."""
    assert len(actual) == len(expected)
    for row, (answer, reference) in enumerate(zip(actual, expected, strict=True)):
        assert answer[0] == reference[0], f"row {row}"
        assert answer[2] == reference[2], f"row {row}"
        np.testing.assert_allclose(answer[1], reference[1], rtol=0, atol=1e-5)
