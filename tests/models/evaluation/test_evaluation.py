"""The evaluation against its definitions: who popularity is, which rows are asked for, what the groups are."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pandas as pd
import pytest
from onnx import TensorProto, helper, numpy_helper

from models.baselines.comparison import Measured, summarise, write_peers
from models.baselines.popularity import Popularity
from models.baselines.task import test_task as task_of  # not a test
from models.baselines.task import validation_task
from models.config import Rating, Threshold
from models.data import asked
from models.evaluation.config import Evaluate
from models.evaluation.stage import EVERY_ROW, Beside, evaluate, measure, sampling
from retrieval.report.tables import metrics_table
from workflows.errors import DataError
from workflows.features import stage as features
from workflows.features.stage import FeatureSet, Sample

DIM = 8


@pytest.fixture(scope="module")
def towers(grouped: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Untrained towers: a random vector for every user code and for every item."""
    data, random = features.load(grouped), np.random.default_rng(5)
    table = random.normal(size=(data.query_specs[0].cardinality, DIM)).astype(np.float32)
    inputs = [("user_id", TensorProto.INT64), ("age", TensorProto.FLOAT)]
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "user_id"], ["vector"])],
        "query",
        [helper.make_tensor_value_info(name, kind, ["n"]) for name, kind in inputs],
        [helper.make_tensor_value_info("vector", TensorProto.FLOAT, ["n", DIM])],
        [numpy_helper.from_array(table, "table")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)])
    model.ir_version = 8
    out = tmp_path_factory.mktemp("untrained")
    onnx.save(model, out / "query.onnx")
    np.save(out / "item_vectors.npy", random.normal(size=(len(data.catalogue), DIM)).astype(np.float32))
    return out


@pytest.fixture
def strangers(grouped: Path, tmp_path: Path) -> Path:
    """The grouped features, as of a split that asks for known users and items; ten of each are not known."""
    out = tmp_path / "features"
    shutil.copytree(grouped, out)
    for part in ("train", "valid"):
        rows = pd.read_parquet(out / part / "interactions.parquet")
        known = ((rows["user_id"] > 10) & (rows["item_index"] >= 10)).to_numpy()
        rows[known].reset_index(drop=True).to_parquet(out / part / "interactions.parquet")
        query = pd.read_parquet(out / part / "query.parquet")
        query[known].reset_index(drop=True).to_parquet(out / part / "query.parquet")
    document = json.loads((out / "features.json").read_text())
    (out / "features.json").write_text(json.dumps({**document, "asked": "known"}))
    return out


def rated(data: FeatureSet) -> FeatureSet:
    """Every second row of training is disliked."""
    ratings = np.where(np.arange(len(data.train.interactions)) % 2, 5.0, 2.0)
    return data._replace(train=data.train._replace(interactions=data.train.interactions.assign(rating=ratings)))


@pytest.mark.parametrize("rating", [EVERY_ROW, Threshold(positive_from=4.0)])
def test_popularity_is_one_thing_counted_in_users(
    grouped: Path, towers: Path, rating: Rating, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The evaluation once counted rows, the peers users: a user with an item twice moved one of them only."""
    data = rated(features.load(grouped))
    monkeypatch.setattr("models.evaluation.stage.load_tested", lambda _: data)
    known = pd.concat([data.train.interactions, data.valid.interactions])
    pairs = known[["user_id", "item_index"]]
    assert pairs.duplicated().any()
    if rating != EVERY_ROW:
        pairs = pairs[known["rating"] >= 4.0]
    users = pairs.drop_duplicates()["item_index"].value_counts()
    order = sorted(range(len(data.catalogue)), key=lambda item: (-users.get(item, 0), item))
    hits = [item in order[:10] for item in data.test.interactions["item_index"]]
    popularity = evaluate(grouped, towers, "random", rating)["popularity"]
    assert popularity["all"]["recall@10"] == pytest.approx(np.mean(hits))
    task = task_of(data, rating, dated=True)
    peer: Measured = {"popularity": ({}, task.rank(Popularity().fit(task.interactions)))}
    (row,) = summarise(peer, task.users, seed=0)
    for side in ("all", "unseen"):
        assert row[side] == pytest.approx({name: popularity[side][name] for name in row[side]})


def test_rows_of_strangers_are_left_to_their_groups_if_the_split_does_not_ask_for_them(
    grouped: Path, strangers: Path, towers: Path
) -> None:
    metrics, data = evaluate(strangers, towers, "random"), features.load(strangers)
    rows = data.test.interactions
    user, item = (rows["user_id"] > 10).to_numpy(), (rows["item_index"] >= 10).to_numpy()
    groups = metrics["groups"]
    assert metrics["rows"] == groups["user and item known"]["rows"] == (user & item).sum() < len(rows)
    assert metrics["users"] == rows["user_id"][user & item].nunique()
    for name, value in groups["user and item known"]["unseen"].items():
        assert value == pytest.approx(metrics["unseen"][name])
    assert groups["user unknown"]["rows"] == (~user).sum()
    assert groups["item unknown"]["rows"] == (~item).sum()
    by_history = sum(group["rows"] for name, group in groups.items() if name.startswith("users of"))
    assert by_history == user.sum()
    everything = evaluate(grouped, towers, "random")
    assert everything["rows"] == everything["groups"]["all rows"]["rows"] == len(rows)


def test_the_peers_and_the_validation_are_asked_for_the_same_rows(strangers: Path) -> None:
    data = features.load(strangers)
    for task, part, known in (
        (validation_task(data, EVERY_ROW), data.valid, data.train.interactions),
        (
            task_of(data, EVERY_ROW, dated=True),
            data.test,
            pd.concat([data.train.interactions, data.valid.interactions]),
        ),
    ):
        kept = asked(data, part, known)
        np.testing.assert_array_equal(task.targets, kept.interactions["item_index"])
        assert kept.interactions["user_id"].min() > 10
        assert kept.interactions["item_index"].min() >= 10
        assert all(len(values) == len(kept.interactions) for values in kept.query.values())
    assert len(asked(data._replace(asked="all"), data.test, known).interactions) == len(data.test.interactions)


def test_a_split_that_asks_for_nothing_is_refused(grouped: Path) -> None:
    data = features.load(grouped)._replace(asked="known")
    with pytest.raises(DataError, match=r'none of 1,200 rows.*"all"'):
        asked(data, data.test, data.train.interactions.iloc[:0])


def test_drawn_rows_are_all_those_of_some_users_and_the_error_stated_is_that_of_drawing(
    grouped: Path, towers: Path
) -> None:
    data, name = features.load(grouped), "recall@100"
    whole = measure(data, towers, EVERY_ROW)
    figure, off, stated = whole.towers["unseen"].row_values(name).mean(), [], []
    for seed in range(20):
        drawn = data._replace(sample=Sample(400, seed))
        measured = measure(drawn, towers, EVERY_ROW)
        mask = np.isin(whole.task.users, measured.task.users)
        for side, ranking in measured.towers.items():
            np.testing.assert_array_equal(ranking.ranks, whole.towers[side].ranks[mask])
        sample = sampling(drawn, measured.task, measured.towers)["sample"]
        assert (sample["rows"], sample["of_rows"]) == (mask.sum(), 1200)
        assert mask.sum() == pytest.approx(400, rel=0.2)
        off.append(measured.towers["unseen"].row_values(name).mean() - figure)
        stated.append(sample["standard_error"]["unseen"][name])
    assert np.sqrt(np.mean(np.square(off))) == pytest.approx(np.mean(stated), rel=0.4)


def test_the_recipe_draws_the_same_rows_for_towers_and_peers_and_says_so(
    grouped: Path, towers: Path, tmp_path: Path
) -> None:
    settings = Evaluate(rows=300, peers=("knn",), peers_seconds=0.1)
    write_peers(grouped, tmp_path, EVERY_ROW, settings, 1, lambda _: None)
    metrics = evaluate(grouped, towers, "random", beside=Beside(peers=tmp_path), settings=settings)
    assert [model["name"] for model in metrics["comparison"]["models"]] == ["two-tower", "popularity", "item KNN"]
    assert metrics["rows"] == metrics["sample"]["rows"] < 400
    assert f"{metrics['rows']:,} of 1,200 test rows" in str(metrics_table(metrics).title)
    assert evaluate(grouped, towers, "random", settings=Evaluate(rows=1200)) == evaluate(grouped, towers, "random")
