"""Log a finished run to MLflow: its recipe, what was measured, the curves of its training, and its release."""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import msgspec

from retrieval.report.tables import read_json
from retrieval.runs.run import Run
from workflows.errors import RetrievalError

EXPERIMENT = "merlin-retrieval"
LOGGED = "retrieval.stages"
"""The tag that says what a run of MLflow was logged from: the records of the stages evaluate and release."""
_LONGEST = 500
"""Characters of a parameter."""
_RETRIES, _CONFIGURES_LOGGING = "MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_LOGGING_CONFIGURE_LOGGING"
_FILES = ("report.html", "metrics.json", "recipe.json")


class Log:
    """A tracking server, or a directory, that runs are logged to."""

    def __init__(self, uri: str) -> None:
        """Look for what is at the URI; raise RetrievalError where MLflow is not installed or nothing answers."""
        if not _is_supported(uri):
            raise RetrievalError(
                f"--mlflow {_without_password(uri)}: expected a tracking server, http://… or https://…, or a directory"
            )
        os.environ.setdefault(_RETRIES, "2")  # MLflow's 7 take minutes
        # Else its import closes every log handler of the process, and absl's, which TensorFlow brings, its stream.
        os.environ.setdefault(_CONFIGURES_LOGGING, "false")
        try:
            from mlflow import MlflowClient
        except ImportError:
            raise RetrievalError("--mlflow needs MLflow's client: pip install 'merlin-retrieval[mlflow]'") from None
        self._uri = uri
        with self._said():
            self._client = MlflowClient(uri)
            self._client.search_experiments(max_results=1)

    def add(self, run: Run) -> str:
        """Log a finished run, unless it is there already, and return MLflow's id of it. Raise RetrievalError where
        MLflow refuses it or goes away; what was logged so far is marked as failed."""
        with self._said():
            experiment, fingerprint = self._experiment(), _made_from(run)
            existing = self._client.search_runs(
                [experiment], f"tags.`{LOGGED}` = '{fingerprint}' and attributes.status = 'FINISHED'", max_results=1
            )
            return str(existing[0].info.run_id) if existing else self._log(run, experiment, fingerprint)

    def _experiment(self) -> str:
        experiment = self._client.get_experiment_by_name(EXPERIMENT)
        return str(experiment.experiment_id if experiment else self._client.create_experiment(EXPERIMENT))

    def _log(self, run: Run, experiment: str, fingerprint: str) -> str:
        tags = {LOGGED: fingerprint, "mlflow.source.name": "retrieval run", **_tags(run)}
        started = self._client.create_run(experiment, tags=tags, run_name=run.recipe.name)
        name = str(started.info.run_id)
        try:
            self._send(run, name)
        except BaseException:
            with suppress(RetrievalError), self._said():
                self._client.set_terminated(name, "FAILED")
            raise
        self._client.set_terminated(name)
        return name

    def _send(self, run: Run, name: str) -> None:
        from mlflow.entities import Metric, Param

        now = int(1000 * time.time())
        parameters = [Param(*entry) for entry in parameters_of(run).items()]  # type: ignore[no-untyped-call]
        metrics = [Metric(key, value, now, step) for key, value, step in metrics_of(run)]  # type: ignore[no-untyped-call]
        self._client.log_batch(name, metrics, parameters)
        for file in _FILES:
            if (run.directory / file).is_file():
                self._client.log_artifact(name, str(run.directory / file))
        self._client.log_artifacts(name, str(run.release), "release")

    @contextmanager
    def _said(self) -> Iterator[None]:
        """Turn what MLflow and its transports raise into one line."""
        from mlflow.exceptions import MlflowException
        from requests import RequestException

        try:
            yield
        except (MlflowException, RequestException, OSError) as error:
            reason = " ".join(str(error).split())[:300]
            raise RetrievalError(f"--mlflow {_without_password(self._uri)}: {_without_password(reason)}") from None


def parameters_of(run: Run) -> dict[str, str]:
    """Return the recipe's fields by dotted name, as text."""
    return {name: text[:_LONGEST] for name, text in _flat(msgspec.to_builtins(run.recipe), ()) if text}


def metrics_of(run: Run) -> Iterator[tuple[str, float, int]]:
    """Yield (name, value, step): what is served beside simple models on the test rows, and the training by epoch.

    MLflow lets no `@` into a name: recall@10 is recall_at_10.
    """
    metrics = read_json(run.metrics)
    sides = {"": metrics, "popularity/": metrics["popularity"]}
    sides |= {f"{model['name']}/": model for model in metrics["comparison"]["models"][2:] if "skipped" not in model}
    for name, side in sides.items():
        for protocol in ("unseen", "all"):
            yield from _named(f"{name}{protocol}/", side[protocol], 0)
    for row in read_json(run.towers / "history.json"):
        curves = {key.replace("valid_", "valid/").replace(".", "/"): row[key] for key in row if key != "epoch"}
        yield from _named("training/", curves, row["epoch"])


def _named(prefix: str, figures: Mapping[str, Any], step: int) -> Iterator[tuple[str, float, int]]:
    for name, value in figures.items():
        if isinstance(value, (int, float)) and math.isfinite(value):
            yield re.sub(r"[^\w\-. /]", "_", f"{prefix}{name}".replace("@", "_at_")), float(value), step


def _flat(value: Any, path: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(inner, (*path, re.sub(r"[^\w\-. /]", "_", str(key))))
    elif value is not None:
        yield ".".join(path), value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _tags(run: Run) -> dict[str, str]:
    metrics, manifest = read_json(run.metrics), read_json(run.release / "manifest.json")
    tags = {"retrieval.release": manifest["release"], "retrieval.verdict": metrics.get("verdict", {}).get("text", "")}
    return {**tags, "mlflow.note.content": run.recipe.card.description}


def _made_from(run: Run) -> str:
    records = [run.record(name) for name in ("evaluate", "release")]
    return "-".join(record.id for record in records if record)


def _is_supported(uri: str) -> bool:
    """Return whether the client alone can log there: for a database it would need drivers, and tries for minutes."""
    try:
        return urlsplit(uri).scheme in ("", "file", "http", "https")
    except ValueError:
        return False


def _without_password(text: str) -> str:
    return re.sub(r"//[^/@\s]*@", "//…@", text)
