"""Class prototypes: the formulas by hand, and items of a file labelled by a release."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from onnx import TensorProto, helper
from typer.testing import CliRunner

from ensemble.catalogue.changes import LiveItems
from ensemble.catalogue.labelling import label
from ensemble.catalogue.prototypes import Neighbours, Prototypes, average_precision, quality
from ensemble.serving.files.release import Release
from models.towers.onnx import pairing_of
from retrieval.cli import app
from tests import synthetic
from tests.livecatalogue import write_items
from tests.synthetic import DIM, Run, make_release, make_run
from workflows.errors import DataError

KINDS = ("film", "könyv", "song")


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def test_a_prototype_is_the_mean_of_its_class_and_a_score_the_odds_by_the_cosine() -> None:
    rng = np.random.default_rng(0)
    vectors, queries = (rng.normal(size=(rows, 5)).astype(np.float32) + 1 for rows in (40, 7))
    labels = rng.random((40, 3)) < 0.5
    scores = Prototypes(vectors, labels).score(queries)
    centre = unit(vectors).mean(axis=0)
    own = unit(unit(vectors) - centre)
    for number, members in enumerate(labels.T):
        cosines = [  # each item with the mean of the others
            item @ unit(own[members & (np.arange(40) != place)].mean(axis=0)) for place, item in enumerate(own)
        ]
        inside, outside = np.array(cosines)[members], np.array(cosines)[~members]
        variance = (inside.var() * len(inside) + outside.var() * len(outside)) / 40
        slope = max(inside.mean() - outside.mean(), 0) / variance
        offset = np.log((len(inside) + 1) / (len(outside) + 1)) - slope * (inside.mean() + outside.mean()) / 2
        cosine = unit(unit(queries) - centre) @ unit(own[members].mean(axis=0))
        np.testing.assert_allclose(scores[:, number], 1 / (1 + np.exp(-slope * cosine - offset)), rtol=0, atol=1e-4)


def test_probabilities_say_how_often_they_are_right() -> None:
    """Classes of unequal size and spread: what is said to be likely in so many of a hundred is so in about as many."""
    rng = np.random.default_rng(1)
    sizes = np.array([700, 250, 50])
    kinds = rng.permutation(np.repeat(np.arange(3), 2 * sizes))
    means = rng.normal(size=(3, 16))
    vectors = (means[kinds] + rng.normal(size=(2000, 16)) * np.array([1.0, 2.0, 3.0])[kinds][:, None]).astype(
        np.float32
    )
    labels = kinds[:, None] == np.arange(3)
    probabilities = Prototypes(vectors[:1000], labels[:1000]).score(vectors[1000:])
    np.testing.assert_allclose(probabilities.sum(axis=0), labels[1000:].sum(axis=0), rtol=0.25)
    likely = probabilities > 0.5
    assert abs(labels[1000:][likely].mean() - probabilities[likely].mean()) < 0.1


def test_neighbours_share_their_cosines_among_their_classes() -> None:
    vectors = np.array([[1, 0], [1, 1], [0, 1], [-1, 0]], dtype=np.float32)
    labels = np.array([[True, False], [True, True], [False, True], [False, True]])
    scores = Neighbours(vectors, labels, 2).score(np.array([[2, 0], [-3, 0]], dtype=np.float32))
    half = np.sqrt(0.5)
    np.testing.assert_allclose(scores[0], [1.0, half / (1 + half)], atol=1e-6)
    np.testing.assert_allclose(scores[1], [0.0, 1.0], atol=1e-6)  # the second neighbour is at a right angle


def test_average_precision_is_that_of_the_textbook_and_ties_earn_nothing() -> None:
    scores = np.array([[0.9, 0.8, 0.7, 0.6], [0.5, 0.5, 0.5, 0.5]])
    truth = np.array([[True, False, True, False], [True, False, False, False]])
    np.testing.assert_allclose(average_precision(scores, truth), [(1 + 2 / 3) / 2, 1 / 4])
    figures = quality(
        np.array([[3.0, 1.0], [2.0, 4.0], [2.0, 1.0], [0.0, 0.0]]), np.array([[1, 0], [1, 1], [0, 1], [0, 0]], bool)
    )
    assert (figures["items"], figures["single_class_items"]) == (3, 2)
    assert (figures["precision@1"], figures["accuracy"]) == (pytest.approx(2 / 3), 0.5)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_score_that_is_not_finite_is_never_right(value: float) -> None:
    truth = np.array([[True, False], [False, True]])
    for scores in (np.full((2, 2), value), np.where(truth, value, 0.5)):
        figures = quality(scores, truth)
        assert figures["precision@1"] == figures["accuracy"] == 0
        assert figures["map"] == figures["ranking_precision"] == 0.5, "last of two"


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run whose item tower reads `kind`, which says nearly everything of an item's vector. Do not write to it."""
    run, rng = make_run(tmp_path_factory.mktemp("kinds"), items=120), np.random.default_rng(3)
    kinds = rng.integers(0, 3, 120)
    own = np.concatenate([np.zeros((3, DIM)), 0.1 * rng.normal(size=(120, DIM))]).astype(np.float32)
    by_kind = np.concatenate([np.zeros((3, DIM)), 5 * np.eye(3, DIM)]).astype(np.float32)
    run = replace(run, items=run.items.assign(kind=[KINDS[i] for i in kinds]), vectors=own[3:] + by_kind[kinds + 3])
    _rewrite(run, own, by_kind)
    make_release(run)
    return run


def _rewrite(run: Run, own: np.ndarray, by_kind: np.ndarray) -> None:
    import shutil

    features, towers = run.path / "features", run.path / "towers"
    run.items.to_parquet(features / "catalogue.parquet")
    shutil.rmtree(features / "item_transform")
    columns = {
        "item_id": ("categorical", "int64", list(run.items["item_id"])),
        "kind": ("categorical", "string", list(KINDS)),
    }
    synthetic._write_transform(features / "item_transform", columns)
    nodes = [
        helper.make_node("Gather", ["table/item_id", "item_id"], ["a"]),
        helper.make_node("Gather", ["by_kind", "kind"], ["b"]),
        helper.make_node("Add", ["a", "b"], ["vector"]),
    ]
    inputs = {"item_id": TensorProto.INT64, "kind": TensorProto.INT64}
    synthetic.write_tower(towers / "item.onnx", nodes, inputs, {"by_kind": by_kind}, {"item_id": own})
    np.save(towers / "item_vectors.npy", run.vectors)
    stated = json.loads((towers / "towers.json").read_text())
    (towers / "towers.json").write_text(json.dumps({**stated, "pairing": pairing_of(towers)}))


def classified(capfd: pytest.CaptureFixture[str], run: Run, items: Path, *more: str) -> tuple[str, str]:
    """Run the command and return what it says on stdout and stderr."""
    capfd.readouterr()
    done = CliRunner().invoke(app, ["classify", str(run.path / "release"), str(items), *more])
    captured = capfd.readouterr()
    assert done.exit_code == 0, done.output + captured.err
    return captured.out, done.stderr + captured.err


def test_items_of_a_file_get_the_classes_of_the_prototypes_of_the_others(
    run: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    rows = [3, 50, 77]
    place = write_items(tmp_path / "items.jsonl", [{"item_id": item_id} for item_id in run.items["item_id"].iloc[rows]])
    result = json.loads(classified(capfd, run, place, "--top", "5", "--json")[0])
    names = [entry["class"] for entry in result["classes"]]
    labels = np.array([[name in genres for name in names] for genres in run.items["genres"]])
    labels[rows] = False  # no item helps to label itself
    assert [entry["items"] for entry in result["classes"]] == labels.sum(axis=0).tolist()
    known = labels.any(axis=1)
    expected = Prototypes(run.vectors[known], labels[known]).score(run.vectors[rows])
    for item, scores in zip(result["items"], expected, strict=True):
        assert [best["score"] for best in item["classes"]] == pytest.approx(sorted(scores, reverse=True), abs=1e-5)
        assert item["classes"][0]["class"] == names[int(scores.argmax())]
    assert not result["left_empty"]
    assert result["quality"] is None


def test_the_label_itself_is_no_input_of_the_vector_that_is_labelled(
    read: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """With the kind in the vector, every answer would be right; its own small part of the vector says nothing."""
    ids, kinds = (read.items[name].tolist()[:60] for name in ("item_id", "kind"))
    rows = [{"item_id": item_id, "kind": kind} for item_id, kind in zip(ids, kinds, strict=True)]
    files = {"told": rows, "blank": [{"item_id": item_id} for item_id in ids]}
    options = ("--attribute", "kind", "--json")
    labelled, blank = (
        json.loads(classified(capfd, read, write_items(tmp_path / f"{name}.jsonl", content), *options)[0])
        for name, content in files.items()
    )
    assert labelled["left_empty"]
    assert labelled["items"] == blank["items"]
    assert labelled["quality"]["accuracy"] < 0.6
    labels = np.array([[kind == name for name in KINDS] for kind in read.items["kind"]])
    leaking = Prototypes(read.vectors[60:], labels[60:]).score(read.vectors[:60]).argmax(axis=1)
    assert [KINDS[code] for code in leaking] == kinds


def test_a_table_with_what_the_file_says_and_a_warning_where_the_tower_reads_the_label(
    read: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    frame = pd.DataFrame({"item_id": read.items["item_id"][:2], "kind": ["song", "film"]})
    frame.to_csv(tmp_path / "items.csv", index=False)
    table, messages = classified(capfd, read, tmp_path / "items.csv", "--attribute", "kind", "--neighbours", "5")
    assert "as the file says" in table
    assert "mean average precision" in table
    assert "the item tower reads 'kind'" in messages


def test_what_cannot_be_asked_is_refused_by_name(run: Run, tmp_path: Path) -> None:
    items = LiveItems(Release.open(run.path / "release"))
    place = write_items(tmp_path / "items.jsonl", [{"item_id": run.items["item_id"].iloc[0]}])
    with pytest.raises(DataError, match=r"--attribute year: no tags of this release; it has title, genres"):
        label(items, place, "year")
    with pytest.raises(DataError, match="column 'colour' is unknown"):
        label(items, write_items(tmp_path / "more.jsonl", [{"item_id": "x", "colour": "red"}]), "genres")
