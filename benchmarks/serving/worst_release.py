"""Releases of any number of items that are made for `worst_requests.py`: every control input, every kind of filter.

Vectors are those of benchmarks/search/vectors.py. Nothing is trained: the query tower looks a user's vector up and adds
a little of the history. What a request costs does not depend on the numbers.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from onnx import TensorProto, helper, numpy_helper

from benchmarks.search.vectors import make_vectors
from ensemble.config import Serving
from ensemble.release.columns import save_values
from ensemble.release.write import Parts, Settings, Training, write_release
from models.towers.onnx import pairing_of
from workflows.files import atomic_directory
from workflows.progress import Progress, silent

DIM, LAST, USERS, CLICKS = 64, 50, 1000, 100
"""Width of the vectors and of the history, users, and interactions of each but the first."""
MOST_CLICKS = 20_000
"""Interactions of the first user, at most."""
GENRES, LABELS, BRANDS = 20, 2000, 500
"""Distinct values: three genres, five labels and one brand an item."""
CANDIDATES = 500
TOKENS = 32
"""Of a user's text, which the tower does not look at."""
_Array = np.ndarray
_WIDE = 128  # hidden units of the ranker


class Made(NamedTuple):
    """A release, and what a request may name."""

    path: Path
    item_ids: Any
    """int64 [items], or a list of strings."""


def make_release(place: Path, items: int, ids: str = "int64", ranks: bool = False, progress: Progress = silent) -> Made:
    """Write the release of a catalogue to `place/release`, or take it from there; `ids` are "int64" or "string"."""
    item_ids = item_ids_of(items, ids)
    if not (place / "release").is_dir():
        with atomic_directory(place / "parts") as parts:
            _write_parts(parts, items, item_ids, ranks)
        run = place / "parts"
        sources = Parts(run / "features", run / "towers", place / "release", run / "ranker" if ranks else None)
        write_release(sources, Training(), Settings(f"worst-{items}", "0" * 64, Serving(layout="both")), progress)
    return Made(place / "release", item_ids)


def item_ids_of(items: int, kind: str) -> Any:
    """Return the ids of a catalogue: int64 of up to eleven digits, or strings of 36 characters."""
    if kind == "int64":
        return np.random.default_rng(1).permutation(items).astype(np.int64) * 7919 + 10_000_000_000
    return [f"{number * 2654435761 % 2**32:08x}-item-{number:022d}" for number in range(items)]


def _write_parts(parts: Path, items: int, item_ids: Any, ranks: bool) -> None:
    data = make_vectors(items, USERS, dim=DIM)
    _write_features(parts / "features", item_ids)
    pairing = _write_towers(parts / "towers", data.vectors, data.queries)
    if ranks:
        _write_ranker(parts / "ranker", data.vectors, pairing)


def _write_features(features: Path, item_ids: Any) -> None:
    users = pd.DataFrame({"user_id": np.arange(USERS), "about": "a"})
    rows = _interactions(len(item_ids))
    for part, chosen in {"train": rows[:-300], "valid": rows[-300:-150], "test": rows[-150:]}.items():
        (features / part).mkdir(parents=True)
        chosen.assign(item_id=pd.Series(item_ids)[chosen["item_index"]].to_numpy()).to_parquet(
            features / part / "interactions.parquet"
        )
    users.to_parquet(features / "users.parquet")
    catalogue(item_ids).to_parquet(features / "catalogue.parquet")
    (features / "features.json").write_text('{"asked": "all"}')
    user = {"op": "categorical", "input": "user_id", "output": "user_id", "vocabulary": "user_id"}
    sequence = {"op": "sequence", "input": "timestamp", "output": "history", "max_length": LAST}
    text = {"op": "text", "input": "about", "output": "about", "vocabulary": "about", "ngrams": 3, "max_length": TOKENS}
    query = _transform([("user_id", "int64"), ("timestamp", "int64"), ("about", "string")], [user, text, sequence])
    query["outputs"].insert(1, {"name": "about", "dtype": "int64", "list": True, "max_length": TOKENS})
    vocabularies = {"user_id": users["user_id"].tolist(), "about": ["a", "b"]}
    _write_transform(features / "query_transform", query, vocabularies)
    kind = "int64" if isinstance(item_ids, _Array) else "string"
    item = {"op": "categorical", "input": "item_id", "output": "item_id", "vocabulary": "item_id"}
    _write_transform(features / "item_transform", _transform([("item_id", kind)], [item]), {"item_id": item_ids})


def _interactions(items: int) -> pd.DataFrame:
    rng = np.random.default_rng(2)
    counts = np.full(USERS, CLICKS)
    counts[0] = min(MOST_CLICKS, items // 2)
    size = int(counts.sum())
    rows = pd.DataFrame({"user_id": np.repeat(np.arange(USERS), counts), "item_index": rng.integers(0, items, size)})
    rows["rating"], rows["timestamp"] = np.float32(1), rng.integers(1_000_000_000, 1_000_100_000, size)
    return rows.sample(frac=1.0, random_state=3).reset_index(drop=True)


def catalogue(item_ids: Any) -> pd.DataFrame:
    """Return the items' columns: tags of few and of many values, whole numbers and fractions."""
    rng, size = np.random.default_rng(4), len(item_ids)
    genres, labels = rng.zipf(1.3, (size, 3)) % GENRES, rng.zipf(1.2, (size, 5)) % LABELS
    return pd.DataFrame(
        {
            "item_id": item_ids,
            "genres": (genres.astype(str).astype(object)).tolist(),
            "labels": (labels.astype(str).astype(object)).tolist(),
            "brand": rng.integers(0, BRANDS, size).astype(str).astype(object),
            "year": rng.integers(1950, 2026, size),
            "price": rng.gamma(2.0, 10.0, size),
        }
    )


def _transform(inputs: list[tuple[str, str]], steps: list[dict[str, Any]]) -> dict[str, Any]:
    outputs = [{"name": step["output"], "dtype": "int64", "list": False, "max_length": 0} for step in steps[:1]]
    for name, dtype in (("history", "int64"), ("history_age", "float32")) if len(steps) > 1 else ():
        outputs.append({"name": name, "dtype": dtype, "list": True, "max_length": LAST})
    columns = [{"name": name, "dtype": dtype, "list": False} for name, dtype in inputs]
    return {"format": 1, "inputs": columns, "steps": steps, "outputs": outputs}


def _write_transform(directory: Path, document: dict[str, Any], vocabularies: dict[str, Any]) -> None:
    (directory / "vocabulary").mkdir(parents=True)
    (directory / "transform.json").write_text(json.dumps(document), encoding="utf-8")
    for name, values in vocabularies.items():
        save_values(values, directory / "vocabulary" / name, "string" if isinstance(values[0], str) else "int64")


def _write_towers(towers: Path, vectors: _Array, queries: _Array) -> str:
    """Write both towers and the item vectors; return their pairing."""
    towers.mkdir()
    rng = np.random.default_rng(5)
    history = rng.normal(scale=0.01, size=(len(vectors) + 3, 4)).astype(np.float32)
    tables: dict[str, _Array] = {
        "users": np.concatenate([queries[:3], queries]),
        "items": history,
        "out": rng.normal(scale=0.1, size=(4, DIM)).astype(np.float32),
        "axis": np.array([1], dtype=np.int64),
    }
    nodes = [
        helper.make_node("Gather", ["users", "user_id"], ["user"]),
        helper.make_node("Gather", ["items", "history"], ["past"]),
        helper.make_node("ReduceSum", ["past", "axis"], ["pooled"], keepdims=0),
        helper.make_node("MatMul", ["pooled", "out"], ["more"]),
        helper.make_node("Add", ["user", "more"], ["sum"]),
        helper.make_node("LpNormalization", ["sum"], ["vector"], axis=1, p=2),
    ]
    inputs = {"user_id": (TensorProto.INT64, ["n"]), "history": (TensorProto.INT64, ["n", "l"])}
    (towers / "query.onnx").write_bytes(_graph(nodes, inputs, ("vector", ["n", DIM]), tables))
    table = np.concatenate([vectors[:3], vectors])
    node = [helper.make_node("Gather", ["table", "item_id"], ["vector"])]
    item_inputs = {"item_id": (TensorProto.INT64, ["n"])}
    (towers / "item.onnx").write_bytes(_graph(node, item_inputs, ("vector", ["n", DIM]), {"table": table}))
    np.save(towers / "item_vectors.npy", vectors)
    pairing = pairing_of(towers)
    stated = {"format": 1, "pairing": pairing, "dim": DIM, "metric": "inner_product", "item_inputs": []}
    stated["query_inputs"] = [{"name": name} for name in inputs]
    (towers / "towers.json").write_text(json.dumps(stated), encoding="utf-8")
    return pairing


def _write_ranker(out: Path, vectors: _Array, pairing: str) -> None:
    """Write a ranker of one hidden layer over an item's vector, to which the similarity is added."""
    out.mkdir()
    rng = np.random.default_rng(6)
    tables: dict[str, _Array] = {
        "hidden": rng.normal(scale=0.1, size=(DIM, _WIDE)).astype(np.float32),
        "last": rng.normal(scale=0.1, size=(_WIDE, 1)).astype(np.float32),
        "axis": np.array([2], dtype=np.int64),
    }
    nodes = [
        helper.make_node("MatMul", ["ranking_items", "hidden"], ["wide"]),
        helper.make_node("Relu", ["wide"], ["active"]),
        helper.make_node("MatMul", ["active", "last"], ["own"]),
        helper.make_node("Unsqueeze", ["ranking_vector", "axis"], ["column"]),
        helper.make_node("MatMul", ["ranking_items", "column"], ["similar"]),
        helper.make_node("Add", ["own", "similar"], ["sum"]),
        helper.make_node("Squeeze", ["sum", "axis"], ["score"]),
    ]
    inputs = {
        "ranking_vector": (TensorProto.FLOAT, ["n", DIM]),
        "ranking_items": (TensorProto.FLOAT, ["n", "m", DIM]),
    }
    (out / "ranker.onnx").write_bytes(_graph(nodes, inputs, ("score", ["n", "m"]), tables))
    np.save(out / "items.npy", vectors)
    stated = {"format": 1, "kind": "worst", "candidates": CANDIDATES, "pairing": pairing}
    (out / "params.json").write_text(json.dumps(stated), encoding="utf-8")


def _graph(
    nodes: list[Any],
    inputs: dict[str, tuple[int, list[Any]]],
    output: tuple[str, list[Any]],
    constants: dict[str, _Array],
) -> bytes:
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()],
        [helper.make_tensor_value_info(output[0], TensorProto.FLOAT, output[1])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)])
    model.ir_version = 8
    return bytes(model.SerializeToString())
