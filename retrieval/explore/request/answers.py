"""Ask for one user's answer: of the release in this process, or of a running server."""

from __future__ import annotations

from typing import Protocol

from ensemble.client.tensors import Query, Recommendations, Signature, tensors
from retrieval.explore.loaded.explored import Explored

PATIENCE_S = 3.0


class Answers(Protocol):
    """What answers."""

    def signature(self) -> Signature:
        """Return what a request may carry."""
        ...

    def ask(self, query: Query) -> Recommendations:
        """Answer the only row of a query; raise InvalidRequest, or of a server what `RetrievalClient.ask` raises."""
        ...


class InProcess:
    """The release itself, through the code that serves it."""

    def __init__(self, explored: Explored) -> None:
        self._explored = explored

    def signature(self) -> Signature:
        """Return what the release takes."""
        return self._explored.signature

    def ask(self, query: Query) -> Recommendations:
        """Answer the only row of a query."""
        retriever = self._explored.retriever
        with self._explored.lock:
            answer = retriever.answer(retriever.reader.read([tensors(self._explored.signature, query)]))
        count = int(answer.count[0])
        ids, scores = answer.item_id[0, :count].tolist(), answer.score[0, :count].tolist()
        return Recommendations(ids, scores, bool(answer.user_known[0]), retriever.name)


class Served:
    """A running server."""

    def __init__(self, address: str, model: str) -> None:
        from ensemble.client import RetrievalClient  # brings gRPC

        self._client = RetrievalClient(address, model, timeout_s=PATIENCE_S)

    def signature(self) -> Signature:
        """Return what the served model takes."""
        return self._client.signature()

    def ask(self, query: Query) -> Recommendations:
        """Answer the only row of a query."""
        return self._client.ask(query)[0]
