"""The run as a list of stages. Each imports what it needs when it runs, so that listing them costs nothing."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import msgspec

from retrieval.recipes.recipe import Recipe
from retrieval.runs.horovod import training
from retrieval.runs.run import Job, Run, Stage
from workflows.columns import Columns
from workflows.config import GivenSplit, embedding_files
from workflows.files import atomic_directory, atomic_write, json_bytes, sha256_of
from workflows.installed import installed_versions

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from models.evaluation.verdict import Trained


def fetch(job: Job) -> None:
    """Source -> `tables/`."""
    from workflows import sources

    tables = sources.fetch(job.run.recipe.data, job.cache, job.progress)
    with atomic_directory(job.run.directory / "tables") as out:
        tables.save(out)


def features(job: Job) -> None:
    """`tables/` -> `features/`."""
    from workflows.features.dask_cluster import client
    from workflows.features.stage import build
    from workflows.fitting.warm_start_record import Earlier
    from workflows.tables.store import open_tables
    from workflows.tables.undated import check_dated

    run, recipe, earlier = job.run, job.run.recipe, job.run.earlier
    sides, split = (recipe.query, recipe.item), recipe.data.split
    before = Earlier(earlier.features, earlier.recipe.query, earlier.recipe.item) if earlier else None
    tables = open_tables(run.directory / "tables")
    check_dated(tables, split, *sides)
    with client(*run.cluster, recipe.device) as cluster, atomic_directory(run.features) as out:
        build(tables, *sides, split, recipe.device, out, job.progress, cluster, before)


def train(job: Job) -> None:
    """`features/` -> `towers/`."""
    from models.training.stage import train as train_towers
    from models.training.stream.load import load
    from models.training.weights.warm_start import Earlier

    run, recipe, earlier = job.run, job.run.recipe, job.run.earlier
    before = Earlier(earlier.towers, earlier.recipe.model, earlier.recipe.train) if earlier else None
    data = load(run.features, recipe.train)
    settings = recipe.model, recipe.train, recipe.seed, recipe.device
    with training(job, _training_key(run)) as (out, session):
        train_towers(data, *settings, out, job.progress, earlier=before, session=session)


def rank(job: Job) -> None:
    """`features/` and `towers/` -> `ranker/`, where the recipe has `[ranking]`."""
    from models.ranking.stage import train_ranker
    from workflows.features.stage import load

    recipe, data = job.run.recipe, load(job.run.features)
    assert recipe.ranking is not None
    with atomic_directory(job.run.ranker) as out:
        settings = recipe.ranking, recipe.model, recipe.train, recipe.seed, recipe.device
        train_ranker(data, job.run.towers, *settings, out, job.progress)


def peers(job: Job) -> None:
    """`features/` -> `peers/`: simple models on the same rows."""
    from models.baselines.comparison import write_peers

    recipe = job.run.recipe
    with atomic_directory(job.run.peers) as out:
        rating = recipe.train.objective.rating
        write_peers(job.run.features, out, rating, recipe.evaluate, recipe.seed, job.progress)


def _has_peers(recipe: Recipe) -> bool:
    return bool(set(recipe.evaluate.peers) - {"popularity"})


def _peers_settings(recipe: Recipe) -> Any:
    """With the library for ALS installed later, the peers are measured again."""
    implicit = installed_versions(["implicit"]).get("implicit")
    rating = msgspec.to_builtins(recipe.train.objective.rating)
    return {
        "peers": recipe.evaluate.peers,
        "seconds": recipe.evaluate.peers_seconds,
        "sample": (recipe.evaluate.rows, recipe.evaluate.seed),
        "seed": recipe.seed,
        "rating": rating,
        "implicit": implicit,
    }


def _trained(run: Run) -> Trained:
    """Return what advice about the towers depends on."""
    from models.evaluation.verdict import Trained
    from workflows.features.files import read_rows
    from workflows.features.plan import history_of

    epochs = json.loads((run.towers / "towers.json").read_bytes())["epochs"]
    times = read_rows(run.features / "train", [Columns.Timestamp])[Columns.Timestamp]
    facts = {"epochs": epochs, "train_rows": len(times), "dated": bool(times.nunique() > 1)}
    recipe = run.recipe
    return Trained(recipe.model, recipe.train, has_history=history_of(recipe.query) is not None, **facts)


def evaluate(job: Job) -> None:
    """`towers/`, and `ranker/` and `peers/` where there are any, -> `metrics.json`."""
    from models.evaluation.stage import Beside
    from models.evaluation.stage import evaluate as evaluate_towers
    from models.evaluation.verdict import verdict
    from retrieval.runs.reference import fitted_queries

    run, recipe = job.run, job.run.recipe

    def transform(queries: pd.DataFrame) -> dict[str, np.ndarray]:
        features: dict[str, np.ndarray] = fitted_queries(recipe, run.features).transform(queries)
        return features

    metrics = evaluate_towers(
        run.features,
        run.towers,
        protocol(recipe),
        recipe.train.objective.rating,
        transform,
        Beside(run.ranker if recipe.ranking else None, run.peers if _has_peers(recipe) else None),
        recipe.evaluate,
        job.progress,
    )
    trained = run.record("train")
    metrics["comparison"]["models"][0]["fit_seconds"] = trained.seconds if trained else None
    metrics["verdict"] = verdict(metrics["comparison"], _trained(run))
    atomic_write(run.metrics, json_bytes(metrics, 2))


def release(job: Job) -> None:
    """`towers/` -> `release/` and the Triton repository `triton/`."""
    from ensemble.release.write import Parts, Settings, Training, write_release
    from ensemble.triton.export import export_repository
    from retrieval.runs.reference import ranking_side, training_side

    run, recipe = job.run, job.run.recipe
    job.progress("loading the training side, to compare with")
    parts = Parts(run.features, run.towers, run.release, run.ranker if recipe.ranking else None)
    reference = training_side(recipe, run.features, run.towers)
    training = Training(reference, ranking_side(recipe, run.features, run.towers, run.ranker))
    recipe_sha256 = hashlib.sha256(msgspec.json.encode(recipe, order="deterministic")).hexdigest()
    settings = Settings(recipe.name, recipe_sha256, recipe.serving, recipe.index, recipe.release)
    write_release(parts, training, settings, job.progress)
    job.progress("exporting the Triton model repository")
    export_repository(run.release, run.triton)


def protocol(recipe: Recipe) -> str:
    """Say in words what the metrics are measured on."""
    facts = msgspec.to_builtins(recipe.data.split)
    kind = facts.pop("kind")
    files = recipe.data.split.files if isinstance(recipe.data.split, GivenSplit) else {}
    facts.update({part: PurePosixPath(path).name for part, path in files.items()})
    details = "".join(f", {name} {value}" for name, value in facts.items() if value is not None)
    return f"{kind} split{details}; rank of each test row's item by exact search over the whole catalogue"


def _source(recipe: Recipe) -> Any:
    settings = msgspec.to_builtins(recipe.data)
    split = settings.pop("split")  # splitting is the features' affair, but for parts that are files
    files = recipe.data.split.files if isinstance(recipe.data.split, GivenSplit) else {}
    return {**settings, "split": {part: split[part] for part in files}} if files else settings


def _source_state(run: Run) -> Any:
    from workflows import sources

    return sources.state(run.recipe.data)


def _sections(*names: str) -> Any:
    return lambda recipe: {name: msgspec.to_builtins(getattr(recipe, name)) for name in names}


def _release_settings(recipe: Recipe) -> Any:
    """Return the settings, and the serving code: the exported repository carries it."""
    import ensemble.serving

    root = Path(ensemble.serving.__file__).parent
    code = {str(path.relative_to(root)): sha256_of(path) for path in sorted(root.rglob("*.py"))}
    return {**_sections("name", "index", "serving", "release")(recipe), "code": code}


def _feature_settings(recipe: Recipe) -> Any:
    return {**_sections("query", "item", "device")(recipe), "split": msgspec.to_builtins(recipe.data.split)}


def _feature_files(run: Run) -> Any:
    """Return what tells whether files of pre-trained vectors or the earlier run's features changed; None without."""
    files, earlier = embedding_files(run.recipe.query, run.recipe.item), run.earlier_id("features")
    files_read = {"earlier features": earlier} if earlier else {}
    if files:
        from workflows.features.pretrained import state_of

        files_read.update({path: state_of(path) for path in files})
    return files_read or None


def _training_key(run: Run) -> str:
    """Return what tells whether an interrupted training was one of the same recipe, features and earlier towers."""
    features = (run.directory / "stages" / "features.json").read_text(encoding="utf-8")
    facts = [_sections(*_TRAINED_BY)(run.recipe), features, _earlier_towers(run)]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _earlier_towers(run: Run) -> Any:
    """Return what tells whether the earlier run's towers changed; None where training starts from zero."""
    earlier = run.earlier_id("train")
    return {"earlier towers": earlier} if earlier else None


_TRAINED_BY = ("model", "train", "seed", "device")
STAGES = (
    Stage("fetch", fetch, outputs=("tables",), settings=_source, inputs=_source_state),
    Stage(
        "features",
        features,
        needs=("fetch",),
        outputs=("features",),
        settings=_feature_settings,
        inputs=_feature_files,
        version=2,
    ),
    Stage(
        "train",
        train,
        needs=("features",),
        outputs=("towers",),
        settings=_sections(*_TRAINED_BY),
        inputs=_earlier_towers,
        version=2,
    ),
    Stage(
        "rank",
        rank,
        needs=("features", "train"),
        outputs=("ranker",),
        settings=_sections("ranking", "seed", "device"),
        wanted=lambda recipe: recipe.ranking is not None,
    ),
    Stage(
        "peers",
        peers,
        needs=("features",),
        outputs=("peers",),
        settings=_peers_settings,
        wanted=_has_peers,
    ),
    Stage(
        "evaluate",
        evaluate,
        needs=("features", "train", "rank", "peers"),
        outputs=("metrics.json",),
        settings=_sections("evaluate"),
        version=3,
    ),
    Stage(
        "release",
        release,
        needs=("features", "train", "rank"),
        outputs=("release", "triton"),
        settings=_release_settings,
    ),
)
