"""From tables in memory or from files to answers: `retrieval.fit`, `retrieval.Run` and `retrieval quickstart`."""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import retrieval
from ensemble.client import InvalidRequest
from tests.retrieval.conftest import Command
from tests.retrieval.init.test_shapes import FRAME, lines, of_user
from workflows.errors import DataError, RecipeError, RetrievalError, StageError

pytestmark = pytest.mark.slow
QUICK: dict[str, Any] = {
    "train": {"epochs": 1, "refit": False, "preset": None},
    "model": {"tower": [16]},
    "evaluate": {"peers": ["knn"], "peers_seconds": 1.0},
}
NEW_YEAR = 1_577_836_800
ITEMS = pd.DataFrame({"item_id": range(1000, 1060), "title": [f"<b>item</b> {n}" for n in range(60)]})


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fit") / "runs"


@pytest.fixture(scope="module")
def fitted(runs: Path) -> retrieval.Run:
    return retrieval.fit(FRAME.set_index("user_id"), items=ITEMS, runs=runs, verbose=False, **QUICK)


def test_what_fit_asks_for_is_an_argument_of_its_own(runs: Path) -> None:
    days = [f"{1 + n % 12:02d}/{1 + n // 12 % 12:02d}/2020" for n in range(len(FRAME))]
    frame = FRAME[["user_id", "item_id"]].assign(date=days)
    with pytest.raises(DataError, match=r"timestamp_unit='%d/%m/%Y'\) or .*timestamp_unit='%m/%d/%Y'"):
        retrieval.fit(frame, runs=runs, name="asked", verbose=False)
    with pytest.raises(DataError, match=r'say which it is: columns=\{"item_id": "NAME"\}'):
        retrieval.fit(frame[["user_id"]], runs=runs, name="asked", verbose=False)


def ids_of(run: retrieval.Run) -> dict[str, str]:
    """Return the identity of what each stage made."""
    return {path.stem: json.loads(path.read_text())["id"] for path in run.directory.glob("stages/*.json")}


def test_answers_are_those_of_the_command_and_of_the_server(
    fitted: retrieval.Run, mistaken: Command, tmp_path: Path
) -> None:
    table = fitted.recommend([1, 2, 999], top_k=4, timestamp=pd.Timestamp("2020-01-01"))
    assert table.columns.tolist() == ["user_id", "rank", "item_id", "title", "score", "user_known"]
    assert table["rank"].tolist() == [1, 2, 3, 4] * 3
    assert table["user_known"].tolist() == [True] * 8 + [False] * 4
    assert table["title"][0] == f"<b>item</b> {table['item_id'][0] - 1000}"
    place = tmp_path / "answers"
    options = ("--users", "1,2,999", "--top-k", 4, "--timestamp", NEW_YEAR, "--out", place)
    assert mistaken("recommend", fitted.directory, *options).returncode == 0
    rows = pq.read_table(place / "part-000000.parquet").to_pandas()
    assert table.groupby("user_id", sort=False)["item_id"].agg(list).tolist() == rows["item_ids"].map(list).tolist()
    with fitted.serve() as server, server.client() as client:
        answers = client.recommend([1, 2], top_k=4, timestamps=[NEW_YEAR, NEW_YEAR])
    assert [list(answer.item_ids) for answer in answers] == rows["item_ids"].map(list).tolist()[:2]


def test_everybody_is_answered_once_however_they_are_named(fitted: retrieval.Run) -> None:
    everybody = fitted.recommend(top_k=2, timestamp="last")
    assert set(everybody["user_id"]) == set(FRAME["user_id"])
    assert len(everybody) == 80
    row = FRAME[FRAME["user_id"] == 7]
    for users in (7, [7, 7], np.array([7]), row["user_id"], pl.Series([7]), pa.array([7]), row, pl.from_pandas(row)):
        assert fitted.recommend(users, 2, timestamp="last")["user_id"].tolist() == [7, 7]
    assert 1001 not in fitted.recommend(7, 50, exclude=[1001], include_seen=True)["item_id"].tolist()


def test_the_same_rows_from_any_library_are_the_same_run(fitted: retrieval.Run, runs: Path, mistaken: Command) -> None:
    before = ids_of(fitted)
    table = pa.table(FRAME)
    for interactions, items in ((pl.from_pandas(FRAME), pl.from_pandas(ITEMS)), (table, ITEMS), (FRAME, ITEMS)):
        retrieval.fit(interactions, items=items, runs=runs, verbose=False, **QUICK)
        assert ids_of(fitted) == before
    done = mistaken("run", fitted.directory / "recipe.toml", "--runs", runs)
    assert done.returncode == 0
    assert ids_of(retrieval.Run.open(fitted.directory)) == before


def test_metrics_show_themselves(fitted: retrieval.Run) -> None:
    metrics = fitted.evaluate()
    assert metrics.models.index.tolist() == ["two-tower", "popularity", "item KNN"]
    assert metrics.models.loc["two-tower", "recall@10"] == metrics["unseen"]["recall@10"]
    assert metrics.verdict in metrics._repr_html_()
    assert f"verdict: {metrics.verdict}" in repr(metrics)
    assert metrics.verdict in fitted._repr_html_()
    assert "report.html" in fitted._repr_html_()


def test_a_recipe_edited_by_hand_is_kept_beside_the_new_one(runs: Path, fitted: retrieval.Run) -> None:
    recipe = fitted.directory / "recipe.toml"
    text = recipe.read_text()
    recipe.write_text(text.replace("seed = 42\n", "seed = 7  # mine\n", 1))
    retrieval.fit(FRAME, items=ITEMS, runs=runs, verbose=False, **QUICK)
    assert recipe.read_text() == text
    assert "seed = 7  # mine" in (fitted.directory / "recipe.before.toml").read_text()


@pytest.mark.parametrize(("options", "message"), [
    ({"interactions": [1, 2]}, r"interactions: a builtins.list is no table; expected one of pandas, polars or pyarrow"),
    ({"interactions": pl.from_pandas(FRAME).lazy()}, r"LazyFrame is no table; .collect\(\) it"),
    ({"interactions": FRAME.head(0)}, "interactions: has no rows"),
    ({"interactions": FRAME.assign(rating=[1, "x"] * 500)}, r"column 'rating' holds values that do not go together"),
    ({"interactions": pd.concat([FRAME, FRAME], axis=1)}, "interactions: two columns are called 'user_id'"),
    ({"interactions": FRAME.set_index(FRAME["user_id"])}, "its index and a column are both called 'user_id'; reset"),
    ({"interactions": FRAME[["rating"]]}, "no column looks like the user_id; there are: rating"),
    ({"interactions": FRAME, "columns": {"user_id": "uid"}}, r'"user_id": "uid"}: .* no such column; there are: user'),
    ({"interactions": FRAME, "columns": {"people.user_id": "uid"}}, "people.user_id=uid: expected OURS=THEIRS"),
    ({"interactions": FRAME, "train": {"epoch": 1}}, r"unknown field `epoch` - at `\$.train`"),
    ({"interactions": FRAME, "train": {"epochs": 0}}, r">= 1 - at `\$.train.epochs`"),
    ({"interactions": FRAME, "train": {"epochs": object()}}, "train.epochs: .*expected what TOML has"),
    ({"interactions": FRAME, "name": "../escaped"}, r"name '../escaped': expected letters"),
    ({"interactions": "none.csv"}, "none.csv"),
])  # fmt: skip
def test_what_cannot_be_fitted_is_refused_with_a_remedy(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(RetrievalError, match=message):
        retrieval.fit(runs=tmp_path / "runs", verbose=False, **options)
    assert not (tmp_path / "escaped").exists()
    assert not [*tmp_path.rglob(".interactions*")]


@pytest.mark.parametrize(("question", "message"), [
    ({"users": ["a"]}, "the release's user ids are 64-bit integers"),
    ({"users": [1, None]}, "row 1: is null"),
    ({"users": []}, "has no users"),
    ({"users": ITEMS}, "the frame has no column 'user_id'; there are: item_id, title"),
    ({"top_k": 10**6}, "top_k"),
    ({"columns": {"age": 3}}, "age"),
    ({"timestamp": "yesterday"}, "expected now, last"),
])  # fmt: skip
def test_wrong_questions_are_refused(fitted: retrieval.Run, question: dict[str, Any], message: str) -> None:
    with pytest.raises((DataError, InvalidRequest, RecipeError), match=message):
        fitted.recommend(**question)


def test_a_directory_that_is_no_run_is_not_opened(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="not a run"):
        retrieval.Run.open(tmp_path)


def test_a_fit_leaves_the_process_as_it_was(fitted: retrieval.Run, runs: Path, capfd: pytest.CaptureFixture) -> None:
    mask, disabled = os.umask(0o027), logging.root.manager.disable
    try:
        retrieval.fit(FRAME, items=ITEMS, runs=runs, **QUICK)
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(mask)
    assert logging.root.manager.disable == disabled
    assert "train: kept, same inputs" in capfd.readouterr().err


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import retrieval, sys; print({'numpy', 'pandas', 'tensorflow', 'rich'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "set()\n"


def _blocks(place: Path) -> dict[str, Any]:
    rows = FRAME.assign(date=pd.to_datetime(FRAME["timestamp"], unit="s").dt.strftime("%Y-%m-%d"))
    blocks = {item: of[["user_id", "rating", "date"]] for item, of in rows.groupby("item_id")}
    texts = [f"{item}:\n{of.to_csv(index=False, header=False)}" for item, of in blocks.items()]
    (place / "blocks.txt").write_text("".join(texts))
    return {"interactions": place / "blocks.txt"}


def _lists(place: Path) -> dict[str, Any]:
    (place / "train.txt").write_text("".join(f"{user} {' '.join(map(str, items))}\n" for user, items in of_user()))
    return {"interactions": place / "train.txt"}


def _names(place: Path) -> dict[str, Any]:
    games = "Game of " + FRAME["item_id"].astype(str)
    frame = pd.DataFrame({"user": FRAME["user_id"], "game": games, "hours": 1.5})
    frame.to_csv(place / "a.csv", index=False, header=False)
    return {"interactions": place / "a.csv"}


def _given(place: Path) -> dict[str, Any]:
    for part, rows in {"train": FRAME[:800], "test": FRAME[800:]}.items():
        (place / f"{part}.dat").write_text(lines("::", None, rows.to_numpy().tolist()))
    return {"interactions": place / "train.dat", "test": place / "test.dat"}


def _shop(place: Path) -> dict[str, Any]:
    frame = FRAME.assign(sku="S" + FRAME["item_id"].astype(str), DAY=FRAME["timestamp"] // 86_400 - 17_000)
    with sqlite3.connect(place / "shop.db") as database:
        frame[["user_id", "sku", "DAY"]].to_sql("orders", database, index=False)
    users = pd.DataFrame({"user_id": range(1, 31), "age": range(20, 50)})
    users.to_json(place / "users.jsonl.gz", orient="records", lines=True)
    return {"interactions": place / "shop.db", "users": place / "users.jsonl.gz"}


@pytest.mark.parametrize("save", [_blocks, _lists, _names, _given, _shop])
def test_files_of_every_family_go_to_an_answer(tmp_path: Path, save: Any) -> None:
    """That every other shape becomes the same tables as these is in `test_shapes.py`."""
    run = retrieval.fit(**save(tmp_path), runs=tmp_path / "runs", verbose=False, **{**QUICK, "evaluate": {"peers": []}})
    answers = run.recommend(top_k=3, timestamp="last", include_seen=True)
    assert len(answers) == 3 * FRAME["user_id"].nunique()
    assert set(answers["item_id"].astype(str).str[-4:].astype(int)) <= set(FRAME["item_id"])
    assert not answers["score"].isna().any()
    assert run.evaluate()["rows"] > 0


def test_quickstart_writes_a_recipe_goes_on_with_it_and_says_what_is_next(
    mistaken: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("ratings.csv").write_text(lines(","))
    ITEMS.to_csv("films.csv", index=False)
    assert mistaken("init", "--interactions", "ratings.csv", "--items", "films.csv").returncode == 0
    recipe = Path("ratings.toml")
    text = recipe.read_text().replace("epochs = 30", "epochs = 1\nrefit = false")
    recipe.write_text(text.replace('preset = "auto"', ""))
    capfd.readouterr()
    done = mistaken("quickstart", "films.csv", "ratings.csv", "--peers", "knn", "--mlflow", "logged", "--json")
    assert done.returncode == 0, done.stderr
    summary = json.loads(capfd.readouterr().out)
    assert "ratings.toml is there already, and is kept" in done.stderr
    assert summary["metrics"]["verdict"]["text"]
    assert Path(summary["report"]).is_file()
    [logged] = Path("logged").rglob("report.html")
    assert summary["mlflow_run"] in logged.parts
    assert summary["next"][:2] == ["retrieval explore runs/ratings", "retrieval serve runs/ratings"]
    Path("other.csv").write_text(lines(","))
    done = mistaken("quickstart", "other.csv", "--out", "ratings.toml")
    assert done.returncode == 2
    assert "ratings.toml is there already, for other interactions" in done.stderr


def test_quickstart_that_fails_says_so_in_a_line_and_keeps_the_recipe(
    mistaken: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("ratings.csv").write_text(lines(","))
    pd.DataFrame({"user_id": range(900, 930), "age": range(20, 50)}).to_csv("people.csv", index=False)
    done = mistaken("quickstart", "ratings.csv", "people.csv")
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert "none of its 30 ids" in line
    assert line.endswith("correct the recipe, then `retrieval run ratings.toml` goes on")
    assert Path("ratings.toml").is_file()
    for files in (("none.csv",), ("ratings.csv", *["people.csv"] * 3), ("people.csv", "ratings.csv", "people2.csv")):
        assert mistaken("quickstart", *files, "--out", "other.toml").returncode == 2
