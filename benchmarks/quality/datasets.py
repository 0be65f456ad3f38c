"""The recipe that `retrieval init` writes, unedited, on public data sets, beside tuned simple models on the same rows.

    .venv/bin/python -m benchmarks.quality.datasets --files DIRECTORY                       all, three seeds
    .venv/bin/python -m benchmarks.quality.datasets --files DIRECTORY --data lastfm --seeds 42

DIRECTORY holds, as Parquet: `instruments` (user_id, item_id, rating, timestamp: Musical Instruments, 5-core, of the
Amazon reviews of 2014, https://jmcauley.ucsd.edu/data/amazon/); `lastfm-train`, `lastfm-test`, `gowalla-train`,
`gowalla-test` (user_id, item_id: the files of https://github.com/gusye1234/LightGCN-PyTorch); `grocery` (user_id,
item_id, timestamp: Grocery_and_Gourmet_Food/train.csv of https://github.com/THUwangcy/ReChorus); and `citeulike`
(user_id, item_id: users.dat of https://github.com/js05212/citeulike-a, a line for each user). Where a split was
published, it is the one line of the recipe that is put in by hand.

Entries of `benchmarks/results/datasets.json` are means over seeds; figures are per user, of unseen items. Simple models
are fitted in the run of the first seed. Finished runs under `--runs` are kept, so that an interrupted measurement goes
on. With `--quick` the data are made up.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd

from benchmarks.harness import Parser, store, write
from models.baselines.comparison import OURS
from retrieval.console import terminal

FIGURES: Final = ("recall@10", "ndcg@10", "recall@20", "ndcg@20")


class DataSet(NamedTuple):
    """Interactions, and what papers report on the same split, by name with its source: recall@20 and ndcg@20."""

    given: bool = False
    """Whether the split was published, as two files."""
    published: tuple[tuple[str, float, float], ...] = ()


DATA: Final = {
    "instruments": DataSet(),
    "grocery": DataSet(),
    "citeulike": DataSet(),
    "lastfm": DataSet(given=True),
    "gowalla": DataSet(
        given=True,
        published=(
            ("NGCF (LightGCN, SIGIR 2020)", 0.1570, 0.1327),
            ("LightGCN (SIGIR 2020)", 0.1830, 0.1554),
            ("UltraGCN (CIKM 2021)", 0.1862, 0.1580),
            ("SimpleX (CIKM 2021)", 0.1872, 0.1557),
        ),
    ),
}


def main() -> None:
    """Measure the data sets and write the results."""
    parser = Parser(__doc__, "datasets", "datasets")
    parser.add_argument("--files", type=Path, help="where the data sets lie; not needed with --quick")
    parser.add_argument("--data", nargs="+", choices=DATA, default=list(DATA))
    parser.add_argument("--seeds", nargs="+", type=int, default=[42, 43, 44])
    options = parser.options()
    if options.quick:
        options.files, options.data, options.seeds = made_up(options.out.parent / "files"), ["instruments"], [42]
    elif options.files is None:
        parser.error("--files: say where the data sets lie")
    with terminal() as out:
        for name in options.data:
            for entry in measure(name, options):
                store(entry, options.out, ["data", "model"])
                out.json(entry)


def measure(name: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the entries of a data set: the default recipe's, those of simple models, and published ones."""
    runs = [run_of(name, seed, options, peers=seed == options.seeds[0]) for seed in options.seeds]
    metrics = [json.loads((run / "metrics.json").read_text(encoding="utf-8")) for run in runs]
    usage = [json.loads((run / "usage.json").read_text(encoding="utf-8")) for run in runs]
    protocol = metrics[0]["protocol"].split(";")[0]
    own = [{**run["per_user"]["unseen"], "fit_s": run["comparison"]["models"][0]["fit_seconds"]} for run in metrics]
    means = {key: statistics.fmean(figures[key] for figures in own) for key in (*FIGURES, "fit_s")}
    costs = ("run_s", "cpu_s", "peak_rss_mb") if all(usage) else ()  # not of a run that was interrupted and went on
    usage_means = {key: statistics.fmean(spent[key] for spent in usage) for key in costs}
    facts = {"data": name, "protocol": protocol}
    default = {
        "model": "default",
        **means,
        **usage_means,
        "seeds": options.seeds,
        "verdict": metrics[0]["verdict"]["text"],
    }
    peers = [model for model in metrics[0]["comparison"]["models"] if model["name"] != OURS and "skipped" not in model]
    simple = [_simple(model, options.seeds[0]) for model in peers]
    papers = [
        {"model": f"published: {paper}", "recall@20": recall, "ndcg@20": ndcg}
        for paper, recall, ndcg in DATA[name].published
    ]
    return [{**facts, **entry} for entry in (default, *simple, *papers)]


def run_of(name: str, seed: int, options: argparse.Namespace, peers: bool) -> Path:
    """Return the directory of a finished run of the recipe that `init` writes."""
    place = options.runs / f"{name}-seed{seed}"
    if (place / "usage.json").exists():
        return place
    recipe = options.runs / f"{place.name}.toml"
    data = options.files / (f"{name}-train.parquet" if DATA[name].given else f"{name}.parquet")
    command("init", "--interactions", str(data), "--name", place.name, "--out", str(recipe), "--force")
    text = re.sub(r"(?m)^seed = \d+", f"seed = {seed}", recipe.read_text(encoding="utf-8"))
    recipe.write_text(_split(text, options.files / name) if DATA[name].given else text, encoding="utf-8")
    if options.quick:
        recipe.write_text(re.sub(r"(?m)^epochs = \d+", "epochs = 1", text), encoding="utf-8")
    resumed = (place / "stages").exists()
    chosen = "ease" if options.quick else "popularity,knn,recent-knn,ease,als" if peers else "none"
    spent = command("run", str(recipe), "--runs", str(options.runs), "--peers", chosen)
    write(place / "usage.json", {} if resumed else spent)
    return place


def command(*arguments: str) -> dict[str, float]:
    """Run a command of ours; return its wall and CPU seconds and the largest memory of a process of it, MB."""
    began = time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", "retrieval", *arguments])
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"`retrieval {' '.join(arguments)}` ended with exit status {process.returncode}")
    cpu = usage.ru_utime + usage.ru_stime
    return {"run_s": time.monotonic() - began, "cpu_s": cpu, "peak_rss_mb": usage.ru_maxrss / 1024}


def made_up(directory: Path) -> Path:
    """Write interactions of users with a taste each to a directory, and return it."""
    random, rows = np.random.default_rng(0), 2_000
    users = random.integers(0, 100, rows)
    items = (random.integers(0, 20, rows) * 4 + users % 4).astype(np.int64)
    table = pd.DataFrame({"user_id": users, "item_id": items, "timestamp": 1_600_000_000 + 60 * np.arange(rows)})
    directory.mkdir(parents=True, exist_ok=True)
    table.drop_duplicates(["user_id", "item_id"]).to_parquet(directory / "instruments.parquet")
    return directory


def _split(recipe: str, files: Path) -> str:
    """Put the published split into a recipe, in place of the one that `init` chose and of the path."""
    split = f'split = {{ kind = "given", train = "{files}-train.parquet", test = "{files}-test.parquet" }}'
    return re.sub(r"(?m)^path = .*\n", "", re.sub(r"(?m)^split = .*", split, recipe))


def _simple(model: dict[str, Any], seed: int) -> dict[str, Any]:
    figures = {key: model["per_user"]["unseen"][key] for key in FIGURES}
    return {"model": model["name"], **figures, "fit_s": model["fit_seconds"], "seeds": [seed]}


if __name__ == "__main__":
    main()
