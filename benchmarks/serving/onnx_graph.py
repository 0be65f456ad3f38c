"""Latency in process: a release as one ONNX graph beside the release's own code, at 1, 32 and 256 rows.

    .venv/bin/python -m benchmarks.serving.onnx_graph
    .venv/bin/python -m benchmarks.serving.onnx_graph --quick

Both answer the same users with their histories, 100 items each, on one thread, in turns. The release takes a request
that was read and finds users' columns and histories itself; the graph is given them. Results:
benchmarks/results/onnx_graph.json.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before NumPy is imported

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import onnxruntime as ort

from benchmarks.harness import ROOT, Parser, prepared, recipe_of, write
from ensemble.onnx_graph.export import build, request_of
from ensemble.serving.retriever import Retriever
from retrieval.console import Terminal, silence_libraries, terminal
from retrieval.runs.run import Run

TOP_K = 100
ROWS = (1, 32, 256)


def main() -> None:
    """Measure and write the results."""
    options = Parser(__doc__, "onnx_graph").options()
    silence_libraries()
    with terminal() as out:
        points = measure(Retriever.load(released(options, out).release), 5 if options.quick else 100)
    write(options.out, points)
    sys.stdout.write(json.dumps(points, indent=1) + "\n")


def released(options: argparse.Namespace, out: Terminal) -> Run:
    """Return the run of MovieLens-100K with its release, with `--quick` of the recipe that trains fastest."""
    name = "movielens-100k-user" if options.quick else "movielens-100k"
    recipe = recipe_of(ROOT / "recipes" / f"{name}.toml", options)
    return prepared(recipe, options, out, "fetch", "features", "train", "release")


def measure(retriever: Retriever, rounds: int) -> list[dict[str, Any]]:
    """Return the median microseconds of both, for every number of rows."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    model = build(retriever, TOP_K).SerializeToString()
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    users = int(retriever.release.manifest["counts"]["users"])
    points = []
    for rows in ROWS:
        asked_users = np.random.default_rng(0).permutation(users)[:rows]
        _, request, feeds = request_of(retriever, asked_users, TOP_K)
        calls = {"release": partial(retriever.answer, request), "onnx": partial(session.run, None, dict(feeds))}
        medians = in_turns(calls, rounds)
        points.append(
            {"rows": len(asked_users), "top_k": TOP_K, **{f"{name}_us": round(us, 1) for name, us in medians.items()}}
        )
    return points


def in_turns(calls: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Return the median microseconds of each call."""
    micros: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds + 1):  # the first is not counted
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            micros[name].append(1e6 * (time.perf_counter() - start))
    return {name: statistics.median(values[1:]) for name, values in micros.items()}


if __name__ == "__main__":
    main()
