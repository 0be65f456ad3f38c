"""Ways to ask for answers: from a release in this process, or from a running server."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from retrieval.report.examples import Ask


def from_release(release: Path) -> Ask:
    """Return what asks the release in this process, without a server."""
    from ensemble.serving.retriever import Retriever

    retriever = Retriever.load(release)
    id_type: type = object if retriever.release.manifest["id_dtype"]["user_id"] == "string" else np.int64

    def ask(users: Sequence[Any], top_k: int, times: Sequence[int]) -> list[list[tuple[Any, float]]]:
        ids: np.ndarray = np.array(users, dtype=id_type).reshape(-1, 1)
        inputs = {
            "user_id": ids,
            "top_k": np.full(ids.shape, top_k, np.int32),
            "timestamp": np.array(times, dtype=np.int64).reshape(-1, 1),
        }
        answer = retriever.answer(retriever.reader.read([inputs]))
        rows = zip(answer.item_id.tolist(), answer.score.tolist(), answer.count.tolist(), strict=True)
        return [list(zip(items[:count], scores[:count], strict=True)) for items, scores, count in rows]

    return ask


def from_server(address: str, model: str) -> Ask:
    """Return what asks a model of the server at `address` over gRPC."""
    from ensemble.client import RetrievalClient

    def ask(users: Sequence[Any], top_k: int, times: Sequence[int]) -> list[list[tuple[Any, float]]]:
        with RetrievalClient(address, model) as client:
            answers = client.recommend(users, top_k=top_k, timestamps=times)
        return [list(zip(answer.item_ids, answer.scores, strict=True)) for answer in answers]

    return ask
