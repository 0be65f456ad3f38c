"""Training, export and evaluation together, on data whose structure is known."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import msgspec
import numpy as np
import onnxruntime
import pytest
from msgspec import structs

from models.baselines.ease import Ease as EasePeer
from models.baselines.task import validation_task
from models.config import (
    Augmentation,
    Cross,
    Distillation,
    Ease,
    Gates,
    Ignored,
    Model,
    Objective,
    Sampled,
    Threshold,
    Train,
)
from models.evaluation.stage import evaluate, tower_scores
from models.towers.onnx import files_of, pairing_of
from models.training import stage
from models.training.stage import train
from workflows.errors import RecipeError, StageError
from workflows.features import stage as features

MODEL = Model(tower=(32, 16), embedding_dim=16, dropout=0.1)
ENRICHED = structs.replace(
    MODEL,
    cross=Cross(structure="parallel"),
    gates=Gates(activation="relu", reduction=1),
    augmentation=Augmentation(category="tags"),
)
TRAIN = Train(epochs=12, patience=12, batch_size=256, learning_rate=0.01)


@pytest.fixture(scope="module")
def towers(grouped: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Towers trained on the grouped data."""
    out = tmp_path_factory.mktemp("towers")
    train(features.load(grouped), MODEL, TRAIN, 7, "cpu", out, lambda _: None)
    return out


def test_the_towers_find_a_structure_that_popularity_cannot(grouped: Path, towers: Path) -> None:
    figures = evaluate(grouped, towers, "random")
    assert figures["all"]["recall@50"] > 2 * figures["popularity"]["all"]["recall@50"]
    assert figures["unseen"]["recall@10"] > 2 * figures["popularity"]["unseen"]["recall@10"]
    assert (figures["rows"], figures["items"], figures["protocol"]) == (1200, 240, "random")


@pytest.mark.parametrize(
    ("model", "candidates"),
    [(MODEL, Sampled(uniform=0)), (ENRICHED, Sampled(uniform=64, popularity=32, cached=512, hard=200))],
)
def test_so_do_towers_trained_on_sampled_items(
    grouped: Path, tmp_path: Path, model: Model, candidates: Sampled, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And an epoch that takes long says how far it is."""
    monkeypatch.setattr(stage, "STEP_SECONDS", 0.0)
    lines = list[str]()
    objective = Objective(candidates=candidates, positives_weight=0.0, label_smoothing=0.05)
    sampled = structs.replace(TRAIN, objective=objective, weight_decay=1e-4, clip_norm=1.0, refit=False)
    sampled = structs.replace(sampled, lazy_rows=100)
    train(features.load(grouped), model, sampled, 7, "cpu", tmp_path, lines.append)
    steps = len(features.load(grouped).train.interactions) // TRAIN.batch_size
    assert f"epoch 2: 8 of {steps} steps" in lines
    figures = evaluate(grouped, tmp_path, "random")
    assert figures["all"]["recall@50"] > 2 * figures["popularity"]["all"]["recall@50"]
    assert figures["unseen"]["recall@10"] > 2 * figures["popularity"]["unseen"]["recall@10"]


def test_inner_products_at_a_learned_temperature_find_it_too(grouped: Path, tmp_path: Path) -> None:
    model = structs.replace(MODEL, similarity="dot", temperature=1.0, learn_temperature=True)
    train(features.load(grouped), model, structs.replace(TRAIN, refit=False), 7, "cpu", tmp_path, lambda _: None)
    figures = evaluate(grouped, tmp_path, "random")
    assert figures["unseen"]["recall@10"] > 2 * figures["popularity"]["unseen"]["recall@10"]
    assert np.ptp(np.linalg.norm(np.load(tmp_path / "item_vectors.npy"), axis=1)) > 0.1
    learned = np.exp(_weight(tmp_path, "log_temperature"))
    assert learned >= 0.01
    assert learned != pytest.approx(1.0)


def test_rows_below_the_threshold_teach_nothing_but_are_asked_for(grouped: Path, tmp_path: Path) -> None:
    """Half the rows, those of the even groups, get a rating below it; nothing of their structure is then found."""
    data, halved = features.load(grouped), tmp_path / "features"
    shutil.copytree(grouped, halved)
    for name in features.PARTS:
        rows = getattr(data, name).interactions
        rated = rows.assign(rating=np.where(rows["user_id"] % 2, 5.0, 3.0).astype(np.float32))
        rated.to_parquet(halved / name / "interactions.parquet")
    objective = Objective(rating=Threshold(positive_from=4.0))
    train(
        features.load(halved),
        MODEL,
        structs.replace(TRAIN, objective=objective, refit=False),
        7,
        "cpu",
        tmp_path,
        lambda _: None,
    )
    score, query = tower_scores(features.load(halved), tmp_path)
    scores = score(slice(None))[query]
    targets, odd = data.test.interactions["item_index"].to_numpy(), data.test.interactions["user_id"].to_numpy() % 2 > 0
    hit = (scores > np.take_along_axis(scores, targets[:, None], axis=1)).sum(axis=1) < 50
    assert hit[odd].mean() > 2 * hit[~odd].mean()
    assert evaluate(halved, tmp_path, "random")["rows"] == len(targets)


def test_the_same_seed_gives_the_same_training_of_every_generation(grouped: Path, tmp_path: Path) -> None:
    taught = Distillation(generations=2, weight=0.7, peers=(Ease(l2=50.0),))
    short = Train(epochs=1, batch_size=512, distillation=taught)
    undropped = structs.replace(short, distillation=structs.replace(taught, generations=1, dropout=0.0))
    for name, settings, seed in (
        ("first", short, 3),
        ("again", short, 3),
        ("undropped", undropped, 3),
        ("other", short.search_only(), 4),
    ):
        train(features.load(grouped), MODEL, settings, seed, "cpu", tmp_path / name, lambda _: None)
    first, again, undropped_vectors = (
        np.load(tmp_path / name / "item_vectors.npy") for name in ("first", "again", "undropped")
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, undropped_vectors)
    losses = {path.parent.name: json.loads(path.read_text())[0]["loss"] for path in tmp_path.glob("*/history.json")}
    assert losses["first"] == losses["undropped"], "the search keeps the model's dropout"
    assert losses["first"] != losses["other"]
    trained = {path.name for path in (tmp_path / "first" / "tensorboard").iterdir()}
    assert trained == {"search", "refit-1", "refit-2"}


def test_towers_that_peers_alone_teach_rank_unseen_items_as_they_do(grouped: Path, tmp_path: Path) -> None:
    data = features.load(grouped)
    taught = Distillation(generations=0, weight=1.0, peers=(Ease(l2=50.0),), unseen_only=True)
    settings = structs.replace(TRAIN, objective=Objective(positives_weight=0.1), distillation=taught, refit=False)
    train(data, MODEL, settings, 7, "cpu", tmp_path, lambda _: None)
    task = validation_task(data, Ignored())
    theirs = EasePeer(l2=50.0).fit(task.interactions)(task.users)
    theirs[task.interactions[task.users].toarray() > 0] = -np.inf
    score, query = tower_scores(data._replace(test=data.valid), tmp_path)
    ours = score(slice(None))[query]
    best = np.argsort(-theirs, axis=1)[:, :20]
    above = np.take_along_axis(ours, best, axis=1).mean(axis=1) > np.quantile(ours, 0.8, axis=1)
    assert above.mean() > 0.9


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"refit": False, "distillation": {}}, r"needs `refit = true`"),
        ({"distillation": {"generations": 0}}, r"no teacher; set `peers"),
    ],
)
def test_a_distillation_that_teaches_nothing_is_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=message):
        msgspec.convert(settings, Train)


def test_a_search_alone_keeps_the_peers_and_leaves_the_generations() -> None:
    peers = Distillation(generations=0, peers=(Ease(),))
    assert Train(distillation=peers).search_only() == Train(distillation=peers, refit=False)
    assert Train(distillation=Distillation()).search_only() == Train(refit=False)


def test_training_stops_when_validation_no_longer_gets_better(grouped: Path, tmp_path: Path) -> None:
    # A vanishing learning rate cannot improve anything after the first epochs.
    stuck = Train(epochs=30, patience=2, batch_size=256, learning_rate=1e-12, refit=False)
    train(features.load(grouped), MODEL, stuck, 0, "cpu", tmp_path, lambda _: None)
    history = json.loads((tmp_path / "history.json").read_text())
    assert [entry["epoch"] for entry in history] == [1, 2, 3]


def test_the_history_has_every_epoch_with_its_figures(towers: Path) -> None:
    history = json.loads((towers / "history.json").read_text())
    assert [entry["epoch"] for entry in history] == list(range(1, len(history) + 1))
    assert all({"loss", "seconds", "valid_all.recall@10", "valid_unseen.recall@100"} <= set(entry) for entry in history)
    assert history[-1]["loss"] < history[0]["loss"]
    assert list((towers / "tensorboard").rglob("events.out.tfevents.*"))


def test_padding_a_list_further_does_not_change_a_vector(grouped: Path, towers: Path) -> None:
    session = onnxruntime.InferenceSession(str(towers / "item.onnx"), providers=["CPUExecutionProvider"])
    items = features.load(grouped).items
    vectors = session.run(None, items)[0]
    longer = {**items, "tags": np.pad(items["tags"], ((0, 0), (0, 9)))}
    np.testing.assert_allclose(session.run(None, longer)[0], vectors, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)


def test_the_unseen_code_has_a_trained_vector(grouped: Path, tmp_path: Path) -> None:
    """Unknown users are served from it; without `unseen_rate` it would stay as it was initialised."""
    never = {0.0: [], 0.5: []}
    for rate in never:
        model = Model(tower=(16,), embedding_dim=16, dropout=0.0, unseen_rate=rate)
        for epochs in (1, 3):
            out = tmp_path / f"{rate}-{epochs}"
            train(
                features.load(grouped),
                model,
                Train(epochs=epochs, batch_size=256, refit=False),
                0,
                "cpu",
                out,
                lambda _: None,
            )
            never[rate].append(_embedding_of_unseen_user(out))
    np.testing.assert_array_equal(*never[0.0])
    assert not np.array_equal(*never[0.5])


USERS = 160


def _weight(towers: Path, name: str) -> np.ndarray:
    import tensorflow as tf

    reader = tf.train.load_checkpoint(str(towers / "checkpoints" / "best"))
    names = [key for key in reader.get_variable_to_shape_map() if name in key and "OPTIMIZER" not in key]
    return reader.get_tensor(next(key for key in names if key.endswith("VARIABLE_VALUE")))


def _embedding_of_unseen_user(towers: Path) -> np.ndarray:
    import tensorflow as tf

    reader = tf.train.load_checkpoint(str(towers / "checkpoints" / "best"))
    shapes = reader.get_variable_to_shape_map()
    name = next(n for n, shape in sorted(shapes.items()) if shape == [USERS + 3, 16] and "OPTIMIZER" not in n)
    return reader.get_tensor(name)[2]


def test_the_pairing_id_changes_with_any_of_the_files(towers: Path, tmp_path: Path) -> None:
    described = json.loads((towers / "towers.json").read_text())
    assert described["pairing"] == pairing_of(towers)
    files = files_of(towers)
    for changed in files:
        for path in files:
            (tmp_path / path.name).write_bytes(path.read_bytes() + (b" " if path == changed else b""))
        assert pairing_of(tmp_path) != described["pairing"]


def test_a_missing_gpu_is_told_and_what_to_do(grouped: Path, tmp_path: Path) -> None:
    import tensorflow as tf

    if tf.config.list_physical_devices("GPU"):
        pytest.skip("there is a GPU")
    with pytest.raises(RecipeError, match=r'device = "gpu".*use "auto"'):
        train(features.load(grouped), MODEL, TRAIN, 0, "gpu", tmp_path, lambda _: None)


def test_features_that_are_not_there_are_told_with_the_command(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="retrieval features"):
        evaluate(tmp_path, tmp_path, "random")
