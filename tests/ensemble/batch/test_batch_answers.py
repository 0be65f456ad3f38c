"""Answers for everybody are the server's, no matter who makes them, and a killed run goes on to the same bytes."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from ensemble.batch import answers as batch_answers
from ensemble.batch.answers import FILE, Task, answer_all
from ensemble.batch.everybody import Asking, Everybody
from ensemble.batch.users import choose
from ensemble.client import RetrievalClient
from ensemble.client.filters import Crowding, Filter, Range, TagTest
from ensemble.serving.files.release import Release
from retrieval.cli import app
from tests.served import Served
from tests.synthetic import Run, make_release, make_run
from workflows.errors import DataError
from workflows.features.dask_cluster import client as cluster

ASKED = Filter(
    tags={"genres": TagTest(any=["Comedy", "Drama"], none=["Horror"])}, ranges={"year": Range(1991, 1996)},
    crowding=Crowding("year", 4), min_score=-0.9,
)  # fmt: skip


def task_of(release: Path, out: Path, **asking: Any) -> tuple[Task, Everybody]:
    everybody = Everybody.load(release)
    return Task(release, None, everybody.retriever.name, Asking(**{"time": 0, **asking}), out), everybody


def answer(release: Path, out: Path, workers: int = 0, force: bool = False, **asking: Any) -> batch_answers.Done:
    """Answer every user and a stranger, seven to a part."""
    task, everybody = task_of(release, out, **asking)
    ids = everybody.user_ids()
    ids = np.append(ids, np.array(["никто" if ids.dtype == object else 10**15], dtype=ids.dtype))
    with cluster(workers) as joined:
        return answer_all(task, everybody, ids, joined, str, force=force, users_per_part=7)


def read(out: Path) -> list[dict[str, Any]]:
    return pa.concat_tables([pq.read_table(part) for part in sorted(out.glob("part-*"))]).to_pylist()


def contents(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir()}


@pytest.mark.server
def test_everybody_gets_what_the_server_answers(
    served: Served, client: RetrievalClient, run: Run, release: Path, tmp_path: Path
) -> None:
    excluded = run.items["item_id"].tolist()[:3]
    arguments = ["--top-k", "30", "--filter", ASKED.text(), "--column", "occupation=artist"]
    arguments += [part for item_id in excluded for part in ("--exclude", str(item_id))]
    done = CliRunner().invoke(
        app, ["recommend", str(release), "--users", "all", "--out", str(tmp_path / "out"), *arguments]
    )
    assert done.exit_code == 0, done.output
    expected = client.recommend(
        served.users,
        top_k=30,
        exclude_item_ids=[excluded] * len(served.users),
        columns={"occupation": ["artist"] * len(served.users)},
        filters=[ASKED] * len(served.users),
    )
    rows = read(tmp_path / "out")
    assert [row["user_id"] for row in rows] == served.users
    assert [row["item_ids"] for row in rows] == [answer.item_ids for answer in expected]
    assert [row["count"] for row in rows] == [len(answer.item_ids) for answer in expected]
    assert {len(row["item_ids"]) for row in rows} != {30}  # the filter leaves some with fewer
    for row, answer in zip(rows, expected, strict=True):
        np.testing.assert_allclose(row["scores"], answer.scores, rtol=0, atol=1e-5)


def test_workers_write_the_same_bytes_as_this_process(tmp_path: Path) -> None:
    release = make_release(make_run(tmp_path / "run", "string"))  # one kind of id: starting workers takes seconds
    ours = answer(release, tmp_path / "ours", filter=ASKED.text())
    theirs = answer(release, tmp_path / "theirs", workers=2, filter=ASKED.text())
    assert contents(tmp_path / "ours") == contents(tmp_path / "theirs")
    assert ours.users == theirs.answered == 61
    assert ours.unknown_users == 1


@pytest.mark.parametrize("moment", ["between parts", "inside a part"])
def test_a_killed_run_goes_on_to_the_same_bytes(release: Path, tmp_path: Path, moment: str) -> None:
    answer(release, tmp_path / "whole")
    child = os.fork()
    if child == 0:
        _die(release, tmp_path / "killed", moment)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    left = contents(tmp_path / "killed")
    assert sum(name.startswith("part-") for name in left) == 3
    assert any(name.startswith(".part-") for name in left) == (moment == "inside a part")
    done = answer(release, tmp_path / "killed")
    assert (done.kept, done.answered) == (3, 61 - 21)
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
    assert answer(release, tmp_path / "killed").kept == done.parts


def _die(release: Path, out: Path, moment: str) -> None:
    """Kill this very process, a fork, after three parts: before the fourth or in the middle of it."""
    written = 0
    record, part = batch_answers._record, batch_answers.write_part

    def dying_record(*arguments: Any) -> Any:
        if written == 3 and moment == "inside a part":
            os.kill(os.getpid(), signal.SIGKILL)
        return record(*arguments)

    def dying_part(*arguments: Any) -> int:
        nonlocal written
        if written == 3 and moment == "between parts":
            os.kill(os.getpid(), signal.SIGKILL)
        rows = part(*arguments)
        written += 1
        return rows

    batch_answers._record, batch_answers.write_part = dying_record, dying_part
    try:
        answer(release, out)
    finally:
        os._exit(1)


def test_answers_to_something_else_are_neither_mixed_nor_overwritten(release: Path, tmp_path: Path) -> None:
    answer(release, tmp_path, top_k=5)
    before = contents(tmp_path)
    with pytest.raises(DataError, match="--force"):
        answer(release, tmp_path, top_k=6)
    assert contents(tmp_path) == before
    assert answer(release, tmp_path, top_k=6, force=True).kept == 0
    assert {len(row["item_ids"]) for row in read(tmp_path)} == {6}


def test_a_run_asked_as_of_now_goes_on_as_of_its_own_now(dated_release: Path, tmp_path: Path) -> None:
    task, everybody = task_of(dated_release, tmp_path)
    answers = [
        answer_all(replace(task, asking=Asking(time=at)), everybody, everybody.user_ids(), None, str, now=True)
        for at in (30, 40)
    ]
    assert [answer.time for answer in answers] == [30, 30]
    assert json.loads((tmp_path / FILE).read_text())["asking"]["time"] == 30


def test_the_last_time_of_each_user_is_that_of_their_newest_interaction(dated_release: Path, dated_run: Run) -> None:
    everybody = Everybody.load(dated_release)
    ids = everybody.user_ids()
    known = dated_run.interactions.iloc[:600]
    newest = known.groupby("user_id")["timestamp"].max().to_dict()
    last = everybody.answer(ids, Asking(top_k=20))
    for row, user in enumerate(ids.tolist()):
        alone = everybody.answer(ids[row : row + 1], Asking(top_k=20, time=newest.get(user, known["timestamp"].max())))
        assert last.item_id[row].tolist() == alone.item_id[0].tolist()


@pytest.fixture(scope="module")
def dated_release(dated_run: Run) -> Path:
    return dated_run.path / "release"


@pytest.mark.parametrize("suffix", ["parquet", "csv", "jsonl", "txt", ""])
def test_users_are_read_from_files_each_once(run: Run, release: Path, tmp_path: Path, suffix: str) -> None:
    users = run.users["user_id"].tolist()[:5]
    frame, path = run.users[["age", "user_id"]].iloc[[0, 1, 2, 3, 4, 1]], tmp_path / f"users.{suffix}"
    if suffix == "parquet":
        frame.to_parquet(path)
    elif suffix == "csv":
        frame.to_csv(path, index=False)
    elif suffix == "jsonl":
        frame.to_json(path, orient="records", lines=True)
    listed = [str(user) for user in frame["user_id"]]
    if suffix == "txt":
        path.write_text("\n".join(listed), encoding="utf-8")
    chosen = choose(str(path) if suffix else ",".join(listed), Release.open(release))
    assert (chosen.ids.tolist(), chosen.repeated) == (users, 1)


def test_a_file_of_users_that_is_wrong_is_refused_by_name(release: Path, run: Run, tmp_path: Path) -> None:
    path = tmp_path / "users.csv"
    is_text = run.users["user_id"].dtype == object
    for text, words in {"age\n3\n": "'user_id' is missing", "user_id,age\n1,2\n,3\n": "row 1"}.items():
        path.write_text(text)
        with pytest.raises(DataError, match=words):
            choose(str(path), Release.open(release))
    if not is_text:
        path.write_text("user_id\nx\n")
        with pytest.raises(DataError, match="64-bit integers"):
            choose(str(path), Release.open(release))
