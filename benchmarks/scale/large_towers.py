"""Towers of ten million users and two million items: a training step, export, release, loading, serving.

    .venv/bin/python -m benchmarks.scale.large_towers
    .venv/bin/python -m benchmarks.scale.large_towers --quick

Ids are whole numbers and features of their towers, in tables of 64 numbers; no more than a few batches of interactions
are made up, since rows are not the point. `load` opens the release in a process of its own: `verified_seconds` is for
its hashes and documents, `seconds` for what answers. `serve` starts Triton with two processes of the model and asks for
many users; `private_mb` is what a process shares with no file and no other process, `uss_mb` that and the mapped pages
that only it has touched. Results: benchmarks/results/large_towers.json.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import psutil

from benchmarks.harness import Parser, in_process, machine, peak_mb, say, served, told, write
from retrieval.console import silence_libraries
from workflows.files import json_bytes

DIM, BATCHES, QUESTIONS = 64, 3, 1_000
FIRST = 3
"""The code of the first known value."""
MEGABYTE = 2**20


class Sizes(NamedTuple):
    """How many users and items there are, and rows in a batch."""

    users: int
    items: int
    batch: int


QUICK, WHOLE = Sizes(20_000, 10_000, 256), Sizes(10_000_000, 2_000_000, 8192)


def main() -> None:
    """Measure one part after the other and write the results."""
    parser = Parser(__doc__, "large_towers")
    parser.add_argument("--part", choices=("train", "release", "load"), help="one part only, in this process")
    options = parser.options()
    sizes, place = QUICK if options.quick else WHOLE, options.runs / "large_towers"
    if options.part:
        silence_libraries()
        sys.stdout.write(
            json.dumps({"train": train, "release": release, "load": load}[options.part](sizes, place)) + "\n"
        )
        return
    shutil.rmtree(place, ignore_errors=True)
    arguments = ["--runs", options.runs, *(["--quick"] if options.quick else [])]
    figures: dict[str, Any] = sizes._asdict() | {"dim": DIM}
    for part in ("train", "release", "load"):
        figures[part] = told(in_process(__file__, "--part", part, *arguments))
        say(f"{part}: {figures[part]}")
    figures["serve"] = serve(sizes, place)
    say(f"serve: {figures['serve']}")
    write(options.out, {**figures, "machine": machine("tensorflow-cpu", "onnxruntime", "faiss-cpu")})


def rows_of(sizes: Sizes) -> pd.DataFrame:
    """Return a few batches of interactions."""
    random, size = np.random.default_rng(0), sizes.batch * BATCHES
    users, items = np.sort(random.integers(0, sizes.users, size)), random.integers(0, sizes.items, size)
    times = np.arange(size) + 1_600_000_000
    return pd.DataFrame({"user_id": users, "item_id": items, "item_index": items, "timestamp": times})


def train(sizes: Sizes, place: Path) -> dict[str, Any]:
    """Take a few steps of the towers and export them."""
    import tensorflow as tf

    from models.config import Model, Objective, Sampled, Train
    from models.towers.two_tower import TwoTowerModel
    from models.training.export import export_towers
    from models.training.horovod import Ranks
    from models.training.losses.objective import Labels, build_loss
    from models.training.losses.sampling import TrainingRows
    from models.training.optimizer import build_optimizer
    from workflows.features.stage import FeatureSet, FeatureSpec, Part

    def spec(name: str, count: int) -> FeatureSpec:
        return FeatureSpec(
            name=name, source=name, kind="categorical", dtype="int64", cardinality=count + FIRST, max_length=0
        )

    config, rows = Model(tower=(128, DIM), embedding_dim=DIM), rows_of(sizes)
    query, item = [spec("user_id", sizes.users)], [spec("item_id", sizes.items)]
    codes = rows["user_id"].to_numpy() + FIRST
    items, seen = {"item_id": np.arange(sizes.items) + FIRST}, TrainingRows(rows, sizes.items)
    loss = build_loss(Objective(candidates=Sampled(uniform=2048)), seen, DIM)
    towers = TwoTowerModel(query, item, items, config, loss)
    towers.compile(optimizer=build_optimizer(Train(), BATCHES, Ranks()))
    labels = Labels(seen.items, seen.users, tf.ones(len(rows)))
    began = time.perf_counter()
    batches = tf.data.Dataset.from_tensor_slices(({"user_id": codes}, labels)).batch(sizes.batch, drop_remainder=True)
    towers.fit(batches, verbose=0)
    stepped = time.perf_counter()
    part = Part({"user_id": codes[:1000]}, rows[:1000])
    data = FeatureSet(part, part, part, items, query, item, pd.DataFrame(), pd.DataFrame())
    export_towers(towers, data, 1, place / "towers")
    exported = round(time.perf_counter() - stepped, 1)
    files = sorted((place / "towers").rglob("*.npy")) + sorted((place / "towers").glob("*.onnx"))
    return {
        "seconds_of_3_steps": round(stepped - began, 1),
        "export_seconds": exported,
        "peak_rss_mb": round(peak_mb()),
        "files_mb": {str(file.relative_to(place / "towers")): file.stat().st_size // MEGABYTE for file in files},
    }


def release(sizes: Sizes, place: Path) -> dict[str, Any]:
    """Write features as the stage would, the release and its Triton repository."""
    from ensemble.config import Index, Serving
    from ensemble.release.write import Parts, Settings, Training, write_release
    from ensemble.triton.export import export_repository

    _write_features(sizes, place / "features")
    began = time.perf_counter()
    index = Index(kind="flat")  # the tables are the point: nothing is built
    serving = Serving(instances=2)
    parts = Parts(place / "features", place / "towers", place / "release")
    write_release(parts, Training(), Settings("large-towers", "0" * 64, serving, index), say)
    export_repository(place / "release", place / "triton")
    size = sum(file.stat().st_size for file in (place / "release").rglob("*") if file.is_file())
    return {
        "seconds": round(time.perf_counter() - began, 1),
        "peak_rss_mb": round(peak_mb()),
        "release_mb": size // MEGABYTE,
    }


def _write_features(sizes: Sizes, features: Path) -> None:
    rows, users, items = rows_of(sizes), np.arange(sizes.users), np.arange(sizes.items)
    for name, chosen in {"train": rows[:-300], "valid": rows[-300:-150], "test": rows[-150:]}.items():
        (features / name).mkdir(parents=True)
        chosen.to_parquet(features / name / "interactions.parquet")
    pd.DataFrame({"user_id": users}).to_parquet(features / "users.parquet")
    pd.DataFrame({"item_id": items}).to_parquet(features / "catalogue.parquet")
    (features / "features.json").write_text('{"asked": "all"}')
    for side, name, ids in (("query", "user_id", users), ("item", "item_id", items)):
        vocabulary = features / f"{side}_transform" / "vocabulary"
        vocabulary.mkdir(parents=True)
        np.save(vocabulary / f"{name}.npy", ids)
        document = {
            "format": 1,
            "inputs": [{"name": name, "dtype": "int64", "list": False}],
            "steps": [{"op": "categorical", "input": name, "output": name, "vocabulary": name}],
            "outputs": [{"name": name, "dtype": "int64", "list": False, "max_length": 0}],
        }
        (vocabulary.parent / "transform.json").write_bytes(json_bytes(document))


def load(sizes: Sizes, place: Path) -> dict[str, Any]:
    """Open the release, and load what answers; then answer one user."""
    from ensemble.serving.files.release import Release
    from ensemble.serving.retriever import Retriever
    from ensemble.serving.selftest import SelfTest

    began = time.perf_counter()
    opened = Release.open(place / "release")
    verified = time.perf_counter()
    retriever = Retriever(opened)
    loaded = time.perf_counter()
    retriever.tower.encode({"user_id": np.arange(FIRST, FIRST + 1)})
    answered = time.perf_counter()
    SelfTest.load(opened).check(retriever)
    return {
        "verified_seconds": round(verified - began, 2),
        "seconds": round(loaded - verified, 2),
        "first_vector_ms": round(1000 * (answered - loaded), 2),
        "private_mb": private(psutil.Process()),
    }


def serve(sizes: Sizes, place: Path) -> dict[str, Any]:
    """Start Triton, ask it, and look at the processes of the model."""
    from concurrent.futures import ThreadPoolExecutor

    from ensemble.client import RetrievalClient

    users = np.random.default_rng(1).integers(0, sizes.users, (QUESTIONS // 4, 4)).tolist()
    began = time.perf_counter()
    serving = served(place / "triton", start_timeout_seconds=600)
    with serving as server, RetrievalClient(server.addresses.grpc) as client:
        ready = time.perf_counter() - began
        with ThreadPoolExecutor(4) as pool:
            for _ in pool.map(lambda batch: client.recommend(batch, top_k=10), users):
                pass
        family = psutil.Process(server.process_id).children(recursive=True)
        stubs = sorted(family, key=lambda stub: stub.memory_info().rss)[-2:]
        return {
            "seconds_until_ready": round(ready, 1),
            "processes": [
                {
                    "rss_mb": stub.memory_info().rss // MEGABYTE,
                    "uss_mb": stub.memory_full_info().uss // MEGABYTE,
                    "private_mb": private(stub),
                }
                for stub in stubs
            ],
        }


def private(process: psutil.Process) -> int:
    """Return the memory that a process shares with no file and no other process, in MB."""
    return int(sum(mapped.private_dirty for mapped in process.memory_maps()) // MEGABYTE)


if __name__ == "__main__":
    main()
