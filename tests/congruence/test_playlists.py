"""A new playlist is answered from what its request carries, and the reported continuation is the served one."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from ensemble.client import RetrievalClient
from ensemble.server.ports import free_ports
from ensemble.server.server import TritonServer
from ensemble.serving.retriever import Answer, Retriever
from ensemble.triton.export import GraphRuntime
from ensemble.triton.operators import build_ensemble
from models.config import Withheld
from models.evaluation.playlist_scenarios import SCENARIOS, Challenge, challenge, query_features
from models.evaluation.playlists import METRICS, artist_numbers, playlist_metrics
from models.towers.two_tower import input_names
from models.towers.withholding import Withholding
from retrieval.recipes.recipe import load_recipe
from retrieval.runs.reference import fitted_queries
from retrieval.runs.run import Run
from retrieval.runs.stages import STAGES
from workflows.features import stage as features
from workflows.features.stage import FeatureSet
from workflows.sources.playlists import COUNTS, TITLE
from workflows.sources.playlists_generator import generate

RECIPE = Path(__file__).parents[2] / "recipes" / "playlists.toml"
STRANGER = -1
"""A pid that no playlist has."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The recipe that ships, on few made-up playlists and one epoch."""
    place = tmp_path_factory.mktemp("playlists")
    generate(place / "data", 150, 500, seed=4)
    text = RECIPE.read_text(encoding="utf-8").replace('"../data/playlists"', f'"{place / "data"}"')
    path = place / "playlists.toml"
    path.write_text(re.sub(r"\[train\](.|\n)*?\n\n", "[train]\nepochs = 1\nrefit = false\n\n", text), encoding="utf-8")
    run = Run.create(load_recipe(path), place / "runs", STAGES)
    with run.lock():
        for stage in run.stages.values():
            run.execute(stage, place, str)
    return run


@pytest.fixture(scope="module")
def data(run: Run) -> FeatureSet:
    return features.load(run.directory / "features")


@pytest.fixture(scope="module")
def retriever(run: Run) -> Retriever:
    return Retriever.load(run.directory / "release")


def requests(task: Challenge, data: FeatureSet) -> list[dict[str, np.ndarray]]:
    """What a client sends for each playlist: what is null is not sent."""
    messages = []
    uris = data.catalogue["item_id"].to_numpy()
    for row, query in enumerate(task.queries.to_dict("records")):
        sent: dict[str, Any] = {name: query[name] for name in (TITLE, *COUNTS) if not pd.isna(query[name])}
        arrays = {name: np.array([[_wire(value)]]) for name, value in sent.items()}
        seeds = task.seeds[task.seeds["user_id"] == row]
        arrays |= {
            "user_id": np.array([[STRANGER]], np.int64),
            "timestamp": np.array([[query["timestamp"]]], np.int64),
            "top_k": np.array([[500]], np.int32),
            "history_item_ids": np.array([[uri.encode() for uri in uris[seeds["item_index"]]]], dtype=object),
            "history_timestamps": seeds["timestamp"].to_numpy(np.int64)[None, :],
        }
        messages.append({name: arrays[name] for name in sorted(arrays)})
    return messages


def _wire(value: Any) -> Any:
    return value.encode() if isinstance(value, str) else value


def served(retriever: Retriever, request: dict[str, np.ndarray]) -> Answer:
    typed = {name: array.astype(object) if array.dtype.kind == "S" else array for name, array in request.items()}
    return retriever.answer(retriever.reader.read([typed]))


def test_a_held_out_playlist_is_no_user_of_the_release(data: FeatureSet, retriever: Retriever) -> None:
    held_out = data.test.interactions["user_id"].unique()
    assert (retriever.users.rows_of(held_out) == -1).all()
    assert (retriever.users.rows_of(data.valid.interactions["user_id"].unique()) >= 0).all()


@pytest.mark.parametrize("number", [0, 1, 3, 7])
def test_what_is_reported_is_what_is_served(run: Run, data: FeatureSet, retriever: Retriever, number: int) -> None:
    """Every query of a scenario through the release, as a request that no id helps: the figures of metrics.json."""
    scenario = SCENARIOS[number]
    metrics = json.loads((run.directory / "metrics.json").read_bytes())["continuation"]
    reported = next(entry for entry in metrics["scenarios"] if entry["name"] == scenario.name)
    task = challenge(data, data.test, scenario)
    assert task is not None
    answers = [served(retriever, request) for request in requests(task, data)]
    assert not any(answer.user_known.any() for answer in answers)
    items = np.concatenate([answer.item_index for answer in answers])
    for row, answered in enumerate(items):
        assert not set(task.given.items[task.given.offsets[row] : task.given.offsets[row + 1]]) & set(answered)
    figures = playlist_metrics(items, task.hidden, artist_numbers(data.catalogue))
    for name in METRICS:
        assert figures[name].mean() == pytest.approx(reported[name], abs=1e-4), name


def test_the_graph_and_a_running_triton_answer_alike(run: Run, data: FeatureSet, retriever: Retriever) -> None:
    task = challenge(data, data.test, SCENARIOS[2])
    assert task is not None
    sent = requests(task, data)[:6]
    expected = [served(retriever, request).item_id[0, :20].tolist() for request in sent]
    inputs = {column.name: column for column in retriever.inputs}
    frame = pd.DataFrame([{name: _cell(cell, inputs[name].dims) for name, cell in request.items()} for request in sent])
    graph = build_ensemble(run.directory / "release")
    for name in graph.input_schema.column_names:
        frame[name] = frame.get(name, pd.Series([None] * len(frame), dtype=object))
    answered = graph.transform(frame[graph.input_schema.column_names], GraphRuntime())
    assert [list(ids)[:20] for ids in answered["item_id"]] == expected
    grpc, http, metrics = free_ports("127.0.0.1", 3)
    repository = run.directory / "triton"
    with (
        TritonServer(repository, grpc_port=grpc, http_port=http, metrics_port=metrics) as server,
        RetrievalClient(server.addresses.grpc) as client,
    ):
        answers = client.recommend(
            [STRANGER] * len(sent),
            top_k=20,
            columns={name: task.queries[name].tolist()[: len(sent)] for name in (TITLE, *COUNTS)},
            timestamps=frame["timestamp"].tolist(),
            history=[list(zip(*pair, strict=True)) for pair in _pairs(frame)],
        )
    assert [answer.item_ids for answer in answers] == expected


def _cell(array: np.ndarray, dims: int) -> Any:
    values = [value.decode() if isinstance(value, bytes) else value for value in array.reshape(-1).tolist()]
    return values[0] if dims == 1 else values


def _pairs(frame: pd.DataFrame) -> list[tuple[list[str], list[int]]]:
    return list(zip(frame["history_item_ids"], frame["history_timestamps"], strict=True))


def test_what_training_hides_is_what_a_request_does_not_send(run: Run, data: FeatureSet) -> None:
    """Rows with everything hidden have the features of an empty query."""
    groups = [Withheld(features=("name",), rate=0.9999999), Withheld(features=("history", *COUNTS), rate=0.9999999)]
    transform: Callable[[pd.DataFrame], dict[str, np.ndarray]]
    transform = fitted_queries(run.recipe, run.directory / "features").transform
    task, silent = (challenge(data, data.test, SCENARIOS[number]) for number in (2, 0))
    assert task is not None
    assert silent is not None
    full = {name: tf.constant(values) for name, values in query_features(task, data, transform).items()}
    hidden = Withholding(data.query_specs, groups, input_names)(full)
    untold = query_features(silent._replace(queries=silent.queries.assign(**{TITLE: None})), data, transform)
    for name, values in hidden.items():
        assert (full[name].numpy() != values.numpy()).any(), name
        assert (values.numpy() == untold[name][:1]).all(), name
