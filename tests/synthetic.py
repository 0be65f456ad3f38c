"""A small made-up run (features and towers, hand-written transforms, ONNX graphs of a few nodes) and its release."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
import pytest
from onnx import TensorProto, helper, numpy_helper

from ensemble.config import Index, Serving
from ensemble.release.write import Parts, Settings, Training, write_release
from models.towers.onnx import pairing_of
from workflows.config import Sequence
from workflows.features.history import history_features, spec_of

DIM = 16
GENRES = ("Comedy", "Drama", "Horror", "Ciné noir", "動画")
OCCUPATIONS = ("artist", "médecin", "学生")


@dataclass(frozen=True)
class Run:
    """A synthetic run on disk, and what made it."""

    path: Path
    last: int
    """Width of its history; 0: it has none."""
    users: pd.DataFrame
    items: pd.DataFrame
    interactions: pd.DataFrame
    vectors: np.ndarray
    weights: dict[str, np.ndarray]

    def reference(self, queries: pd.DataFrame) -> np.ndarray:
        """Return the query vectors, float32 [n, DIM], by NumPy alone: the training side of this run."""
        user = _codes(queries["user_id"], list(self.users["user_id"]))
        occupation = _codes(queries["occupation"], list(OCCUPATIONS))
        age = (queries["age"].astype(float).fillna(30.0).to_numpy() - 40.0) / 10.0
        rows = [self.weights["user"][user], self.weights["occupation"][occupation], age[:, None]]
        if self.last:
            known = self.interactions.iloc[:600].reset_index(drop=True)
            spec = spec_of(Sequence(last=self.last), len(self.items))
            rows.append(self.pooled(**history_features(spec, queries, known, own=False)))
        hidden = np.concatenate(rows, axis=1).astype(np.float64) @ self.weights["out"].astype(np.float64)
        return (hidden / np.linalg.norm(hidden, axis=1, keepdims=True)).astype(np.float32)

    def ranked(self, queries: pd.DataFrame, items: np.ndarray) -> np.ndarray:
        """Return the ranker's scores of items, int64 [n, m], by NumPy alone: the largest of three products with what
        hangs on the user's occupation, and the similarity."""
        heads = self.weights["heads"][_codes(queries["occupation"], list(OCCUPATIONS))].astype(np.float64)
        own = self.weights["sides"].astype(np.float64)[items].reshape(*items.shape, 3, 4)
        similarity = np.einsum("nd,nmd->nm", self.reference(queries).astype(np.float64), self.vectors[items])
        return (np.einsum("nw,nmhw->nmh", heads, own).max(axis=2) + similarity).astype(np.float32)

    def pooled(self, history: np.ndarray, history_age: np.ndarray) -> np.ndarray:
        """Return the sum of the items' vectors, those of long ago weighted less; padding has a vector of zeros."""
        weights = 1.0 / (history_age.astype(np.float64) + 1.0)
        return np.einsum("nl,nld->nd", weights, self.weights["history"].astype(np.float64)[history])


def make_run(
    path: Path, ids: str = "int64", users: int = 60, items: int = 300, seed: int = 0, last: int = 0, length: float = 1.0
) -> Run:
    """Write `features/` and `towers/` under `path`; ids are "int64" (beyond 32 bits), "large" (beyond 53, some) or
    "string" (not ASCII).

    With `last`, the query tower takes a history of that width; `length` is that of the item vectors.
    """
    rng = np.random.default_rng(seed)
    user_ids, item_ids = _ids(ids, "u", users, rng), _ids(ids, "ité", items, rng)
    user_table = pd.DataFrame(
        {
            "user_id": user_ids,
            "age": np.where(rng.random(users) < 0.1, np.nan, rng.integers(10, 80, users)),
            "occupation": [None if rng.random() < 0.1 else str(rng.choice(OCCUPATIONS)) for _ in range(users)],
        }
    )
    catalogue = _catalogue(item_ids, items)
    interactions = _interactions(rng, user_table["user_id"], catalogue["item_id"])
    weights = {
        "user": rng.normal(size=(users + 3, 8)).astype(np.float32),
        "occupation": rng.normal(size=(len(OCCUPATIONS) + 3, 4)).astype(np.float32),
        "out": rng.normal(size=(13, DIM)).astype(np.float32),
    }
    if last:
        weights["history"] = rng.normal(size=(items + 3, 4)).astype(np.float32)
        weights["history"][0] = 0
        weights["out"] = rng.normal(size=(17, DIM)).astype(np.float32)
    vectors = rng.normal(size=(items, DIM)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors *= np.float32(length)
    vectors[items // 2 : items // 2 + 30] = vectors[:30]  # thirty exact ties
    vectors[-20:] = vectors[5]  # and one twenty-fold
    # Of generators of their own, so that the rest is what it was; equal items have equal sides.
    weights["heads"] = np.random.default_rng(1).normal(size=(len(OCCUPATIONS) + 3, 4)).astype(np.float32)
    weights["sides"] = np.random.default_rng(2).normal(size=(items, 12)).astype(np.float32)
    weights["sides"][items // 2 : items // 2 + 30] = weights["sides"][:30]
    weights["sides"][-20:] = weights["sides"][5]
    run = Run(path, last, user_table, catalogue, interactions, vectors, weights)
    _write_features(run)
    _write_towers(run)
    return run


def make_release(run: Run, index: Index | None = None, ranks: bool = False, **serving: Any) -> Path:
    """Write the run's release and return it; with a ranker where it `ranks`."""
    options = {"top_k": 10, "max_top_k": 400, "max_batch_size": 64, "max_exclude_item_ids": 500, **serving}
    if ranks:
        write_ranker(run)
    training = Training(run.reference, run.ranked if ranks else None)
    settings = Settings("synthetic", "0" * 64, Serving(**options), index or Index())
    return write_release(Parts.of(run.path, ranks), training, settings).path


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Run]:
    """Return the run, with its release, of a type of ids and a width of the history; made once per test process."""

    @cache
    def run_of(ids: str, last: int = 0) -> Run:
        new = make_run(tmp_path_factory.mktemp(f"{ids}-{last}"), ids, last=last)
        make_release(new)
        return new

    return run_of


@pytest.fixture(scope="session", params=["int64", "string"])
def run(request: pytest.FixtureRequest, runs: Callable[..., Run]) -> Run:
    """A synthetic run with its release, with integer ids and with string ids. Do not write to it."""
    return runs(request.param)


@pytest.fixture(scope="session", params=["int64", "string"])
def dated_run(request: pytest.FixtureRequest, runs: Callable[..., Run]) -> Run:
    """Like `run`, but its query tower takes a history of five interactions."""
    return runs(request.param, last=5)


@pytest.fixture(scope="session")
def release(run: Run) -> Path:
    """The release of `run`. Do not write to it."""
    return run.path / "release"


def _catalogue(item_ids: Any, items: int) -> pd.DataFrame:
    """Return items with what they can be filtered by; some have no genre, some no year."""
    rng = np.random.default_rng(items)  # its own, so that the rest is what it was
    genres = [list(rng.choice(GENRES, rng.integers(0, 4), replace=False)) for _ in range(items)]
    years = np.where(rng.random(items) < 0.1, np.nan, rng.integers(1990, 2000, items))
    return pd.DataFrame(
        {"item_id": item_ids, "title": [f"Title {n}" for n in range(items)], "genres": genres, "year": years}
    )


def _ids(kind: str, prefix: str, count: int, rng: np.random.Generator) -> Any:
    numbers = rng.permutation(count * 3)[:count]
    if kind == "string":
        return [f"{prefix}-{number}" for number in numbers]
    return numbers.astype(np.int64) * (20_000_000_000_011 if kind == "large" else 2_000_000_011) - 5_000_000_000


def _interactions(rng: np.random.Generator, users: pd.Series, items: pd.Series) -> pd.DataFrame:
    count = len(users) * 12
    index = rng.integers(0, len(items), count)
    return pd.DataFrame(
        {
            "user_id": users.to_numpy()[rng.integers(0, len(users) - 1, count)],  # the last user has no history
            "item_id": items.to_numpy()[index],
            "rating": np.ones(count, dtype=np.float32),
            "timestamp": rng.integers(0, 50, count),
            "item_index": index,
        }
    )


def _codes(values: pd.Series, known: list[Any]) -> np.ndarray:
    table = {value: code for code, value in enumerate(known, start=3)}
    return np.array([1 if pd.isna(value) else table.get(value, 2) for value in values])


def _write_features(run: Run) -> None:
    features = run.path / "features"
    for part, rows in {"train": slice(0, 500), "valid": slice(500, 600), "test": slice(600, None)}.items():
        (features / part).mkdir(parents=True)
        run.interactions.iloc[rows].to_parquet(features / part / "interactions.parquet")
    run.users.to_parquet(features / "users.parquet")
    run.items.to_parquet(features / "catalogue.parquet")
    (features / "features.json").write_text('{"asked": "all"}')
    id_dtype = "string" if run.users["user_id"].dtype == object else "int64"
    query = {
        "user_id": ("categorical", id_dtype, list(run.users["user_id"])),
        "age": ("continuous", "float64", {"fill": 30.0, "mean": 40.0, "std": 10.0}),
        "occupation": ("categorical", "string", list(OCCUPATIONS)),
    }
    _write_transform(features / "query_transform", query, run.last)
    _write_transform(features / "item_transform", {"item_id": ("categorical", id_dtype, list(run.items["item_id"]))})


def _write_transform(directory: Path, columns: dict[str, tuple[str, str, Any]], last: int = 0) -> None:
    (directory / "vocabulary").mkdir(parents=True)
    document: dict[str, Any] = {"format": 1, "inputs": [], "steps": [], "outputs": []}
    for name, (op, dtype, details) in columns.items():
        parameters = details if op == "continuous" else {"vocabulary": name}
        feature_dtype = "float32" if op == "continuous" else "int64"
        document["inputs"].append({"name": name, "dtype": dtype, "list": False})
        document["steps"].append({"op": op, "input": name, "output": name, **parameters})
        document["outputs"].append({"name": name, "dtype": feature_dtype, "list": False, "max_length": 0})
        if op == "categorical":
            _write_vocabulary(directory / "vocabulary" / name, details, dtype)
    if last:
        document["inputs"].append({"name": "timestamp", "dtype": "int64", "list": False})
        document["steps"].append({"op": "sequence", "input": "timestamp", "output": "history", "max_length": last})
        for name, feature_dtype in (("history", "int64"), ("history_age", "float32")):
            document["outputs"].append({"name": name, "dtype": feature_dtype, "list": True, "max_length": last})
    (directory / "transform.json").write_text(json.dumps(document), encoding="utf-8")


def _write_vocabulary(stem: Path, values: list[Any], dtype: str) -> None:
    if dtype == "int64":
        np.save(stem.with_suffix(".npy"), np.array(values, dtype=np.int64))
        return
    encoded = [value.encode() for value in values]
    np.save(stem.with_suffix(".utf8.npy"), np.frombuffer(b"".join(encoded), dtype=np.uint8))
    np.save(stem.with_suffix(".offsets.npy"), np.cumsum([0, *map(len, encoded)], dtype=np.int64))


def _write_towers(run: Run) -> None:
    towers = run.path / "towers"
    towers.mkdir()
    pooling = [
        helper.make_node("Gather", ["table/history", "history"], ["h"]),
        helper.make_node("Add", ["history_age", "one"], ["ago"]),
        helper.make_node("Reciprocal", ["ago"], ["weight"]),
        helper.make_node("Unsqueeze", ["weight", "last_axis"], ["w"]),
        helper.make_node("Mul", ["h", "w"], ["hw"]),
        helper.make_node("ReduceSum", ["hw", "axis"], ["p"], keepdims=0),
    ]
    nodes = [
        *(pooling if run.last else []),
        helper.make_node("Gather", ["table/user_id", "user_id"], ["u"]),
        helper.make_node("Gather", ["occupations", "occupation"], ["o"]),
        helper.make_node("Unsqueeze", ["age", "axis"], ["a"]),
        helper.make_node("Concat", ["u", "o", "a", *(["p"] if run.last else [])], ["all"], axis=1),
        helper.make_node("MatMul", ["all", "out"], ["z"]),
        helper.make_node("LpNormalization", ["z"], ["vector"], axis=1, p=2),
    ]
    inputs = {"user_id": TensorProto.INT64, "occupation": TensorProto.INT64, "age": TensorProto.FLOAT}
    tables = {"user_id": run.weights["user"]}
    constants = {
        "occupations": run.weights["occupation"],
        "out": run.weights["out"],
        "axis": np.array([1], dtype=np.int64),
    }
    if run.last:
        inputs.update(history=TensorProto.INT64, history_age=TensorProto.FLOAT)
        tables["history"] = run.weights["history"]
        constants["last_axis"] = np.array([2], dtype=np.int64)
        constants["one"] = np.array(1, dtype=np.float32)
    write_tower(towers / "query.onnx", nodes, inputs, constants, tables)
    table = np.concatenate([np.zeros((3, DIM), np.float32), run.vectors])
    node = [helper.make_node("Gather", ["table/item_id", "item_id"], ["vector"])]
    write_tower(towers / "item.onnx", node, {"item_id": TensorProto.INT64}, {}, {"item_id": table})
    np.save(towers / "item_vectors.npy", run.vectors)
    stated = {
        "format": 1,
        "pairing": pairing_of(towers),
        "dim": DIM,
        "metric": "inner_product",
        "query_inputs": [{"name": name} for name in inputs if name != "history_age"],  # the other array of a feature
        "item_inputs": [],
    }
    (towers / "towers.json").write_text(json.dumps(stated), encoding="utf-8")


def write_tower(
    path: Path,
    nodes: list[Any],
    inputs: dict[str, int],
    constants: dict[str, np.ndarray],
    tables: dict[str, np.ndarray],
) -> None:
    """Write a tower's graph, and the tables that it takes as inputs beside it, by the names of their files."""
    table_inputs = {f"table/{name}": TensorProto.FLOAT for name in tables}
    shapes = {f"table/{name}": list(table.shape) for name, table in tables.items()}
    path.write_bytes(_graph(nodes, {**inputs, **table_inputs}, constants, {**shapes, **_VECTOR}))
    for name, table in tables.items():
        path.with_suffix("").mkdir(exist_ok=True)
        np.save(path.with_suffix("") / f"{name}.npy", table)


def write_ranker(run: Run, candidates: int = 40) -> Path:
    """Write `ranker/` of the run and return it: what `Run.ranked` says."""
    out = run.path / "ranker"
    out.mkdir(exist_ok=True)
    nodes = [
        helper.make_node("Split", ["ranking_items", "widths"], ["vectors", "own"], axis=2),
        helper.make_node("Unsqueeze", ["ranking_vector", "last_axis"], ["column"]),
        helper.make_node("MatMul", ["vectors", "column"], ["similar"]),
        helper.make_node("Squeeze", ["similar", "last_axis"], ["similarity"]),
        helper.make_node("Gather", ["heads", "occupation"], ["wanted"]),
        helper.make_node("Unsqueeze", ["wanted", "two_axes"], ["w"]),
        helper.make_node("Reshape", ["own", "by_head"], ["by_heads"]),
        helper.make_node("Mul", ["by_heads", "w"], ["products"]),
        helper.make_node("ReduceSum", ["products", "fourth_axis"], ["sums"], keepdims=0),
        helper.make_node("ReduceMax", ["sums"], ["best"], axes=[2], keepdims=0),
        helper.make_node("Add", ["best", "similarity"], ["score"]),
    ]
    numbers = {"widths": [DIM, 12], "last_axis": [2], "two_axes": [1, 2], "fourth_axis": [3], "by_head": [0, 0, 3, 4]}
    constants = {name: np.array(value, dtype=np.int64) for name, value in numbers.items()}
    inputs = {"occupation": TensorProto.INT64, "ranking_vector": TensorProto.FLOAT, "ranking_items": TensorProto.FLOAT}
    shapes = {"ranking_vector": ["n", DIM], "ranking_items": ["n", "m", DIM + 12], "score": ["n", "m"]}
    constants["heads"] = run.weights["heads"]
    (out / "ranker.onnx").write_bytes(_graph(nodes, inputs, constants, shapes))
    np.save(out / "items.npy", np.concatenate([run.vectors, run.weights["sides"]], axis=1))
    pairing = json.loads((run.path / "towers/towers.json").read_text(encoding="utf-8"))["pairing"]
    stated = {"format": 1, "kind": "synthetic", "candidates": candidates, "pairing": pairing}
    (out / "params.json").write_text(json.dumps(stated), encoding="utf-8")
    return out


_VECTOR: dict[str, list[Any]] = {"history": ["n", "l"], "history_age": ["n", "l"], "vector": ["n", DIM]}


def _graph(
    nodes: list[Any],
    inputs: dict[str, int],
    constants: dict[str, np.ndarray],
    shapes: dict[str, list[Any]] = _VECTOR,
) -> bytes:
    output = list(shapes)[-1]
    graph = helper.make_graph(
        nodes,
        "tower",
        [helper.make_tensor_value_info(name, kind, shapes.get(name, ["n"])) for name, kind in inputs.items()],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, shapes[output])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)])
    model.ir_version = 8
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())
