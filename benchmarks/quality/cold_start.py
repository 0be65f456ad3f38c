"""What `unseen_rate` does for items held out of training entirely, and for users of whom little or nothing is known.

    .venv/bin/python -m benchmarks.quality.cold_start
    .venv/bin/python -m benchmarks.quality.cold_start --quick      one rate, one seed, one epoch

A tenth of the items and a tenth of the users of recipes/movielens-100k.toml are drawn, and all their rows are taken
out of training and validation; the items are not in the catalogue that is trained against either. The towers are
trained for a few epochs per rate and seed. The held-out items then get their vectors from the item tower, with the id
unseen and the words that no other title has left out. Of the test rows, "cold items" are those of held-out items and
other users; "new users" those of held-out users and other items, asked with the id unseen and the newest so many of the
user's earlier interactions as history. What the user has in the training and validation rows is never an answer.
Results: benchmarks/results/cold_start.json.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from msgspec.structs import replace

from benchmarks.harness import ROOT, Parser, named, prepared, recipe_of, spread, write
from models.data import join, users_and_seen, with_history
from models.metrics import Float32Array, rank_targets
from models.towers.onnx import run_tower
from retrieval.console import Terminal, terminal
from retrieval.recipes.recipe import Recipe
from workflows.columns import Columns
from workflows.features import stage as features
from workflows.features.plan import HISTORY, HISTORY_AGE
from workflows.features.stage import FeatureSet, Part

RECIPE = ROOT / "recipes" / "movielens-100k.toml"
RATES, SEEDS, EPOCHS, SHARE = (0.0, 0.05, 0.1, 0.2), (42, 43), 4, 0.1
LENGTHS = (0, 1, 3, 5, 10, 50)
KS = (10, 100)
UNSEEN = 2

Mask = npt.NDArray[np.bool_]


class HeldOut(NamedTuple):
    """Who and what training does not see."""

    items: Mask
    """bool `[items]`, in item_index order."""
    users: npt.NDArray[Any]
    """Ids."""

    @classmethod
    def draw(cls, data: FeatureSet) -> HeldOut:
        """Draw a tenth of the items and of the users."""
        random, items = np.random.default_rng(0), len(data.catalogue)
        mask = np.zeros(items, bool)
        mask[random.permutation(items)[: round(SHARE * items)]] = True
        return cls(mask, random.permutation(data.users[Columns.User].to_numpy())[: round(SHARE * len(data.users))])

    def cold(self, rows: pd.DataFrame) -> Mask:
        """Return which rows are of held-out items."""
        is_cold: Mask = self.items[rows[Columns.ItemIndex].to_numpy()]
        return is_cold

    def new(self, rows: pd.DataFrame) -> Mask:
        """Return which rows are of held-out users."""
        return rows[Columns.User].isin(self.users).to_numpy()

    def renumbered(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Return the rows of the other items, with their places in the smaller catalogue."""
        place = np.cumsum(~self.items) - 1
        warm_rows = rows[~self.cold(rows)]
        return warm_rows.assign(**{Columns.ItemIndex: place[warm_rows[Columns.ItemIndex].to_numpy()]})


def main() -> None:
    """Train per rate and seed, measure, write the results."""
    options = Parser(__doc__, "cold_start", seeds=SEEDS).options()
    seeds, (rates, epochs) = options.seeds, (RATES[:1], 1) if options.quick else (RATES, EPOCHS)
    with terminal() as out, tempfile.TemporaryDirectory() as name:
        recipe = recipe_of(RECIPE, options)
        run = prepared(recipe, options, out)
        data = features.load(run.directory / "features")
        held_out = HeldOut.draw(data)
        reduce_features(run.directory / "features", held_out, Path(name) / "features")
        measured = [measure(recipe, data, held_out, Path(name), rate, seeds, epochs, out) for rate in rates]
        results = {"recipe": named(RECIPE), "epochs": epochs, "seeds": seeds, "rates": measured}
        write(options.out, results)
        out.json(results)


def reduce_features(source: Path, held_out: HeldOut, out: Path) -> None:
    """Write features without the rows and the items that are held out."""
    shutil.copytree(source, out)
    for part in features.PARTS:
        rows = pd.read_parquet(source / part / "interactions.parquet")
        is_kept = ~held_out.cold(rows) & ~held_out.new(rows)
        held_out.renumbered(rows[is_kept]).reset_index(drop=True).to_parquet(out / part / "interactions.parquet")
        _filter(source / part / "query.parquet", out / part / "query.parquet", is_kept)
    _filter(source / "items.parquet", out / "items.parquet", ~held_out.items)
    _filter(source / "catalogue.parquet", out / "catalogue.parquet", ~held_out.items)


def measure(
    recipe: Recipe,
    data: FeatureSet,
    held_out: HeldOut,
    work: Path,
    rate: float,
    seeds: list[int],
    epochs: int,
    out: Terminal,
) -> dict[str, Any]:
    """Train with one rate, once per seed, and return means and standard deviations."""
    from models.training.stage import train

    model = replace(recipe.model, unseen_rate=rate)
    settings = replace(recipe.train, epochs=epochs, patience=epochs, refit=False, distillation=None)
    measured, reduced = [], features.load(work / "features")
    for seed in seeds:
        towers = work / f"towers-{rate}-{seed}"
        train(reduced, model, settings, seed, recipe.device, towers, out.step)
        measured.append(figures(data, held_out, work / "features", towers))
        out.say(f"unseen_rate {rate}, seed {seed}: {json.dumps(measured[-1])}")
    return {
        "unseen_rate": rate,
        "groups": {
            name: {
                "rows": group["rows"],
                **{key: spread([seed_figures[name][key] for seed_figures in measured]) for key in group if "@" in key},
            }
            for name, group in measured[0].items()
        },
    }


def figures(data: FeatureSet, held_out: HeldOut, reduced: Path, towers: Path) -> dict[str, dict[str, float]]:
    """Return recall of every kind of test row."""
    vectors, rows = item_vectors(data, held_out, reduced, towers), data.test.interactions
    cold, new = held_out.cold(rows), held_out.new(rows)
    known = join([data.train, data.valid]).interactions
    queries = {length: query_vectors(data, held_out, known, towers, length) for length in (None, *LENGTHS)}
    recalls = {
        "known": recall(data, held_out, ~cold & ~new, queries[None], vectors),
        "cold items": recall(data, held_out, cold & ~new, queries[None], vectors),
        "cold items among themselves": recall(data, held_out, cold & ~new, queries[None], vectors, only=held_out.items),
    }
    for length in LENGTHS:
        recalls[f"new users, {length} interactions"] = recall(data, held_out, ~cold & new, queries[length], vectors)
    return recalls


def item_vectors(data: FeatureSet, held_out: HeldOut, reduced: Path, towers: Path) -> Float32Array:
    """Return the vectors of all items: as trained, and for those held out as the tower makes them of a new item."""
    vectors = run_tower(towers / "item.onnx", as_new(data, held_out.items, features.load(reduced)))
    vectors[~held_out.items] = np.load(towers / "item_vectors.npy")
    return vectors


def as_new(data: FeatureSet, new: Mask, trained: FeatureSet) -> dict[str, npt.NDArray[Any]]:
    """Return the item tower's inputs, in which `new` items have an unseen id and only values that others have, too."""
    inputs = {name: values.copy() for name, values in data.items.items()}
    for spec in data.item_specs:
        if spec.source == Columns.Item:
            inputs[spec.name][new] = UNSEEN
        elif spec.kind == "list":
            strange = ~np.isin(inputs[spec.name], trained.items[spec.name]) & new[:, None]
            inputs[spec.name][strange] = 0
    return inputs


def query_vectors(
    data: FeatureSet, held_out: HeldOut, known: pd.DataFrame, towers: Path, length: int | None
) -> Float32Array:
    """Return the vectors of all test rows; held-out users have an unseen id and at most `length` of their history."""
    new = held_out.new(data.test.interactions)
    query = {name: values.copy() for name, values in data.test.query.items()}
    for spec in data.query_specs:
        if spec.source == Columns.User:
            query[spec.name][new] = UNSEEN
    query = with_history(Part(query, data.test.interactions), data.query_specs, held_out.renumbered(known)).query
    if length is not None:
        for name in (HISTORY, HISTORY_AGE):
            query[name][new, length:] = 0
    return run_tower(towers / "query.onnx", query)


def recall(
    data: FeatureSet,
    held_out: HeldOut,
    mask: Mask,
    queries: Float32Array,
    vectors: Float32Array,
    only: Mask | None = None,
) -> dict[str, float]:
    """Return the recall of some test rows among all items, or `only` some, less those that the user has."""
    rows = data.test.interactions[mask]
    users, seen = users_and_seen(rows, join([data.train, data.valid]).interactions)
    mine, targets = queries[mask], rows[Columns.ItemIndex].to_numpy(np.int64)

    def scores(part: slice) -> Float32Array:
        products = mine[part] @ vectors.T
        return products if only is None else np.where(only, products, np.float32(-np.inf))

    ranks = rank_targets(scores, targets, users, seen, len(vectors), coverage=False)["unseen"].ranks
    return {"rows": len(rows), **{f"recall@{k}": float((ranks < k).mean()) for k in KS}}


def _filter(source: Path, out: Path, is_kept: Mask) -> None:
    pq.write_table(pq.read_table(source).filter(pa.array(is_kept)), out)


if __name__ == "__main__":
    main()
