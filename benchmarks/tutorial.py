"""The TensorFlow Recommenders tutorial's experiment with our towers: recall@100 over the epochs, three depths.

    .venv/bin/python benchmarks/tutorial.py
    .venv/bin/python benchmarks/tutorial.py --epochs 1 --towers 32 64,32

The task is that of "Building deep retrieval models" (https://www.tensorflow.org/recommenders/examples/deep_recommenders):
MovieLens-100K, 80,000 rows to learn from and 20,000 to ask for, all titles compete, the query is user id and time. The
tutorial follows its test rows over 300 epochs; here the curves are of 8,000 validation rows taken from the 80,000, and
the test rows are looked at once, by a model trained anew on all 80,000 for the best number of epochs. Results:
benchmarks/results/tutorial.json and tutorial.png. Finished runs under --runs are kept.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from retrieval.console import Terminal, terminal
from retrieval.recipe import load_recipe
from retrieval.run import Run, advance
from retrieval.stages import STAGES
from workflows.files import atomic_write
from workflows.sources.download import cache_directory

ROOT = Path(__file__).parents[1]
RECIPE = ROOT / "recipes" / "tutorial.toml"
RESULTS = ROOT / "benchmarks" / "results"
PUBLISHED = {"[32]": 0.27, "[64, 32]": 0.29, "[128, 64, 32]": 0.27}
FIGURE = "recall@100"


def main() -> None:
    """Train every tower, write the figures and the plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--towers", nargs="+", default=["32", "64,32", "128,64,32"], help="widths, such as 64,32")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "benchmarks")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    with terminal() as out:
        towers = [tuple(int(width) for width in text.split(",")) for text in arguments.towers]
        measured = [measure(tower, arguments.epochs, arguments.runs, out) for tower in towers]
        results = {"recipe": RECIPE.relative_to(ROOT).as_posix(), "figure": f"all.{FIGURE}", "towers": measured}
        atomic_write(arguments.out / "tutorial.json", (json.dumps(results, indent=1) + "\n").encode())
        plot(measured, arguments.out / "tutorial.png")
        out.json(results)


def measure(tower: tuple[int, ...], epochs: int | None, runs: Path, out: Terminal) -> dict[str, Any]:
    """Train and evaluate one tower."""
    recipe = load_recipe(RECIPE)
    name = f"{recipe.name}-{'-'.join(map(str, tower))}"
    training = replace(recipe.train, epochs=epochs, patience=epochs) if epochs else recipe.train
    recipe = replace(recipe, name=name, model=replace(recipe.model, tower=tower), train=training)
    run = Run.create(recipe, runs, STAGES)
    out.say(f"towers {list(tower)}")
    advance(run, ["fetch", "features", "train", "evaluate"], cache_directory(), out)
    history = json.loads((run.directory / "towers" / "history.json").read_text(encoding="utf-8"))
    metrics = json.loads((run.directory / "metrics.json").read_text(encoding="utf-8"))
    return {
        "tower": list(tower),
        "published": PUBLISHED.get(str(list(tower))),
        "test": {f"{side}.{key}": metrics[side][key] for side in ("all", "unseen") for key in ("recall@10", FIGURE)},
        "best_epoch": json.loads((run.directory / "towers" / "towers.json").read_text(encoding="utf-8"))["epochs"],
        "validation": [epoch[f"valid_all.{FIGURE}"] for epoch in history],
        "epoch_seconds": [round(epoch["seconds"], 2) for epoch in history],
        "protocol": metrics["protocol"],
    }


def plot(measured: list[dict[str, Any]], path: Path) -> None:
    """Draw validation recall over the epochs, the test figure at its end, and what the tutorial published."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # no display, no global state
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    last = max(len(one["validation"]) for one in measured)
    for number, one in enumerate(measured):
        colour, name = f"C{number}", str(one["tower"])
        axes.plot(range(1, len(one["validation"]) + 1), one["validation"], color=colour, label=f"{name}, validation")
        axes.plot(
            [one["best_epoch"]], [one["test"][f"all.{FIGURE}"]], "o", color=colour, label=f"{name}, test, trained anew"
        )
        if one["published"] is not None:
            dots = (2 * number, (2, 2 * len(measured) - 2))  # two of the published figures are the same line
            axes.axhline(one["published"], color=colour, linestyle=dots, label=f"{name}, published, 300 epochs")
    axes.set(xlabel="epoch", ylabel=f"{FIGURE}, all items", xlim=(0, last + 1), ylim=(0, None))
    axes.set_title("The TFRS tutorial's experiment, MovieLens-100K", loc="left", fontsize=11)
    axes.grid(color="0.9")
    axes.legend(fontsize=8, ncols=len(measured), frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.15))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
