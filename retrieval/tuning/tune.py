"""A search over recipe fields by the validation part, within a time budget, resumable."""

from __future__ import annotations

import hashlib
import math
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from rich.table import Column, Table
from rich.text import Text

from models.config import Model, Train
from retrieval.recipes.recipe import Recipe, load_recipe
from retrieval.recipes.toml import rewrite
from retrieval.report.tables import read_json
from retrieval.runs.run import Run, Teller, advance
from retrieval.tuning.tunable import Field, changed, default_fields, parse_fields, present
from workflows.errors import DivergedError, RecipeError, RetrievalError, StageError
from workflows.files import atomic_write
from workflows.progress import Progress

if TYPE_CHECKING:
    from models.training.weights.checkpoints import Session

DIRECTORY = "tune"
BEST, STUDY, ROWS = "best.toml", "study.db", "rows"
_STARTUP_TRIALS = 8
"""As many are drawn at random before the sampler (TPE, Bergstra et al. 2011) models what is good."""
_UNPRUNED_TRIALS, _UNPRUNED_EPOCHS = 4, 3
"""So many trials are trained to their end, and so many epochs of every trial. Later, one is stopped whose best epoch is
worse than the median of the others at the same epoch (the median stopping rule, Golovin et al. 2017)."""


@dataclass(frozen=True)
class Budget:
    """When a search ends: whichever comes first."""

    minutes: float
    trials: int | None = None
    """In the whole study, the trials of earlier calls included."""


class _OutOfTimeError(Exception):
    """The budget ended within a trial."""


class _PrunedError(Exception):
    """The trial does worse than the others did."""


def tune(
    path: Path,
    runs: Path,
    cache: Path,
    fields: Sequence[str],
    budget: Budget,
    teller: Teller,
    began: Callable[[Path], None] | None = None,
) -> dict[str, Any]:
    """Search the recipe's fields and write the best recipe to `<run>/tune/best.toml`.

    The features are made once. The first trial is the recipe as it is, where the fields' ranges allow it; a trial that
    the end of the budget or a signal cuts short is tried again by the next call with the same recipe and fields. One
    that does worse than the median of the others is stopped early, unless `train.epochs` is searched: epochs of
    schedules of different length do not compare. Test rows are not looked at.

    `fields` are as `--field` says them, the default ones if there are none; `began` is called with the study's file
    before the first trial. What is returned is what `--json` prints. Raise RecipeError of a field, or where Optuna is
    not installed, and StageError where the budget ended before any trial did.
    """
    recipe = load_recipe(path)
    space = parse_fields(fields, recipe) if fields else default_fields(recipe)
    _optuna()
    run = Run.create(recipe, runs)
    advance(run, ["fetch", "features"], cache, teller)
    with run.lock():
        study = _open_study(run, space)
        if began:
            began(run.directory / DIRECTORY / STUDY)
        _search(study, run, space, budget, teller)
        shutil.rmtree(run.directory / DIRECTORY / ROWS, ignore_errors=True)
        result = _found(study, path, recipe, space)
        result["best_recipe"] = str(_write_best(study, run, path, space))
    return result


def study_storage(path: Path) -> str:
    """Return the address of a study's file, as Optuna takes it."""
    return f"sqlite:///{path}"


def tune_table(search: Mapping[str, Any]) -> Table:
    """One row per trial; the best is bold."""
    headings = ["trial", search["monitor"], "epoch", "s", *(name.partition(".")[2] for name in search["fields"])]
    columns = (Column(heading, justify="right", overflow="fold") for heading in headings)
    title = f"validation {search['monitor']}, {len(search['trials'])} trials"
    table = Table(*columns, title=title, title_justify="left")
    for trial in search["trials"]:
        epochs = f"{trial['best_epoch']} of {trial['epochs']}" if trial["epochs"] else ""
        figures = [f"{trial['value']:.4f}" if trial["state"] == "complete" else trial["state"], epochs]
        values = [str(trial["fields"][name]) for name in search["fields"]]
        style = "bold" if trial["number"] == search["best"] else ""
        cells = [str(trial["number"]), *figures, f"{trial['seconds']:.0f}", *values]
        table.add_row(*(Text(cell, style) for cell in cells))
    return table


def _search(study: Any, run: Run, space: Sequence[Field], budget: Budget, teller: Teller) -> None:
    deadline = time.monotonic() + 60 * budget.minutes
    while time.monotonic() < deadline and (budget.trials is None or len(_ended(study)) < budget.trials):
        trial = study.ask(_distributions(space))
        values = _values(space, trial.params)
        teller.say(f"trial {trial.number}: {', '.join(f'{name} {value}' for name, value in values.items())}")
        started = time.monotonic()
        try:
            value, epochs = _train(run, changed(run.recipe, values), _until(deadline, teller), _unless_worse(trial))
        except _OutOfTimeError:
            teller.say(f"trial {trial.number}: out of time; the same command tries it again")
            return
        except _PrunedError as stopped:
            trial.set_user_attr("seconds", round(time.monotonic() - started, 1))
            study.tell(trial, state=_optuna().trial.TrialState.PRUNED)
            teller.say(f"trial {trial.number}: stopped, {stopped}")
            continue
        except RetrievalError as error:
            if not _finished(study) and not isinstance(error, DivergedError):
                raise  # not a matter of these values: nothing has ever worked
            teller.say(f"trial {trial.number}: failed: {error}")
            trial.set_user_attr("error", str(error))
            study.tell(trial, state=_optuna().trial.TrialState.FAIL)
            continue
        trial.set_user_attr("seconds", round(time.monotonic() - started, 1))
        for name, number in epochs.items():
            trial.set_user_attr(name, number)
        study.tell(trial, value)
        teller.say(f"trial {trial.number}: {run.recipe.train.monitor} {value:.4f}, best {study.best_value:.4f}")


def _train(
    run: Run, recipe: Recipe, progress: Progress, on_epoch: Callable[[int, float], None]
) -> tuple[float, dict[str, int]]:
    """Train on the training rows only; return the best of `train.monitor` on the validation rows, and in which of how
    many epochs it was."""
    import tensorflow as tf

    from models.training.stage import train
    from models.training.stream.load import load

    tf.keras.backend.clear_session()  # the graphs of earlier trials
    settings: tuple[Model, Train] = msgspec.structs.replace(recipe.model, blend=None), recipe.train.search_only()
    data, session = load(run.features, settings[1]), _session(run, recipe)
    with tempfile.TemporaryDirectory(prefix=".trial.", dir=run.directory / DIRECTORY) as name:
        train(data, *settings, recipe.seed, recipe.device, Path(name), progress, on_epoch, session=session)
        history = read_json(Path(name) / "history.json")
    key = f"valid_{recipe.train.monitor}"
    best = max(history, key=lambda epoch: epoch[key])
    return best[key], {"best_epoch": best["epoch"], "epochs": len(history)}


def _session(run: Run, recipe: Recipe) -> Session:
    """Return where the trials find the rows that are streamed, which one shuffles for all; there are no checkpoints."""
    from models.training.horovod import Ranks
    from models.training.weights.checkpoints import Checkpoints, Session

    features = (run.directory / "stages" / "features.json").read_bytes()
    facts = msgspec.json.encode([recipe.seed, recipe.train.objective.rating], order="deterministic")
    key = hashlib.sha256(features + facts).hexdigest()
    return Session(Ranks(), Checkpoints(run.directory / DIRECTORY / ROWS, key, math.inf))


def _until(deadline: float, teller: Teller) -> Callable[[str], None]:
    """Return a progress function (called after every epoch) that ends the training at the deadline."""

    def progress(message: str) -> None:
        teller.step(message)
        if time.monotonic() >= deadline:
            raise _OutOfTimeError

    return progress


def _unless_worse(trial: Any) -> Callable[[int, float], None]:
    """Return what ends the training after an epoch by which the others had done better."""

    def on_epoch(epoch: int, value: float) -> None:
        trial.report(value, epoch)
        if trial.should_prune():
            raise _PrunedError(f"worse by epoch {epoch} than the median of the others")

    return on_epoch


def _open_study(run: Run, space: Sequence[Field]) -> Any:
    """Return the study of this recipe and these fields: a new one, or the one that an earlier call began."""
    optuna, recipe = _optuna(), run.recipe
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sections = {name: getattr(recipe, name) for name in ("seed", "device", "data", "query", "item", "model", "train")}
    facts = msgspec.json.encode({**sections, "fields": space}, order="deterministic")
    directory = run.directory / DIRECTORY
    directory.mkdir(exist_ok=True)
    study = optuna.create_study(
        storage=study_storage(directory / STUDY),
        study_name=hashlib.sha256(facts).hexdigest()[:16],
        direction="maximize",
        load_if_exists=True,
    )
    # Of its own seed for every call, so that a resumed search does not draw the same values again.
    seed = recipe.seed + len(study.trials)
    study.sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=_STARTUP_TRIALS)
    searched = any(field.name == "train.epochs" for field in space)
    median = optuna.pruners.MedianPruner(_UNPRUNED_TRIALS, _UNPRUNED_EPOCHS)
    study.pruner = optuna.pruners.NopPruner() if searched else median
    if not study.trials:
        as_it_is = {field.name: present(recipe, field) for field in space}
        study.enqueue_trial({name: value for name, value in as_it_is.items() if value is not None})
    states = optuna.trial.TrialState
    for trial in study.get_trials(states=(states.RUNNING,)):  # cut short: this process has the run's lock
        study.tell(trial.number, state=states.FAIL)
        study.enqueue_trial(trial.params)
    return study


def _distributions(space: Sequence[Field]) -> dict[str, Any]:
    distributions = _optuna().distributions
    by_name: dict[str, Any] = {}
    for field in space:
        if field.choices:
            by_name[field.name] = distributions.CategoricalDistribution(field.choices)
        elif field.integer:
            by_name[field.name] = distributions.IntDistribution(int(field.low), int(field.high), log=field.log)
        else:
            by_name[field.name] = distributions.FloatDistribution(field.low, field.high, log=field.log)
    return by_name


def _values(space: Sequence[Field], drawn: Mapping[str, Any]) -> dict[str, Any]:
    return {field.name: field.value(drawn[field.name]) for field in space}


def _finished(study: Any) -> list[Any]:
    return study.get_trials(deepcopy=False, states=(_optuna().trial.TrialState.COMPLETE,))


def _ended(study: Any) -> list[Any]:
    """Return the trials that need not be tried again."""
    states = _optuna().trial.TrialState
    return [
        trial
        for trial in study.trials
        if trial.state in (states.COMPLETE, states.PRUNED) or "error" in trial.user_attrs
    ]


def _found(study: Any, path: Path, recipe: Recipe, space: Sequence[Field]) -> dict[str, Any]:
    if not _finished(study):
        errors = [trial.user_attrs["error"] for trial in study.trials if "error" in trial.user_attrs]
        if errors:
            raise StageError(f"{path}: no trial came to its end; the last one that failed: {errors[-1]}")
        raise StageError(
            f"{path}: no trial was finished in the time; the same command with more --minutes tries again, "
            "fewer train.epochs make a trial shorter"
        )
    return {
        "recipe": str(path),
        "monitor": recipe.train.monitor,
        "fields": [field.name for field in space],
        "best": study.best_trial.number,
        "trials": [
            {
                "number": trial.number,
                "state": {"FAIL": "failed"}.get(trial.state.name, trial.state.name.lower()),
                "value": trial.value if trial.state.name == "COMPLETE" else None,
                **{name: trial.user_attrs.get(name) for name in ("best_epoch", "epochs", "error")},
                "seconds": trial.user_attrs.get("seconds", 0.0),
                "fields": _values(space, trial.params),
            }
            for trial in _ended(study)
        ],
    }


def _write_best(study: Any, run: Run, path: Path, space: Sequence[Field]) -> Path:
    """Write the recipe with the best trial's values, under a name of its own so that its run stands beside this one."""
    name = f"{run.recipe.name}-tuned"
    values = _values(space, study.best_trial.params)
    text = rewrite(path.read_text(encoding="utf-8"), {"name": name, **values})
    first = _finished(study)[0]
    note = (
        f"# {path.name} with what `retrieval tune` found in {len(_finished(study))} trials: validation "
        f"{run.recipe.train.monitor} {study.best_value:.4f}\n# (the first trial: {first.value:.4f}).\n"
    )
    out = run.directory / DIRECTORY / BEST
    atomic_write(out, (note + text).encode())
    return out


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise RecipeError("`retrieval tune` needs Optuna: pip install 'merlin-retrieval[tune]'") from None
    return optuna
