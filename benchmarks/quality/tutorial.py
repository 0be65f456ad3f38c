"""The TensorFlow Recommenders tutorial's experiment with our towers: recall@100 over the epochs, three depths.

    .venv/bin/python -m benchmarks.quality.tutorial
    .venv/bin/python -m benchmarks.quality.tutorial --quick       one epoch, towers [32] alone

The task is that of "Building deep retrieval models" (https://www.tensorflow.org/recommenders/examples/deep_recommenders):
MovieLens-100K, 80,000 rows to learn from, 20,000 to ask for, all titles compete, the query is user id and time. As
there, the test rows are asked for after every epoch, and nothing is chosen by what they say: epochs and settings are
those of recipes/tutorial.toml. Results: benchmarks/results/tutorial.json and tutorial.png. Finished towers under --runs
are kept.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from msgspec.structs import replace

from benchmarks.harness import ROOT, Parser, figure, named, prepared, recipe_of, write
from retrieval.console import Terminal, terminal
from retrieval.recipes.recipe import Recipe
from workflows.files import atomic_directory

RECIPE = ROOT / "recipes" / "tutorial.toml"
PUBLISHED = {(32,): 0.27, (64, 32): 0.29, (128, 64, 32): 0.27}
FIGURE = "recall@100"


def main() -> None:
    """Train every tower, write the figures and the plot."""
    parser = Parser(__doc__, "tutorial")
    parser.add_argument("--towers", nargs="+", default=["32", "64,32", "128,64,32"], help="widths, such as 64,32")
    parser.add_argument("--epochs", type=int)
    options = parser.options()
    epochs, texts = (1, ["32"]) if options.quick else (options.epochs, options.towers)
    towers = [tuple(int(width) for width in text.split(",")) for text in texts]
    with terminal() as out:
        recipe = recipe_of(RECIPE, options)
        run = prepared(recipe, options, out)
        measured = [measure(recipe, run.directory, tower, epochs or recipe.train.epochs, out) for tower in towers]
        results = {"recipe": named(RECIPE), "figure": f"all.{FIGURE}", "towers": measured}
        write(options.out, results)
        plot(measured, options.out.with_suffix(".png"))
        out.json(results)


def measure(recipe: Recipe, run: Path, tower: tuple[int, ...], epochs: int, out: Terminal) -> dict[str, Any]:
    """Train one tower and follow the test rows."""
    done = run / f"towers-{'-'.join(map(str, tower))}-{epochs}"
    if not done.exists():
        out.say(f"towers {list(tower)}, {epochs} epochs")
        from models.training.stage import train
        from workflows.features.stage import load

        model = replace(recipe.model, tower=tower)
        settings = replace(recipe.train, epochs=epochs, patience=epochs, refit=False)
        with atomic_directory(done) as directory:
            asked_folder = ask_for_test(run / "features", directory / "features")
            train(load(asked_folder), model, settings, recipe.seed, recipe.device, directory, out.step)
            shutil.rmtree(asked_folder)
    history = json.loads((done / "history.json").read_text(encoding="utf-8"))
    return {
        "tower": list(tower),
        "published": PUBLISHED.get(tower),
        "last": {
            f"{side}.{key}": history[-1][f"valid_{side}.{key}"]
            for side in ("all", "unseen")
            for key in ("recall@10", FIGURE)
        },
        "test": [round(epoch[f"valid_all.{FIGURE}"], 5) for epoch in history],
        "epoch_seconds": [round(epoch["seconds"], 2) for epoch in history],
    }


def ask_for_test(features: Path, out: Path) -> Path:
    """Write features that learn from training and validation rows and ask for the test rows after every epoch."""
    shutil.copytree(features, out)
    for name in ("query.parquet", "interactions.parquet"):
        parts = [pq.read_table(features / part / name) for part in ("train", "valid")]
        pq.write_table(pa.concat_tables(parts), out / "train" / name)
        shutil.copyfile(features / "test" / name, out / "valid" / name)
    return out


def plot(measured: list[dict[str, Any]], path: Path) -> None:
    """Draw recall of the test rows over the epochs and what the tutorial published."""
    drawing, (axes,) = figure(7, 4.2, "The TFRS tutorial's experiment, MovieLens-100K")
    last = max(len(tower["test"]) for tower in measured)
    for number, tower in enumerate(measured):
        colour, name = f"C{number}", str(tower["tower"])
        axes.plot(range(1, len(tower["test"]) + 1), tower["test"], ".-", color=colour, label=f"{name}, ours")
        if tower["published"] is not None:
            dots = (2 * number, (2, 2 * len(measured) - 2))  # two of the published figures are the same line
            axes.axhline(tower["published"], color=colour, linestyle=dots, label=f"{name}, published, 300 epochs")
    axes.set(xlabel="epoch", ylabel=f"{FIGURE}, all items", xlim=(0, last + 1), ylim=(0, None))
    axes.legend(fontsize=8, ncols=len(measured), frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.15))
    drawing.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
