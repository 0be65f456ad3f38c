"""Releases over time: what becomes current, what is refused and why, how to go back, what is written down."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from ensemble.catalogue.changes import LiveItems
from ensemble.catalogue.derive import derive
from ensemble.deploy.swap import deploy, live_version, release_of
from ensemble.deploy.versions import CURRENT, HISTORY, Versions
from ensemble.layouts import CONFIG, models_in
from ensemble.serving.files.release import Release
from ensemble.serving.retriever import Retriever
from retrieval.cli import app
from retrieval.runs.places import repository_of
from tests.synthetic import make_release, make_run
from workflows.errors import ReleaseError

REMOVED = 3
Run = Callable[..., Any]


def metrics(recall: float) -> dict[str, Any]:
    """Return what a run's evaluation may have written."""
    return {"rows": 100, "protocol": "split", "unseen": {"recall@10": recall, "mrr": 0.1}, "all": {"recall@10": 0.1}}


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release with its run's metrics."""
    run = make_run(tmp_path_factory.mktemp("first"), users=60, items=120)
    make_release(run)
    (run.path / "metrics.json").write_text(json.dumps(metrics(0.5)))
    return run.path


@pytest.fixture(scope="module")
def worse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release of other users, items and vectors, in another layout, which finds less."""
    run = make_run(tmp_path_factory.mktemp("other"), users=60, items=120, seed=1)
    make_release(run, layout="both")
    (run.path / "metrics.json").write_text(json.dumps(metrics(0.4)))
    return run.path


@pytest.fixture(scope="module")
def derived(first: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first release without some items, and one of its titles another."""
    live = LiveItems(Release.open(first / "release"))
    place = tmp_path_factory.mktemp("derived")
    fewer = derive(live.release, live.removing([str(item) for item in live.catalogue.rows.ids[:REMOVED]]), place / "1")
    items = LiveItems(fewer.release)
    table = pd.DataFrame({"item_id": live.catalogue.rows.ids[50:51], "title": ["Another"]})
    table.to_parquet(place / "change.parquet")
    return derive(fewer.release, items.updating(place / "change.parquet"), place / "2").release.path


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """Run a command that succeeds, and return what it prints as JSON."""

    def call(*arguments: Any) -> Any:
        done = CliRunner().invoke(app, [*map(str, arguments), "--json"])
        assert done.exit_code == 0, done.output
        return json.loads(capfd.readouterr().out)

    return call


def refusal(*arguments: Any) -> str:
    """Run a command that fails as one does that a user can correct, and return what it says."""
    done = CliRunner().invoke(app, [*map(str, arguments)])
    assert done.exit_code == 2, done.output
    return " ".join(done.output.split())


def listing(directory: Path) -> dict[str, bytes]:
    """Return every file's content, by its path in the directory."""
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("[!.]*") if path.is_file()}


@pytest.fixture
def store(first: Path, tmp_path: Path, run: Run) -> Versions:
    """A directory of versions with the first release as version 1."""
    assert run("promote", first, tmp_path / "releases", "--by", "ann")["turn"]["before"] is None
    return Versions(tmp_path / "releases")


def test_a_version_is_a_copy_that_a_server_starts_with(store: Versions, first: Path) -> None:
    turn = store.current()
    assert turn is not None
    assert (turn.version, turn.who, turn.server) == (1, "ann", None)
    assert listing(store.release_of(1)) == listing(first / "release")
    repository = repository_of(store.directory)
    assert (live_version(repository), release_of(repository, 1)) == (1, turn.release)


def test_what_falls_past_a_bound_is_refused_unless_forced_with_a_reason(store: Versions, worse: Path, run: Run) -> None:
    before = listing(store.directory)
    message = refusal("promote", worse, store.directory)
    assert "recall@10 is 0.4000, 20.0% less than 0.5000, that of version 1; max_recall_loss is 5.0%" in message
    assert "min_overlap is 30.0%" in message or "no user is known to both releases" in message
    assert "--force --reason TEXT" in message
    assert "say why with --reason" in refusal("promote", worse, store.directory, "--force")
    assert listing(store.directory) == before

    done = run("promote", worse, store.directory, "--force", "--reason", "new shop")
    assert (done["turn"]["version"], done["turn"]["before"], len(done["turn"]["forced"])) == (2, 1, 2)
    assert models_in(store.repository)[-1] == "retrieval_chained"  # the release's own layout
    assert live_version(store.repository) == 2
    last = run("releases", "history", store.directory)[-1]
    assert (last["reason"], last["figures"]["recall"]) == ("new shop", 0.4)
    before = listing(store.directory)
    assert run("promote", worse, store.directory)["turn"] == last  # a job that is run again
    assert listing(store.directory) == before


def test_a_rollback_goes_to_what_was_live_before_and_not_in_circles(store: Versions, worse: Path, run: Run) -> None:
    run("promote", worse, store.directory, "--force", "--reason", "why not")
    turn = run("rollback", store.directory, "--reason", "complaints")
    assert (turn["action"], turn["version"], turn["before"], turn["reason"]) == ("rollback", 1, 2, "complaints")
    assert release_of(store.repository, live_version(store.repository)) == turn["release"]
    assert "took the place of none" in refusal("rollback", store.directory)
    assert "has no version 7; kept: 1, 2" in refusal("rollback", store.directory, "--to", 7)
    assert run("rollback", store.directory, "--to", 2)["version"] == 2
    assert [entry["version"] for entry in run("releases", "history", store.directory)] == [1, 2, 1, 2]
    assert [(entry["version"], entry["current"]) for entry in run("releases", "list", store.directory)] == [
        (2, True),
        (1, False),
    ]


def test_a_derived_release_is_judged_by_its_answers_and_by_what_its_run_measured(
    store: Versions, derived: Path, run: Run
) -> None:
    done = run("promote", derived, store.directory)
    assert done["turn"]["forced"] == []
    assert done["turn"]["figures"]["recall"] == 0.5
    assert done["difference"]["answers"]["overlap"] > 0.9
    gone = store.directory / "gone.csv"
    rows = Retriever.load(store.release_of(2)).catalogue.rows
    gone.write_text(f"item_id\n{rows.ids[rows.live][0]}\n")
    fewer = Path(run("items", "remove", store.directory, gone)["path"]).parent  # of the current version
    assert fewer.parent == store.directory / "derived"
    assert run("promote", fewer, store.directory)["difference"]["catalogue"]["removed"] == 1


def test_the_difference_says_what_changed(store: Versions, first: Path, derived: Path, run: Run) -> None:
    diff = run("diff", store.directory, derived, "--k", 5, "--users", 1000)
    ids = Retriever.load(first / "release").catalogue.rows.ids
    catalogue = diff["catalogue"]
    assert (catalogue["added"], catalogue["removed"], catalogue["changed"]) == (0, REMOVED, 1)
    assert sorted(catalogue["examples"]["removed"]) == sorted(ids[:REMOVED].tolist())
    assert (catalogue["columns"], catalogue["examples"]["changed"]) == ({"title": 1}, [int(ids[50])])
    assert (diff["users"]["added"], diff["users"]["removed"], diff["answers"]["users"]) == (0, 0, 60)
    assert diff["answers"]["overlap"] == pytest.approx(_overlap(first / "release", derived, 5))
    assert diff["answers"]["overlap"] < 1
    assert diff["metrics"] == {}
    same = run("diff", first, store.directory)
    assert (same["answers"]["overlap"], same["answers"]["same"]) == (1.0, 1.0)
    assert same["metrics"]["unseen recall@10"] == [0.5, 0.5]


def _overlap(before: Path, after: Path, k: int) -> float:
    """Return what `diff` says, found by asking as a client does, user by user."""
    shares = []
    retrievers = [Retriever.load(path) for path in (before, after)]
    for user in np.load(before / "users/user_id.npy").tolist():
        query = {"user_id": np.array([[user]]), "top_k": np.array([[k]], dtype=np.int32)}
        a, b = (set(retriever.answer(retriever.reader.read([query])).item_id[0].tolist()) for retriever in retrievers)
        shares.append(len(a & b) / k)
    return float(np.mean(shares))


def test_pruning_keeps_what_is_current_and_what_a_rollback_needs(
    store: Versions, first: Path, worse: Path, derived: Path, run: Run
) -> None:
    for source in (derived, worse, first):
        run("promote", source, store.directory, "--force", "--reason", "test")
    assert [turn.version for turn in store.history()] == [1, 2, 3, 1]  # the same release is no version again
    assert run("releases", "prune", store.directory, "--keep", 0) == {"removed": [2], "kept": [1, 3]}
    run("rollback", store.directory)
    assert run("releases", "prune", store.directory, "--keep", 1) == {"removed": [1], "kept": [3]}
    done = run("promote", derived, store.directory, "--force", "--reason", "test")
    assert done["turn"]["version"] == 4  # numbers are not used again


def test_a_promotion_that_was_killed_leaves_what_was_current(
    store: Versions, derived: Path, run: Run, tmp_path: Path
) -> None:
    with store.lock():
        half = store.directory / ".2.half"
        half.mkdir()
        deploy(derived, store.repository, None, version=2)
    assert live_version(store.repository) == 2
    assert live_version(repository_of(store.directory)) == 1
    assert not half.exists()
    run("promote", derived, store.directory)
    lines = (store.directory / HISTORY).read_text().splitlines(keepends=True)
    (store.directory / HISTORY).write_text("".join(lines[:-1]))  # killed after the pointer, before the history
    assert [turn.version for turn in store.history()] == [1, 2]
    run("rollback", store.directory)
    assert [turn["version"] for turn in map(json.loads, (store.directory / HISTORY).read_text().splitlines())] == [
        1,
        2,
        1,
    ]


def test_a_version_that_was_changed_is_not_gone_back_to(store: Versions, worse: Path, derived: Path, run: Run) -> None:
    run("promote", worse, store.directory, "--force", "--reason", "another layout")  # so the repository is made again
    before = (store.directory / CURRENT).read_bytes()
    place = store.release_of(1)
    shutil.rmtree(place)
    shutil.copytree(derived, place)
    assert "was added" in refusal("rollback", store.directory)
    assert (store.directory / CURRENT).read_bytes() == before
    assert live_version(store.repository) == 2


def test_after_an_update_that_reads_no_old_release_there_is_a_way_on_and_back(
    store: Versions, derived: Path, run: Run
) -> None:
    manifest = store.release_of(1) / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"format": ', '"format": 9'))
    message = refusal("promote", derived, store.directory)
    assert "the current version cannot be compared with: " in message
    assert "manifest.json: format 9" in message
    run("promote", derived, store.directory, "--force", "--reason", "new format")
    assert run("rollback", store.directory)["version"] == 1  # with the code that it was served by
    assert live_version(store.repository) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "not JSON"),
        ("null", "expected an object"),
        ("[" * 100_000, "not JSON"),
        ("{}", "rows is missing"),
        ('{"rows": "many", "protocol": "split"}', "rows must be an integer"),
        ('{"rows": 1, "protocol": null}', "protocol must be text"),
        ('{"rows": 1, "protocol": "split", "unseen": [0.1]}', "unseen must be an object"),
        ('{"rows": 1, "protocol": "split", "continuation": {"mean": 0.1}}', "mean must be an object"),
        ('{"rows": 1, "protocol": "split", "unseen": {"recall@10": NaN}}', "not a finite number"),
    ],
)
def test_metrics_that_cannot_be_compared_are_refused_by_their_file(
    content: str, message: str, store: Versions, first: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(first, tmp_path / "run"))
    (copy / "metrics.json").write_text(content)
    for command in (("promote", copy, tmp_path / "others"), ("diff", store.directory, copy)):
        output = refusal(*command)
        assert f"{copy}/metrics.json" in output
        assert message in output


def test_a_directory_that_somebody_changed_is_refused_in_a_line(
    store: Versions, derived: Path, first: Path, run: Run, tmp_path: Path
) -> None:
    about = store.directory / "1/version.json"
    before = about.read_bytes()
    for content in (None, b"", b"{}", b'{"version": 1, "release": 7, "source": "", "added": ""}'):
        about.unlink()
        if content is not None:
            about.write_bytes(content)
        assert str(about) in refusal("promote", derived, store.directory)
        about.write_bytes(before)
    config = store.repository / models_in(store.repository)[-1] / CONFIG
    before = config.read_bytes()
    for content in (b"\xff", b"name: {"):
        config.write_bytes(content)
        assert f"{config}: not a model configuration" in refusal("promote", derived, store.directory)
    config.write_bytes(before)
    for name in ("\u00b2", "7"):  # a digit that is no number, a file that is no version
        (store.directory / name).write_bytes(b"")
    damaged = shutil.copytree(store.directory / "1", store.directory / "8")
    (damaged / "release/manifest.json").write_text("[]")
    assert run("promote", derived, store.directory)["turn"]["figures"]["recall"] == 0.5
    (tmp_path / "file").write_bytes(b"")
    assert f"{tmp_path / 'file'}: File exists" in refusal("promote", first, tmp_path / "file")


def test_two_promotions_do_not_mix(store: Versions, derived: Path) -> None:
    with store.lock():
        assert "under way" in refusal("promote", derived, store.directory)
    with pytest.raises(ReleaseError, match="no version is current"):
        Versions(store.directory / "none").current_number()
