"""What `retrieval plan` foretells, against what the train stage then took: peak memory and seconds per epoch.

    .venv/bin/python -m benchmarks.scale.plan
    .venv/bin/python -m benchmarks.scale.plan --quick

For each recipe: the features are made, the plan is asked (a rehearsal in a process of its own), then
the recipe is trained by `retrieval train` in a fresh process, for fewer epochs than it says, which changes neither
figure. Memory should be within 20 %, an epoch within 40 %. A machine that does other work besides is no place for the
times: the load before and after is kept with the results, benchmarks/results/plan.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.harness import ROOT, Parser, prepared, write
from retrieval.console import Terminal, terminal
from retrieval.plan.cost import measured_of, product_seconds
from retrieval.recipes.recipe import load_recipe

RECIPES = ("movielens-100k", "movielens-100k-user", "movielens-100k-temporal")
MEMORY_WITHIN, TIME_WITHIN, EPOCHS = 0.2, 0.4, 5


def main() -> None:
    """Plan and train each recipe, and write the figures."""
    options = Parser(__doc__, "plan").options()
    options.runs = options.runs / "plan"  # trained there for few epochs, under the names of other benchmarks' runs
    recipes, epochs = (RECIPES[:1], 2) if options.quick else (RECIPES, EPOCHS)
    with terminal() as out:
        rows = []
        for number, recipe in enumerate(recipes, start=1):
            out.say(f"{number} of {len(recipes)}: {recipe}")
            rows.append(compare(recipe, epochs, options, out))
        compared = {
            "machine": f"{platform.machine()}, {os.cpu_count()} cores",
            "product_seconds": product_seconds(),
            "epochs": epochs,
            "recipes": rows,
        }
        write(options.out, compared)
        out.json(compared)


def compare(name: str, epochs: int, options: argparse.Namespace, out: Terminal) -> dict[str, Any]:
    """Return one recipe's figures, predicted and measured."""
    with tempfile.TemporaryDirectory() as folder:
        recipe = shortened(ROOT / "recipes" / f"{name}.toml", epochs, Path(folder))
        runs = prepared(load_recipe(recipe), options, out).directory.parent
        loads = [os.getloadavg()[0]]
        predicted = json.loads(retrieval("plan", recipe, runs, out, "--measure", "--json"))
        loads.append(os.getloadavg()[0])
        retrieval("train", recipe, runs, out, "--force")
        loads.append(os.getloadavg()[0])
        measured: Any = measured_of(runs / load_recipe(recipe).name)
    stage = predicted["training"]
    memory, seconds = stage["peak"] / measured["peak"], stage["seconds_per_epoch"] / measured["seconds_per_epoch"]
    return {
        "recipe": name,
        "peak_mb": {"predicted": _mb(stage["peak"]), "measured": _mb(measured["peak"]), "ratio": round(memory, 3)},
        "base_mb": _mb(stage["base"]),
        "seconds_per_epoch": {
            "predicted": round(stage["seconds_per_epoch"], 2),
            "measured": round(measured["seconds_per_epoch"], 2),
            "ratio": round(seconds, 3),
        },
        "parameters": {"predicted": predicted["parameters"]["total"], "measured": measured["parameters"]},
        "memory_within_20_percent": abs(memory - 1) <= MEMORY_WITHIN,
        "time_within_40_percent": abs(seconds - 1) <= TIME_WITHIN,
        "rehearsal_seconds": predicted["rehearsal_seconds"],
        "load": [round(load, 1) for load in loads],
    }


def shortened(path: Path, epochs: int, folder: Path) -> Path:
    """Write the recipe with so many epochs at most, under its own name, to `folder`."""
    text = path.read_text(encoding="utf-8")
    for field in ("epochs", "patience"):
        text = re.sub(rf"^{field} = .*$", f"{field} = {epochs}", text, flags=re.MULTILINE)
    short = folder / path.name
    short.write_text(text, encoding="utf-8")
    return short


def retrieval(command: str, recipe: Path, runs: Path, out: Terminal, *more: str) -> str:
    """Run a command in a process of its own and return what it printed."""
    out.step(command)
    arguments = [sys.executable, "-m", "retrieval", command, str(recipe), "--runs", str(runs), *more]
    return subprocess.run(arguments, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


def _mb(size: float) -> int:
    return round(size / 1e6)


if __name__ == "__main__":
    main()
