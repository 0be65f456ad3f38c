"""A release in this process, in turns with what else answers from it: as one ONNX graph, and through the explorer.

    .venv/bin/python -m benchmarks.serving.in_process
    .venv/bin/python -m benchmarks.serving.in_process --quick

`onnx_graph.json`, for 1, 32 and 256 rows, 100 items each, on one thread: the release takes a request that was read and
finds users' columns and histories itself; the graph is given them. `explorer.json`, one user at a time, 20 items each:
the answer alone, and the page around it, which holds the history, "why" and what simple models would answer, rendered;
it is asked for as a browser does, without the network. Results: these two files in benchmarks/results/.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before NumPy is imported

import statistics
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from benchmarks.harness import ROOT, Parser, in_turns, prepared, recipe_of, write
from ensemble.client.tensors import Query, tensors
from ensemble.onnx_graph.export import build, request_of
from ensemble.serving.retriever import Answer, Retriever
from retrieval.console import silence_libraries, terminal
from retrieval.explore.app import create_app
from retrieval.explore.loaded.explored import Explored
from retrieval.explore.request.answers import InProcess

ROWS = (1, 32, 256)


def main() -> None:
    """Measure and write the results."""
    options = Parser(__doc__, "in_process").options()
    silence_libraries()
    name = "movielens-100k-user" if options.quick else "movielens-100k"  # the one that trains fastest
    rounds = 5 if options.quick else 100
    with terminal() as out:
        recipe = recipe_of(ROOT / "recipes" / f"{name}.toml", options)
        run = prepared(recipe, options, out, "fetch", "features", "train", "release")
        results = {
            "onnx_graph": graph(Retriever.load(run.release), rounds),
            "explorer": explorer(run.directory, users=rounds),
        }
        for file, points in results.items():
            write(options.out.with_name(f"{file}.json"), points)
        out.json(results)


def graph(retriever: Retriever, rounds: int, top_k: int = 100) -> list[dict[str, Any]]:
    """Return the median microseconds of the release and of its graph, for every number of rows."""
    threads = ort.SessionOptions()
    threads.intra_op_num_threads = 1
    model = build(retriever, top_k).SerializeToString()
    session = ort.InferenceSession(model, threads, providers=["CPUExecutionProvider"])
    users = int(retriever.release.manifest["counts"]["users"])
    points = []
    for rows in ROWS:
        asked_users = np.random.default_rng(0).permutation(users)[:rows]
        _, request, feeds = request_of(retriever, asked_users, top_k)
        calls = {"release": partial(retriever.answer, request), "onnx": partial(session.run, None, dict(feeds))}
        points.append({"rows": len(asked_users), "top_k": top_k, **medians(calls, rounds)})
    return points


def explorer(run: Path, users: int, top_k: int = 20) -> dict[str, float]:
    """Return medians over users: of an answer, of the explorer's, and of its page; and the ratio of the first two."""
    explored, browser = Explored(run), create_app([run]).test_client()
    answers, retriever, points = InProcess(explored), explored.retriever, []
    for user in np.random.default_rng(0).permutation(explored.user_ids)[:users].tolist():
        query = Query([user], top_k=top_k)
        calls: dict[str, Callable[[], Any]] = {
            "release": partial(answered, retriever, tensors(explored.signature, query)),
            "explorer": partial(answers.ask, query),
        }
        page = {"page": partial(browser.get, f"/user?user={user}&top_k={top_k}")}
        points.append({**medians(calls, 9), **medians(page, 3)})
    middle = {name: round(statistics.median(point[name] for point in points), 1) for name in points[0]}
    ratio = statistics.median(point["explorer_us"] / point["release_us"] for point in points)
    return {"top_k": top_k, "users": len(points), **middle, "explorer_over_release": round(ratio, 3)}


def answered(retriever: Retriever, sent: dict[str, Any]) -> Answer:
    """Answer a request's tensors as the release does when it is served."""
    return retriever.answer(retriever.reader.read([sent]))


def medians(calls: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Return the median microseconds of calls, which take turns; the first time of each is not counted."""
    for call in calls.values():
        call()
    spent = in_turns({name: partial(lambda call, _: call(), call) for name, call in calls.items()}, range(rounds))
    return {f"{name}_us": round(1000 * milliseconds, 1) for name, milliseconds in spent.items()}


if __name__ == "__main__":
    main()
