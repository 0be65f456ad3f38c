"""Runs are logged to MLflow through its own client, here to a directory, and found there as they are."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from ensemble.serving.files.release import Release
from retrieval.runs.mlflow_log import EXPERIMENT, Log
from retrieval.runs.run import Run
from retrieval.runs.stages import STAGES
from workflows.errors import RetrievalError

Command = Callable[..., "subprocess.CompletedProcess[str]"]


def logged(client: MlflowClient) -> list[Any]:
    return list(client.search_runs([client.get_experiment_by_name(EXPERIMENT).experiment_id]))


def test_a_run_is_logged_once_with_its_recipe_figures_curves_and_release(run_dir: Path, tmp_path: Path) -> None:
    run, uri = Run.open(run_dir, STAGES), (tmp_path / "mlflow").as_uri()
    first, client = Log(uri).add(run), MlflowClient(uri)
    assert Log(uri).add(run) == first
    [mlflow_run] = logged(client)
    assert (mlflow_run.info.status, mlflow_run.info.run_name) == ("FINISHED", run.recipe.name)
    metrics = json.loads(run.metrics.read_bytes())
    peer = next(model for model in metrics["comparison"]["models"][2:] if "skipped" not in model)
    assert mlflow_run.data.metrics["unseen/recall_at_10"] == metrics["unseen"]["recall@10"]
    assert mlflow_run.data.metrics["popularity/all/mrr"] == metrics["popularity"]["all"]["mrr"]
    assert mlflow_run.data.metrics[f"{peer['name']}/unseen/ndcg_at_10"] == peer["unseen"]["ndcg@10"]
    assert mlflow_run.data.params["train.epochs"] == str(run.recipe.train.epochs)
    history = json.loads((run.towers / "history.json").read_bytes())
    curve = client.get_metric_history(first, "training/valid/unseen/recall_at_10")
    assert [(point.step, point.value) for point in curve] == [
        (row["epoch"], row["valid_unseen.recall@10"]) for row in history
    ]
    release = Release.open(Path(client.download_artifacts(first, "release", str(tmp_path))))  # verifies every hash
    assert release.manifest["release"] == mlflow_run.data.tags["retrieval.release"]
    assert "report.html" in {file.path for file in client.list_artifacts(first)}


def test_what_could_not_be_logged_is_marked_as_failed_and_logged_the_next_time(run_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "artifacts").write_text("in the way")
    uri = (tmp_path / "mlflow").as_uri()
    client = MlflowClient(uri)
    client.create_experiment(EXPERIMENT, (tmp_path / "artifacts").as_uri())
    run = Run.open(run_dir, STAGES)
    with pytest.raises(RetrievalError, match=r"--mlflow file:.*artifacts"):
        Log(uri).add(run)
    assert [mlflow_run.info.status for mlflow_run in logged(client)] == ["FAILED"]
    (tmp_path / "artifacts").unlink()
    Log(uri).add(run)
    assert [mlflow_run.info.status for mlflow_run in logged(client)] == ["FINISHED", "FAILED"]


def test_log_handlers_of_the_process_stay_open(tmp_path: Path) -> None:
    code = (
        "import logging, sys\nfrom retrieval.runs.mlflow_log import Log\n"
        "closed, handler = [], logging.StreamHandler()\nhandler.close = lambda: closed.append(handler)\n"
        "Log(sys.argv[1])\nprint(closed)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr


@pytest.mark.parametrize(
    "uri",
    [
        "http://me:secret@127.0.0.1:1",
        "sqlite:///no/such/folder.db",
        "postgresql://me:secret@127.0.0.1:1/x",
        "http://[no",
    ],
)
def test_where_no_mlflow_answers_nothing_is_trained(
    mistaken: Command, recipe: Path, tmp_path: Path, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    for command in (("run", recipe), ("quickstart", recipe)):
        done = mistaken(*command, "--runs", tmp_path / "runs", "--mlflow", uri)
        assert done.returncode == 2
        assert "--mlflow" in done.stderr
        assert "secret" not in done.stderr
        assert done.stderr.count("\n") == 1
        assert not (tmp_path / "runs").exists()
