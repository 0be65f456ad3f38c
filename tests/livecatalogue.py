"""A synthetic run whose item tower takes a feature, so that items which it has never seen get vectors of their own."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper

from models.towers.onnx import pairing_of
from tests import synthetic
from tests.synthetic import DIM, Run

GENRES = ("Akció", "comedy", "drama", "noir")


@dataclass(frozen=True)
class Items:
    """What an item's vector is made of: the tower of this run in NumPy."""

    run: Run
    table: np.ndarray
    """float32 [3 + items, DIM]: by code; row 2 is that of every unknown item."""
    direction: np.ndarray
    """float32 [DIM]: what the item's weight is multiplied with."""

    @cached_property
    def codes(self) -> dict[Any, int]:
        """Return the code of every item that the tower was trained with."""
        return {item: code for code, item in enumerate(self.run.items["item_id"], start=3)}

    def vectors(self, state: dict[Any, dict[str, Any]]) -> np.ndarray:
        """Return the vectors of items, float32 [n, DIM]."""
        codes = np.array([self.codes.get(item, 2) for item in state], dtype=np.int64)
        weights = np.array([row["weight"] for row in state.values()], dtype=np.float32)
        return self.table[codes] + weights[:, None] * self.direction

    def rows(self) -> dict[Any, dict[str, Any]]:
        """Return the items of the run by id."""
        return {row["item_id"]: row for row in self.run.items.to_dict("records")}


def make_live_run(path: Path, ids: str = "int64", last: int = 0) -> Items:
    """Write a run whose items have `weight`, a number and feature, and `genres`; without any release."""
    run, rng = synthetic.make_run(path, ids, last=last), np.random.default_rng(5)
    count = len(run.items)
    table = np.concatenate([rng.normal(size=(3, DIM)).astype(np.float32), run.vectors])
    direction = rng.normal(size=DIM).astype(np.float32)
    items = run.items.assign(
        weight=rng.normal(size=count).round(3),
        genres=[[str(genre) for genre in rng.choice(GENRES, rng.integers(0, 3), replace=False)] for _ in range(count)],
    )
    weights = items["weight"].to_numpy(dtype=np.float32)
    run = replace(run, items=items, vectors=(table[3:] + weights[:, None] * direction).astype(np.float32))
    _rewrite(run, table, direction)
    return Items(run, table, direction)


def _rewrite(run: Run, table: np.ndarray, direction: np.ndarray) -> None:
    features, towers = run.path / "features", run.path / "towers"
    run.items.to_parquet(features / "catalogue.parquet")
    shutil.rmtree(features / "item_transform")
    kind = "string" if run.items["item_id"].dtype == object else "int64"
    columns = {
        "item_id": ("categorical", kind, list(run.items["item_id"])),
        "weight": ("continuous", "float64", {"fill": 0.0, "mean": 0.0, "std": 1.0}),
    }
    synthetic._write_transform(features / "item_transform", columns)
    nodes = [
        helper.make_node("Gather", ["table/item_id", "item_id"], ["own"]),
        helper.make_node("Unsqueeze", ["weight", "axis"], ["w"]),
        helper.make_node("Mul", ["w", "direction"], ["moved"]),
        helper.make_node("Add", ["own", "moved"], ["vector"]),
    ]
    inputs = {"item_id": TensorProto.INT64, "weight": TensorProto.FLOAT}
    constants = {"direction": direction[None, :], "axis": np.array([1], dtype=np.int64)}
    synthetic.write_tower(towers / "item.onnx", nodes, inputs, constants, {"item_id": table})
    np.save(towers / "item_vectors.npy", run.vectors)
    stated = json.loads((towers / "towers.json").read_text())
    (towers / "towers.json").write_text(json.dumps({**stated, "pairing": pairing_of(towers)}))


def new_id(like: Any, number: int) -> Any:
    """Return an id that the run does not have."""
    return f"új-{number}" if isinstance(like, str) else 7_000_000_000_000 + number


def write_items(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Write items as JSON lines."""
    path.write_text("".join(json.dumps(row, default=float) + "\n" for row in rows), encoding="utf-8")
    return path


def brute_force(items: Items, state: dict[Any, dict[str, Any]], query: np.ndarray) -> list[tuple[Any, float]]:
    """Return (id, score) of every item of a catalogue made from scratch, best first."""
    scores = items.vectors(state) @ query
    ids = list(state)
    return [(ids[place], float(scores[place])) for place in np.argsort(-scores, kind="stable")]


def seen_by(run: Run, user: Any) -> set[Any]:
    """Return the items that the release knows the user to have seen."""
    known = run.interactions.iloc[:600]
    return set(run.items["item_id"].iloc[known.loc[known["user_id"] == user, "item_index"]])
