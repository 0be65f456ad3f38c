"""The worst requests that a server takes, of every kind: how long each is, and how long a neighbour waits meanwhile.

    .venv/bin/python -m benchmarks.serving.worst_requests                     # 1,659 items and a million
    .venv/bin/python -m benchmarks.serving.worst_requests --quick             # 1,659 items, some kinds

Releases are those of benchmarks/serving/worst_release.py, served by a real Triton in both layouts. Every kind is asked
with as many rows as a request may have; where that is refused, with half as many until it is answered: the worst that
is permitted. A neighbour asks for one user at a time all the while. `cpu_seconds` is what the server's processes took
for a request, the neighbour's included. Results: benchmarks/results/worst_requests.json.
"""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import tritonclient.grpc as grpc
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from benchmarks.faults.load import ClientLoad, percentile_ms
from benchmarks.harness import Parser, say, served, store
from benchmarks.serving.worst_release import GENRES, USERS, Made, catalogue, make_release
from ensemble.client.retry import as_input
from ensemble.client.tensors import Query

KEY = ("items", "ids", "ranks", "model", "kind", "most_rows")
CATALOGUES = ((1659, "int64", False), (1659, "string", False), (1659, "int64", True), (1_000_000, "int64", False))
"""Items, ids, and whether the release ranks."""
MODELS = ("retrieval", "retrieval_chained")
ROWS, TOP_K, IDS, CLICKS, VALUES = 256, 1000, 10_000, 1000, 1000
"""What a request may have at most, as a release is written by default."""
REPEATS = 3
LETTERS = b"a " * 32_768
"""The text of a query column with the most words that it may have."""
QUICK = (
    "plain",
    "long texts",
    "tag repeated, any",
    "allowed ids",
    "crowding, largest top_k",
    "not JSON, long",
    "everything",
)
_Array = np.ndarray
Inputs = dict[str, _Array]
Ask = Callable[[int], Inputs]
"""One way to ask for much work, from a number of rows."""


class Kinds:
    """The worst requests for one catalogue."""

    def __init__(self, release: Made) -> None:
        self.items = len(release.item_ids)
        self.ids = np.array(release.item_ids, dtype=object if isinstance(release.item_ids[0], str) else np.int64)
        table = catalogue(release.item_ids)
        self.labels = sorted({label for labels in table["labels"] for label in labels})
        self.rng = np.random.default_rng(7)

    def all(self) -> dict[str, Ask]:
        """Return every kind; each row of a request differs from the others, so that nothing is compiled once."""
        filters: dict[str, Callable[[int], Any]] = {
            **{f"tag repeated, {test}": partial(self.repeated, test) for test in ("any", "all", "none")},
            **{f"different tags, {test}": partial(self.different, test) for test in ("any", "all", "none")},
            "allowed ids": lambda _: {"allow": self.some_ids(IDS).tolist()},
            "denied ids": lambda _: {"deny": self.some_ids(IDS).tolist()},
            "ranges": lambda row: {"ranges": {"year": {"min": 1950 + row % 50}, "price": {"min": row / 100}}},
            "crowding": lambda row: {"crowding": {"attribute": "genres", "limit": 1 + row % 3}, "min_score": -row},
            "crowding, numbers": lambda row: {"crowding": {"attribute": "year", "limit": 1}, "min_score": -row},
            "min_score": lambda row: {"min_score": row / 1000},
            "misspelt tag": lambda row: self.tags("labels", "any", [*self.some_labels()[1:], f"x{row}" * 2000]),
        }
        return {
            "plain": self.plain,
            "largest top_k": self.widest,
            "excluded ids": lambda rows: {**self.plain(rows), "exclude_item_ids": self.lists(rows, IDS)},
            "history": self.clicks,
            "long texts": lambda rows: {**self.plain(rows), "about": np.full((rows, 1), LETTERS, dtype=object)},
            "long history of a known user": lambda rows: {"user_id": np.zeros((rows, 1), dtype=np.int64)},
            **{name: partial(self.filtered, make) for name, make in filters.items()},
            "crowding, largest top_k": lambda rows: {**self.filtered(filters["crowding"], rows), **self.k(rows)},
            "ranges, largest top_k": lambda rows: {**self.filtered(filters["ranges"], rows), **self.k(rows)},
            "not JSON, long": lambda rows: self.texts([b"[" + b"{}," * 100_000] * min(rows, 16), rows),
            "the last filter is wrong": self.last_wrong,
            "everything": self.everything,
        }

    def plain(self, rows: int) -> Inputs:
        """Ask for as many users."""
        return {"user_id": (np.arange(rows, dtype=np.int64) % USERS)[:, None]}

    def k(self, rows: int) -> Inputs:
        """Ask for as many answers as may be."""
        return {"top_k": np.full((rows, 1), TOP_K, dtype=np.int32)}

    def widest(self, rows: int) -> Inputs:
        """Ask for users with as many answers as may be."""
        return {**self.plain(rows), **self.k(rows)}

    def lists(self, rows: int, width: int) -> _Array:
        """Return lists of ids of items."""
        return np.stack([self.some_ids(width) for _ in range(rows)])

    def clicks(self, rows: int) -> Inputs:
        """Ask with a history of as many clicks as may be."""
        times = np.full((rows, CLICKS), 1_500_000_000, dtype=np.int64)
        return {**self.plain(rows), "history_item_ids": self.lists(rows, CLICKS), "history_timestamps": times}

    def some_ids(self, count: int) -> _Array:
        """Return ids of items, some of them several times."""
        chosen: _Array = self.ids[self.rng.integers(0, self.items, count)]
        return chosen

    def some_labels(self) -> list[str]:
        """Return as many different values as a test may have."""
        return [self.labels[place] for place in self.rng.permutation(len(self.labels))[:VALUES]]

    def repeated(self, test: str, row: int) -> Any:
        """Return a filter that names one tag as often as it may."""
        return self.tags("genres", test, [str(row % GENRES)] * VALUES)

    def different(self, test: str, _: int) -> Any:
        """Return a filter of as many tags as it may name."""
        return self.tags("labels", test, self.some_labels())

    def tags(self, name: str, test: str, values: list[str]) -> Any:
        """Return a filter of one test."""
        return {"tags": {name: {test: values}}}

    def filtered(self, make: Callable[[int], Any], rows: int) -> Inputs:
        """Ask with a filter for each row."""
        return self.texts([json.dumps(make(row)).encode() for row in range(rows)], rows)

    def texts(self, texts: list[bytes], rows: int) -> Inputs:
        """Ask with the texts of filters, none for the rows past the last."""
        column = np.array([*texts, *[b""] * (rows - len(texts))], dtype=object)
        return {**self.plain(rows), "filter": column[:, None]}

    def last_wrong(self, rows: int) -> Inputs:
        """Ask with many different tags, one of them misspelt in the last row."""
        filters = [self.tags("labels", "any", self.some_labels()) for _ in range(rows - 1)]
        return self.filtered(
            lambda row: filters[row] if row < rows - 1 else self.tags("labels", "any", ["none such"]), rows
        )

    def everything(self, rows: int) -> Inputs:
        """Ask for all of it at once."""
        filter_ = {
            "allow": self.some_ids(IDS // 2).tolist(),
            "tags": {"labels": {"none": self.some_labels()[: VALUES // 10]}},
            "ranges": {"price": {"min": 1.0}},
            "crowding": {"attribute": "brand", "limit": 2},
        }
        filtered = self.filtered(lambda row: {**filter_, "min_score": -float(row)}, rows)
        return {**filtered, **self.clicks(rows), **self.k(rows), "exclude_item_ids": self.lists(rows, IDS // 10)}


def small() -> Iterator[Query]:
    """Yield a neighbour's queries, one user at a time, with a pause before each."""
    for user in cycle(range(USERS)):
        time.sleep(0.01)
        yield Query([user], 10)


class Asker:
    """Sends what it is told to and waits for the answer."""

    def __init__(self, address: str, model: str, processes: list[psutil.Process]) -> None:
        self.channel, self.model, self._processes = grpc.InferenceServerClient(address), model, processes

    def ask(self, inputs: Inputs, repeats: int) -> dict[str, Any]:
        """Return seconds, CPU seconds of the server, and what became of the requests."""
        tensors = [as_input(name, np_to_triton_dtype(array.dtype), array) for name, array in inputs.items()]
        seconds, used, outcome, reason = [], self._cpu(), "answered", ""
        for _ in range(repeats):
            start = time.perf_counter()
            try:
                self.channel.infer(self.model, tensors, client_timeout=300.0)
            except InferenceServerException as error:
                outcome, reason = str(error.status()).removeprefix("StatusCode."), error.message()[:300]
            seconds.append(time.perf_counter() - start)
        return {
            "rows": len(inputs["user_id"]),
            "outcome": outcome,
            "median_s": round(statistics.median(seconds), 3),
            "max_s": round(max(seconds), 3),
            "cpu_seconds": round((self._cpu() - used) / repeats, 3),
            **({"reason": reason} if reason else {}),
        }

    def _cpu(self) -> float:
        return sum(sum(process.cpu_times()[:2]) for process in self._processes)


def main() -> None:
    """Build, serve, ask and write the results, each as soon as it is there."""
    options = Parser(__doc__, "worst_requests").options()
    for items, ids, ranks in CATALOGUES[:1] if options.quick else CATALOGUES:
        place = options.runs / f"{items}-{ids}{'-ranks' if ranks else ''}"
        place.mkdir(parents=True, exist_ok=True)
        subject = make_release(place, items, ids, ranks, say)
        for figures in measured(subject, place, options.quick):
            store({"items": items, "ids": ids, "ranks": ranks, **figures}, options.out, KEY)
            say(json.dumps(figures))


def measured(release: Made, place: Path, quick: bool) -> Iterator[dict[str, Any]]:
    """Serve a release, and yield the figures of every kind and model."""
    kinds = Kinds(release).all()
    with started(release.path, place / "triton") as (address, processes):
        for model in MODELS[:1] if quick else MODELS:
            asker = Asker(address, model, processes)
            for name in QUICK if quick else kinds:
                yield from worst(asker, name, kinds[name], address, 1 if quick else REPEATS)


def worst(asker: Asker, kind: str, ask: Ask, address: str, repeats: int) -> Iterator[dict[str, Any]]:
    """Yield the figures of a kind with all rows and, where that is too much, with as many as are answered."""
    rows = ROWS
    while True:
        inputs = ask(rows)
        with ClientLoad(address, small(), 1, asker.model) as neighbour:
            figures = asker.ask(inputs, repeats)
        slow, counts = percentile_ms(neighbour.seen.latency_s, 99) or float("nan"), neighbour.seen.counts
        point = {"kind": kind, "model": asker.model, **figures}
        point |= {"neighbour_p99_s": round(slow / 1000, 3), "neighbour_failed": counts.sent - counts.answered}
        too_much = "max_request_milliseconds" in figures.get("reason", "")
        if rows == ROWS or not too_much:
            yield {**point, "most_rows": rows == ROWS, "load": round(os.getloadavg()[0], 1)}
        if not too_much or rows == 1:
            return
        rows //= 2


@contextmanager
def started(release: Path, repository: Path) -> Iterator[tuple[str, list[psutil.Process]]]:
    """Serve a release in both layouts; yield the address and the server's processes."""
    from ensemble.triton.export import export_repository

    export_repository(release, repository, "both")
    with served(repository, start_timeout_seconds=600) as server:
        process = psutil.Process(server.process_id)
        yield server.addresses.grpc, [process, *process.children(recursive=True)]


if __name__ == "__main__":
    main()
