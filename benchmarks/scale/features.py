"""Feature engineering beside plain NVTabular and polars: rows per second and peak memory against rows.

    .venv/bin/python -m benchmarks.scale.features                      # 1, 5 and 20 million rows, three rounds
    .venv/bin/python -m benchmarks.scale.features --quick              # 20,000 rows, one round

The same raw interactions (`source = "synthetic"`), the same five transforms: two id columns and a string column to
categories by falling frequency, one number normalised, one bucketized.

- `retrieval` is `workflows.features.stage.build`, the stage as `retrieval features` runs it. It does more: it
  splits the rows, fits on the training part, looks up every item's row and writes the raw rows beside the features.
- `nvtabular` is a workflow of stock operators over the same parquet files, `fit` and `transform(...).to_parquet`, as
  https://nvidia-merlin.github.io/NVTabular/stable/ shows it.
- `polars` is lazy frames over the same files, by its streaming engine: counts, moments, then joins into one file.

Every run has a process of its own, and the engines take turns. Importing is not counted in the time; the memory is the
largest sum over the process and its children, seen 20 times a second, libraries included. Medians go to
benchmarks/results/features.json.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from benchmarks.harness import Parser, in_process, told, write
from retrieval.console import Terminal, silence_libraries, terminal

USERS, ITEMS, BUCKETS, SEED = 200_000, 20_000, 100, 42
"""Of the tables, whose number of users is that of the rows where these are fewer."""
CATEGORIES, NORMALISED, BUCKETIZED = ("user_id", "item_id", "channel"), "rating", "timestamp"
MEGABYTE = 2**20
SIZES, ROUNDS = (1_000_000, 5_000_000, 20_000_000), 3
"""Rows, and runs of each engine with so many."""


def main() -> None:
    """Measure in turns and write the results; with --engine: one run, and print its seconds."""
    parser = Parser(__doc__, "features")
    parser.add_argument("--engine", choices=sorted(ENGINES), help=argparse.SUPPRESS)
    options = parser.options()
    if options.engine:
        silence_libraries()
        sys.stdout.write(json.dumps(ENGINES[options.engine](options.runs)) + "\n")
        return
    sizes, rounds = ((20_000,), 1) if options.quick else (SIZES, ROUNDS)
    with terminal() as out:
        results = [point for rows in sizes for point in measure(rows, rounds, options.runs / "features", out)]
        write(options.out, results)
        out.json(results)


def measure(rows: int, rounds: int, data: Path, out: Terminal) -> list[dict[str, Any]]:
    """Run every engine so many times on so many rows and sum up."""
    tables = make_tables(rows, data, out)
    measured: dict[str, list[dict[str, Any]]] = {engine: [] for engine in ENGINES}
    for number in range(rounds):
        for engine in sorted(ENGINES, reverse=bool(number % 2)):
            started = in_process(__file__, "--engine", engine, "--runs", tables)
            peak_mb = round(peak_of(started) / MEGABYTE)
            run = {**told(started), "peak_rss_mb": peak_mb}
            measured[engine].append(run)
            speed, peak = rows / run["seconds"], run["peak_rss_mb"]
            out.say(f"{rows:,} rows, round {number + 1}, {engine}: {speed:,.0f} rows/s, {peak:,.0f} MB")
    return [
        {
            "rows": rows,
            "engine": engine,
            "rows_per_s": round(rows / statistics.median(run["seconds"] for run in runs)),
            "peak_rss_mb": round(statistics.median(run["peak_rss_mb"] for run in runs)),
            "cpu_seconds": round(statistics.median(run["cpu_seconds"] for run in runs), 2),
            "rounds": runs,
        }
        for engine, runs in measured.items()
    ]


def make_tables(rows: int, data: Path, out: Terminal) -> Path:
    """Return the tables of so many interactions, made if they are not there."""
    from workflows.config import Synthetic
    from workflows.sources.synthetic import fetch

    tables = data / str(rows)
    if not tables.exists():
        fetch(
            Synthetic(interactions=rows, users=min(USERS, rows), items=min(ITEMS, rows), seed=SEED), data, out.say
        ).save(tables)
    return tables


def peak_of(started: subprocess.Popen[str]) -> int:
    """Return the largest resident memory of a process and its children, in bytes, when it ends."""
    root, peak = psutil.Process(started.pid), 0
    while started.poll() is None:
        try:
            peak = max(peak, sum(map(resident, [root, *root.children(recursive=True)])))
        except psutil.NoSuchProcess:
            break
        time.sleep(0.05)
    return peak


def resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


def timed(work: Callable[[Path], None]) -> dict[str, float]:
    """Return the seconds that `work` takes with an output directory of its own."""
    out = Path(tempfile.mkdtemp(prefix="features-benchmark-"))
    start, cpu = time.perf_counter(), time.process_time()
    try:
        work(out)
        return {"seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - cpu}
    finally:
        shutil.rmtree(out)


def run_retrieval(tables: Path) -> dict[str, float]:
    """Time the stage as it is."""
    import workflows.features.transform  # noqa: F401  Merlin's imports are not what is measured
    from workflows.config import Bucketized, Categorical, Continuous, Feature, FeatureSide, RandomSplit
    from workflows.features.dask_cluster import client
    from workflows.features.stage import build
    from workflows.tables.store import open_tables

    features: dict[str, Feature | list[Feature]] = {name: Categorical() for name in CATEGORIES}
    features |= {NORMALISED: Continuous(), BUCKETIZED: Bucketized(buckets=BUCKETS)}
    query, item = FeatureSide(features=features), FeatureSide(features={"price": Continuous()})
    with client(0, None, "cpu") as cluster:  # threads of this process
        return timed(
            lambda out: build(open_tables(tables), query, item, RandomSplit(), "cpu", out / "features", client=cluster)
        )


def run_nvtabular(tables: Path) -> dict[str, float]:
    """Time stock operators."""
    warnings.simplefilter("ignore")
    import nvtabular as nvt
    import pyarrow.parquet as pq
    from merlin.io import Dataset
    from nvtabular import ops

    files = sorted(map(str, (tables / "interactions").glob("*.parquet")))
    seconds = [pq.read_table(file, columns=[BUCKETIZED])[0].to_numpy() for file in files]
    edges = even_edges(min(map(min, seconds)), max(map(max, seconds)))

    def work(out: Path) -> None:
        categories = list(CATEGORIES) >> ops.Categorify(out_path=str(out / "categories"))
        numbers = ([NORMALISED] >> ops.Normalize()) + ([BUCKETIZED] >> ops.Bucketize(edges))
        workflow = nvt.Workflow(categories + numbers)
        dataset = Dataset(files, engine="parquet", cpu=True)
        workflow.fit(dataset)
        workflow.transform(dataset).to_parquet(str(out / "features"))

    return timed(work)


def run_polars(tables: Path) -> dict[str, float]:
    """Time lazy frames."""
    import polars as pl

    def work(out: Path) -> None:
        rows = pl.scan_parquet(str(tables / "interactions" / "*.parquet"))
        facts = rows.select(
            pl.col(NORMALISED).cast(pl.Float64).mean().alias("mean"),
            pl.col(NORMALISED).cast(pl.Float64).std().alias("std"),
            pl.col(BUCKETIZED).min().alias("least"),
            pl.col(BUCKETIZED).max().alias("most"),
        )
        counted = [rows.group_by(name).len().sort(["len", name], descending=[True, False]) for name in CATEGORIES]
        moments, *values = pl.collect_all([facts, *counted], engine="streaming")
        mean, std, least, most = moments.row(0)
        vocabularies = [
            codes.select(name, (pl.int_range(pl.len()) + 3).alias(f"{name}_code"))
            for name, codes in zip(CATEGORIES, values, strict=True)
        ]
        coded = rows
        for name, vocabulary in zip(CATEGORIES, vocabularies, strict=True):
            coded = coded.join(vocabulary.lazy(), on=name, how="left")
        edges = pl.Series(even_edges(least, most))
        chosen = coded.select(
            *[pl.col(f"{name}_code").fill_null(2).alias(name) for name in CATEGORIES],
            ((pl.col(NORMALISED) - mean) / std).cast(pl.Float32),
            pl.lit(edges).search_sorted(pl.col(BUCKETIZED), side="right").alias(BUCKETIZED),
        )
        chosen.sink_parquet(out / "features.parquet")

    return timed(work)


def even_edges(least: float, most: float) -> list[float]:
    """Return the inner edges of equally wide buckets."""
    width = (float(most) - float(least)) / BUCKETS
    return [float(least) + width * number for number in range(1, BUCKETS)]


ENGINES = {"retrieval": run_retrieval, "nvtabular": run_nvtabular, "polars": run_polars}


if __name__ == "__main__":
    main()
