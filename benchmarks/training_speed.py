"""Training speed beside TensorFlow Recommenders: the same rows, features, towers [64, 32] and batch size.

    .venv/bin/python benchmarks/training_speed.py --rounds 3 --epochs 8

Each round trains both models, every training in a process of its own, in turns (A B, B A, ...), so that a machine that
gets slower or faster meanwhile does so for both. Theirs is the model of the tutorial "Building deep retrieval models"
(https://www.tensorflow.org/recommenders/examples/deep_recommenders), its batches cached. Ours is
`models.training.stage.train` on recipes/tutorial.toml, with its own objective and optimiser. Both are validated on the
same rows (theirs by the tutorial's FactorizedTopK, once), which counts for the memory and not for the time. The first
epoch, which traces the graph, does not count. Results: benchmarks/results/training_speed.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from harness import ROOT, Parser, in_process, machine, prepared, recipe_of, told, write
from msgspec.structs import replace

from retrieval.console import Terminal, silence_libraries, terminal
from retrieval.runs.recipe import load_recipe

RECIPE = ROOT / "recipes" / "tutorial.toml"
TOWER, EMBEDDING, BATCH, SEED = (64, 32), 32, 2048, 42
OURS, THEIRS = "merlin-retrieval", "tfrs"


def main() -> None:
    """Measure in turns and write the results; with --worker: train one model and print its figures."""
    parser = Parser(__doc__, "training_speed")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--worker", choices=[OURS, THEIRS], help=argparse.SUPPRESS)
    parser.add_argument("--features", type=Path, help=argparse.SUPPRESS)
    arguments = parser.options()
    if arguments.quick:
        arguments.rounds, arguments.epochs = 1, 2
    if arguments.worker:
        silence_libraries()
        worker = train_ours if arguments.worker == OURS else train_theirs
        sys.stdout.write(json.dumps(worker(arguments.features, arguments.epochs)) + "\n")
        return
    with terminal() as out:
        run = prepared(recipe_of(RECIPE, arguments), arguments, out)
        results = measure(run.directory / "features", arguments.rounds, arguments.epochs, out)
        write(arguments.out, results)
        out.json(results)


def measure(features: Path, rounds: int, epochs: int, out: Terminal) -> dict[str, Any]:
    """Train both models in turns and sum up."""
    started: dict[str, list[dict[str, Any]]] = {OURS: [], THEIRS: []}
    loads = [os.getloadavg()[0]]
    for number in range(rounds):
        for side in (OURS, THEIRS) if number % 2 == 0 else (THEIRS, OURS):
            found = told(in_process(__file__, "--worker", side, "--features", features, "--epochs", epochs))
            started[side].append(found)
            out.say(f"round {number + 1}, {side}: {found['examples_per_s']:,.0f} examples/s, {found['peak_mb']:.0f} MB")
            loads.append(os.getloadavg()[0])
    sides = {side: summed_up(found) for side, found in started.items()}
    return {
        "ratio_vs_tfrs": round(sides[OURS]["examples_per_s"] / sides[THEIRS]["examples_per_s"], 3),
        "memory_ratio_vs_tfrs": round(sides[OURS]["peak_mb"] / sides[THEIRS]["peak_mb"], 3),
        **sides,
        "tower": TOWER,
        "embedding_dim": EMBEDDING,
        "batch_size": BATCH,
        "rounds": rounds,
        "epochs": epochs,
        "machine": {
            **machine("tensorflow-cpu", "tensorflow-recommenders", "merlin-models", "numpy"),
            "threads": os.environ.get("OMP_NUM_THREADS"),
            "load_average": [round(load, 2) for load in loads],
        },
    }


def summed_up(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians over the rounds; all of a round's epochs are kept beside them."""
    return {
        "examples_per_s": round(statistics.median(one["examples_per_s"] for one in rounds)),
        "peak_mb": round(statistics.median(one["peak_mb"] for one in rounds)),
        "imported_mb": round(statistics.median(one["imported_mb"] for one in rounds)),
        "rounds": rounds,
    }


def figures(rows: int, seconds: list[float], peak_mb: float, imported_mb: float) -> dict[str, Any]:
    """Return examples per second of the median epoch, the first left out, and memory."""
    counted = seconds[1:]
    return {
        "examples_per_s": rows / statistics.median(counted),
        "epoch_seconds": [round(one, 3) for one in seconds],
        "peak_mb": round(peak_mb, 1),
        "imported_mb": round(imported_mb, 1),
    }


def train_ours(features: Path, epochs: int) -> dict[str, Any]:
    """Train by the project's own stage; the time of an epoch is what its history says."""
    from models.training.stage import train
    from workflows.features.stage import load

    recipe = load_recipe(RECIPE)
    model = replace(recipe.model, tower=TOWER, embedding_dim=EMBEDDING)
    settings = replace(recipe.train, epochs=epochs, patience=epochs, batch_size=BATCH, refit=False, distillation=None)
    data = load(features)
    rows = len(data.train.interactions) // BATCH * BATCH  # the short last batch is left out
    imported, peaks = peak_mb(), []
    with tempfile.TemporaryDirectory() as name:

        def progress(message: str) -> None:  # once per epoch: the export, which comes later, is not training
            peaks.append(peak_mb())

        train(data, model, settings, SEED, "cpu", Path(name), progress)
        history = json.loads((Path(name) / "history.json").read_text(encoding="utf-8"))
    return figures(rows, [epoch["seconds"] for epoch in history], peaks[epochs - 1], imported)


def train_theirs(features: Path, epochs: int) -> dict[str, Any]:
    """Train the tutorial's model.

    TFRS imports ScaNN where it is installed; beside TensorFlow 2.12 that fails, and not with the ImportError that TFRS
    is ready for. So ScaNN, which nothing here needs, is made one that is not installed.
    """
    sys.modules["scann"] = None  # type: ignore[assignment]  # what import takes for "not there"
    import numpy as np
    import pandas as pd
    import tensorflow as tf
    import tensorflow_recommenders as tfrs

    tf.keras.utils.set_random_seed(SEED)
    titles = pd.read_parquet(features / "catalogue.parquet")["title"].to_numpy(str)
    columns, valid = (columns_of(features / part / "interactions.parquet", titles) for part in ("train", "valid"))
    imported, seconds = peak_mb(), list[float]()
    queries = query_tower(tf, np.unique(columns["user_id"]), columns["timestamp"])
    candidates = candidate_tower(tf, titles)

    class Tutorial(tfrs.models.Model):
        def __init__(self) -> None:
            super().__init__()
            self.queries, self.candidates = queries, candidates
            movies = tf.data.Dataset.from_tensor_slices(titles).batch(128).map(candidates)
            self.task = tfrs.tasks.Retrieval(metrics=tfrs.metrics.FactorizedTopK(candidates=movies))

        def compute_loss(self, features: dict[str, tf.Tensor], training: bool = False) -> tf.Tensor:
            found = self.queries(features), self.candidates(features["movie_title"])
            return self.task(*found, compute_metrics=not training)

    model = Tutorial()
    model.compile(optimizer=tf.keras.optimizers.Adagrad(0.1))
    data = tf.data.Dataset.from_tensor_slices(columns).shuffle(100_000, seed=SEED).batch(BATCH).cache()
    asked = tf.data.Dataset.from_tensor_slices(valid).batch(4096).cache()
    clock = epoch_clock(tf, seconds)
    model.fit(data, epochs=epochs, verbose=0, validation_data=asked, validation_freq=epochs, callbacks=[clock])
    return figures(len(columns["user_id"]), seconds, peak_mb(), imported)


def columns_of(path: Path, titles: Any) -> dict[str, Any]:
    """Read what the tutorial's model is fed: user ids and titles as strings, and the time."""
    import pandas as pd

    rows = pd.read_parquet(path)
    return {
        "user_id": rows["user_id"].astype(str).to_numpy(str),
        "timestamp": rows["timestamp"].to_numpy("int64"),
        "movie_title": titles[rows["item_index"].to_numpy()],
    }


def query_tower(tf: Any, users: Any, timestamps: Any) -> Any:
    """Return the tutorial's query model: user id, time in 1000 buckets, time normalised."""
    import numpy as np

    edges = np.linspace(timestamps.min(), timestamps.max(), num=1000)
    user = lookup_embedding(tf, users, None)
    bucket = tf.keras.Sequential(
        [tf.keras.layers.Discretization(edges.tolist()), tf.keras.layers.Embedding(len(edges) + 1, EMBEDDING)]
    )
    normalised = tf.keras.layers.Normalization(axis=None)
    normalised.adapt(timestamps)

    class Queries(tf.keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.user, self.bucket, self.normalised, self.dense = user, bucket, normalised, dense(tf)

        def call(self, features: dict[str, Any]) -> Any:
            time = features["timestamp"]
            number = tf.reshape(self.normalised(time), (-1, 1))
            return self.dense(tf.concat([self.user(features["user_id"]), self.bucket(time), number], axis=1))

    return Queries()


def candidate_tower(tf: Any, titles: Any) -> Any:
    """Return the tutorial's candidate model: the title, and the words of the title."""
    title = lookup_embedding(tf, titles, None)
    words = tf.keras.layers.TextVectorization(max_tokens=10_000)
    words.adapt(titles)
    text = tf.keras.Sequential(
        [
            words,
            tf.keras.layers.Embedding(10_000, EMBEDDING, mask_zero=True),
            tf.keras.layers.GlobalAveragePooling1D(),
        ]
    )

    class Candidates(tf.keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.title, self.text, self.dense = title, text, dense(tf)

        def call(self, titles: Any) -> Any:
            return self.dense(tf.concat([self.title(titles), self.text(titles)], axis=1))

    return Candidates()


def lookup_embedding(tf: Any, vocabulary: Any, mask: str | None) -> Any:
    lookup = tf.keras.layers.StringLookup(vocabulary=vocabulary, mask_token=mask)
    return tf.keras.Sequential([lookup, tf.keras.layers.Embedding(len(vocabulary) + 1, EMBEDDING)])


def dense(tf: Any) -> Any:
    """Return the layers of a tower: ReLU between them, none after the last."""
    hidden = [tf.keras.layers.Dense(width, activation="relu") for width in TOWER[:-1]]
    return tf.keras.Sequential([*hidden, tf.keras.layers.Dense(TOWER[-1])])


def epoch_clock(tf: Any, seconds: list[float]) -> Any:
    """Return a callback that notes how long the batches of every epoch took, without the validation after them."""
    clock = {"started": 0.0, "batch": 0.0}

    def begin(epoch: int, logs: Any) -> None:
        clock["started"] = time.perf_counter()

    def batch(number: int, logs: Any) -> None:
        clock["batch"] = time.perf_counter()

    def end(epoch: int, logs: Any) -> None:
        seconds.append(clock["batch"] - clock["started"])

    return tf.keras.callbacks.LambdaCallback(on_epoch_begin=begin, on_train_batch_end=batch, on_epoch_end=end)


def peak_mb() -> float:
    """Return the most memory that this process has held, in MB.

    Not `getrusage`: a process inherits that figure from the one that started it.
    """
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    main()
