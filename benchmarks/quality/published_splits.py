"""Whether the test rows of published splits are like rows held out at random, seen by simple models.

    .venv/bin/python -m benchmarks.quality.published_splits --files DIRECTORY

DIRECTORY is that of `datasets`. Each model is fitted on the published training rows and asked for the test rows; then
the same rows are split again at random, with as many test rows, and it is fitted and asked again. Were the published
test rows drawn at random, the figures would be alike. Figures are per user, of unseen items, over USERS drawn users.
Results: benchmarks/results/published_splits.json. With `--quick` the data are made up.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix

from benchmarks.harness import Parser, write
from benchmarks.quality.datasets import DATA, made_up
from models.baselines.baseline import Peer
from models.baselines.item_knn import ItemKnn
from models.baselines.svd import Svd
from models.baselines.task import Task
from models.evaluation.per_user import user_metrics
from models.metrics import SeenItems
from retrieval.console import terminal

MODELS: Final[Mapping[str, Peer]] = {"item KNN": ItemKnn(500, 3, 0.5), "SVD": Svd(512)}
USERS, K = 5000, 20


def main() -> None:
    """Measure the data sets with a published split and write the results."""
    parser = Parser(__doc__, "published_splits")
    parser.add_argument("--files", type=Path, help="where the data sets lie; not needed with --quick")
    options = parser.options()
    if options.files is None and not options.quick:
        parser.error("--files: say where the data sets lie")
    with terminal() as out:
        entries = []
        for name, train, test in read(options.files, options.out.parent, options.quick):
            for split, parts in (("published", (train, test)), ("random", again(train, test))):
                entries += [{"data": name, "split": split, **entry} for entry in measured(*parts)]
        write(options.out, entries)
        out.json(entries)


def read(files: Path | None, out: Path, quick: bool) -> Iterator[tuple[str, pd.DataFrame, pd.DataFrame]]:
    """Yield the name, the training and the test rows of each data set, with users and items numbered."""
    if quick:
        rows = pd.read_parquet(made_up(out / "files") / "instruments.parquet")
        yield "made up", rows.iloc[: len(rows) * 4 // 5], rows.iloc[len(rows) * 4 // 5 :]
        return
    assert files is not None
    for name in (name for name, data in DATA.items() if data.given):
        train, test = (pd.read_parquet(files / f"{name}-{part}.parquet") for part in ("train", "test"))
        yield name, train, test


def again(train: pd.DataFrame, test: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Split the rows of both at random, with as many test rows as before."""
    rows = pd.concat([train, test], ignore_index=True)
    order = np.random.default_rng(0).permutation(len(rows))
    return rows.iloc[order[: len(train)]], rows.iloc[order[len(train) :]]


def measured(train: pd.DataFrame, test: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Yield each model's recall and ndcg at K."""
    task = task_of(train, test)
    for name, model in MODELS.items():
        ranks = task.rank(task.fit(model), coverage=False)["unseen"].ranks
        figures = user_metrics(ranks, task.users, task.interactions.shape[1], [K])
        yield {"model": name, **{figure: figures[figure] for figure in (f"recall@{K}", f"ndcg@{K}")}}


def task_of(train: pd.DataFrame, test: pd.DataFrame) -> Task:
    """Return what is learned from and what is to be found, for USERS of the test rows' users."""
    rows = pd.concat([train, test])
    users, items = pd.Index(rows["user_id"].unique()), pd.Index(rows["item_id"].unique())
    user, item = users.get_indexer(train["user_id"]), items.get_indexer(train["item_id"])
    table = csr_matrix((np.ones(len(train), np.float32), (user, item)), shape=(len(users), len(items)))
    table.data[:] = 1  # what a user has twice was added up
    sampled = np.random.default_rng(1).permutation(test["user_id"].unique())[:USERS]
    test_rows = test[test["user_id"].isin(sampled)]
    seen = SeenItems.of(user.astype(np.int64), item.astype(np.int64), len(users))
    codes = users.get_indexer(test_rows["user_id"]), items.get_indexer(test_rows["item_id"])
    return Task(table, seen, *(numbers.astype(np.int64) for numbers in codes))


if __name__ == "__main__":
    main()
