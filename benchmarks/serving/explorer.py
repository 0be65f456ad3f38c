"""The explorer's answers beside the release's own, one user at a time: the answer alone, and the page around it.

    .venv/bin/python -m benchmarks.serving.explorer
    .venv/bin/python -m benchmarks.serving.explorer --quick

The same users are asked in turns, 20 items each, in one process. A page holds the answer, the history, "why" and what
simple models would answer, rendered; it is asked for as a browser does, without the network. Results:
benchmarks/results/explorer.json.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import Parser, write
from benchmarks.serving.onnx_graph import in_turns, released
from ensemble.client.tensors import Query, tensors
from ensemble.serving.retriever import Answer, Retriever
from retrieval.console import silence_libraries, terminal
from retrieval.explore.app import create_app
from retrieval.explore.loaded.explored import Explored
from retrieval.explore.request.answers import InProcess

TOP_K = 20


def main() -> None:
    """Measure and write the results."""
    options = Parser(__doc__, "explorer").options()
    silence_libraries()
    with terminal() as out:
        medians = measure(released(options, out).directory, 5 if options.quick else 100)
    write(options.out, medians)
    sys.stdout.write(json.dumps(medians, indent=1) + "\n")


def measure(run: Path, users: int) -> dict[str, float]:
    """Return medians over users: microseconds of an answer, of the explorer's, and of its page; and their ratio."""
    explored, browser = Explored(run), create_app([run]).test_client()
    answers, points = InProcess(explored), []
    for user in np.random.default_rng(0).permutation(explored.user_ids)[:users].tolist():
        query = Query([user], top_k=TOP_K)
        calls: dict[str, Callable[[], Any]] = {
            "release": partial(answered, explored.retriever, tensors(explored.signature, query)),
            "explorer": partial(answers.ask, query),
        }
        page = {"page": partial(browser.get, f"/user?user={user}&top_k={TOP_K}")}
        points.append({**in_turns(calls, 9), **in_turns(page, 3)})
    medians = {f"{name}_us": round(statistics.median(point[name] for point in points), 1) for name in points[0]}
    ratio = statistics.median(point["explorer"] / point["release"] for point in points)
    return {"top_k": TOP_K, "users": len(points), **medians, "explorer_over_release": round(ratio, 3)}


def answered(retriever: Retriever, sent: dict[str, Any]) -> Answer:
    """Answer a request's tensors as the release does when it is served."""
    return retriever.answer(retriever.reader.read([sent]))


if __name__ == "__main__":
    main()
