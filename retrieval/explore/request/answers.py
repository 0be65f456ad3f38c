"""One user's answer, of the release in this process."""

from __future__ import annotations

from ensemble.client.tensors import Query, Recommendations, Signature, tensors
from retrieval.explore.loaded.explored import Explored


class InProcess:
    """The release itself, through the code that serves it; asked as a `RetrievalClient` is."""

    def __init__(self, explored: Explored) -> None:
        self._explored = explored

    def signature(self) -> Signature:
        """Return what the release takes."""
        return self._explored.signature

    def ask(self, query: Query) -> list[Recommendations]:
        """Answer the only row of a query; raise InvalidRequest."""
        retriever = self._explored.retriever
        with self._explored.lock:
            answer = retriever.answer(retriever.reader.read([tensors(self._explored.signature, query)]))
        count = int(answer.count[0])
        ids, scores = answer.item_id[0, :count].tolist(), answer.score[0, :count].tolist()
        return [Recommendations(ids, scores, bool(answer.user_known[0]), retriever.name)]
