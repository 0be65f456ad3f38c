"""`retrieval init` finds out what tables hold, and what it writes runs; a changed file makes the run begin again."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from retrieval.commands.start.plan import fetch_own_tables
from retrieval.console import Terminal
from retrieval.init.plan import Plan, make_plan
from retrieval.init.recipe import recipe_text
from retrieval.plan.shapes import shapes_of
from retrieval.recipes.recipe import load_recipe, parse_recipe
from retrieval.runs.run import Run, advance
from retrieval.runs.stages import STAGES
from workflows.config import OwnTables
from workflows.tables.store import Tables

ROOT = Path(__file__).parents[3]
SHOP = ROOT / "recipes" / "shop"
FILES = {"interactions": "orders", "users": "customers", "items": "products"}


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """The example shop in a directory of its own."""
    return Path(shutil.copytree(SHOP, tmp_path / "shop"))


def plan_of(directory: Path, suffix: str = "csv", columns: Any = None) -> Plan:
    paths = {table: f"{name}.{suffix}" for table, name in FILES.items() if (directory / f"{name}.{suffix}").exists()}
    return make_plan(paths, columns or {}, directory)


def fetched(text: str, directory: Path) -> Tables:
    recipe = parse_recipe(text, directory / "recipe.toml")
    run = Run.create(recipe, directory / "runs", STAGES)
    advance(run, ["fetch"], directory, Terminal(sys.stderr))
    return Tables.load(run.directory / "tables")


def test_the_recipe_that_ships_is_what_init_writes(shop: Path) -> None:
    paths = {table: f"shop/{name}.csv" for table, name in FILES.items()}
    text = recipe_text(make_plan(paths, {}, shop.parent), "tables", shop.parent / "tables.toml")
    assert text == (ROOT / "recipes" / "tables.toml").read_text(encoding="utf-8")


def test_parquet_and_csv_of_the_same_rows_give_the_same_recipe_and_the_same_tables(shop: Path) -> None:
    csv = recipe_text(plan_of(shop), "shop", shop / "recipe.toml")
    for name in FILES.values():
        pd.read_csv(shop / f"{name}.csv", dtype={"Postal Code": str}).to_parquet(shop / f"{name}.parquet")
    parquet = recipe_text(plan_of(shop, "parquet"), "shop", shop / "recipe.toml")
    assert parquet.replace(".parquet", ".csv") == csv
    first, second = fetched(csv, shop), fetched(parquet, shop)
    for table in FILES:
        pd.testing.assert_frame_equal(getattr(first, table), getattr(second, table), check_dtype=False)
    assert first.users["postal_code"].str.startswith("0").any()


@pytest.mark.parametrize(
    ("columns", "unit"),
    [
        ({"visitorId": [7, 8, 7], "productId": [1, 2, 3], "ts": [1.6e9, 1.6e9 + 5, 1.7e9]}, "seconds"),
        ({"uid": ["a", "b", "a"], "asin": ["x", "y", "z"], "date": ["2024-05-01", "2024-05-02", "2023-01-01"]}, "iso"),
        ({"user": [1, 2, 1], "movie": [5, 6, 7], "at": ["31/12/2023 10:00", "01/02/2024 11:30", "13/02/2024 08:15"]},
         "%d/%m/%Y %H:%M"),
        ({"item": [5, 6, 7], "reviewerID": ["q", "r", "q"], "at": np.arange(3) * 10**15 + 10**18}, "nanoseconds"),
        ({"customer no": [1, 2, 1], "sku": [5, 6, 7]}, None),
    ],
)  # fmt: skip
def test_users_items_and_times_are_found_by_what_they_are_called_and_hold(
    tmp_path: Path, columns: dict[str, Any], unit: str | None
) -> None:
    pd.DataFrame({"n": [3, 1, 2], **columns}).to_csv(tmp_path / "orders.csv", index=False, sep=";")
    plan = plan_of(tmp_path)
    roles = {role: choice.column.name for role, choice in plan.roles["interactions"].items()}
    names = list(columns)
    item_first = names[0] == "item"
    assert roles["user_id"] == names[1 if item_first else 0]
    assert roles["item_id"] == names[0 if item_first else 1]
    assert (plan.timestamp.unit if plan.timestamp else None) == unit
    assert len(fetched(recipe_text(plan, "one", tmp_path / "one.toml"), tmp_path).interactions) == 3


def test_ids_without_telling_names_are_found_in_the_other_tables(shop: Path) -> None:
    for name, columns in {"orders": ["a", "b", "c", "d", "e"], "products": ["p", "q", "r", "s", "t"]}.items():
        pd.read_csv(shop / f"{name}.csv", names=columns, header=0).to_csv(shop / f"{name}.csv", index=False)
    (shop / "customers.csv").unlink()
    plan = plan_of(shop)
    assert plan.roles["interactions"]["user_id"].why == "a guess: the first column that is left"
    assert {role: choice.column.name for role, choice in plan.roles["interactions"].items()} == {
        "user_id": "a", "item_id": "b", "timestamp": "c",
    }  # fmt: skip
    assert plan.roles["items"]["item_id"].column.name == "p"


def test_nulls_written_as_words_separators_encodings_and_postal_codes_are_noticed(tmp_path: Path) -> None:
    rows = [
        f"{user};{item};{['unknown', '3.5', '4'][user % 3]};0{user}067;Köln" for user in range(9) for item in (1, 2)
    ]
    text = "\n".join(["user;item;rating;zip;city", *rows]) + "\n"
    (tmp_path / "orders.csv").write_bytes(text.encode("latin-1"))
    recipe = parse_recipe(recipe_text(plan_of(tmp_path), "one", tmp_path / "one.toml"), tmp_path / "one.toml")
    assert isinstance(recipe.data, OwnTables)
    file = recipe.data.interactions
    assert (file.delimiter, file.encoding, file.nulls) == (";", "latin-1", ("", "unknown"))


def test_columns_of_users_and_items_with_one_name_get_two(tmp_path: Path) -> None:
    pd.DataFrame({"user": [1, 2], "item": [3, 4]}).to_csv(tmp_path / "orders.csv", index=False)
    pd.DataFrame({"user": [1, 2], "Country": ["x", "y"], "history": ["a", "b"]}).to_csv(
        tmp_path / "customers.csv", index=False
    )
    pd.DataFrame({"item": [3, 4], "country": ["x", "z"]}).to_csv(tmp_path / "products.csv", index=False)
    recipe = parse_recipe(recipe_text(plan_of(tmp_path), "one", tmp_path / "one.toml"), tmp_path / "one.toml")
    assert list(recipe.query.features) == ["user_id", "country", "history_column"]
    assert list(recipe.item.features) == ["item_id", "item_country"]


def test_what_init_writes_is_checked_and_runs_to_a_release(
    shop: Path, mistaken: Any, capfd: pytest.CaptureFixture
) -> None:
    """The one run of the whole way from unknown tables; items as parquet, one epoch."""
    pd.read_csv(shop / "products.csv").to_parquet(shop / "products.parquet")
    files = [
        "--interactions",
        shop / "orders.csv",
        "--users",
        shop / "customers.csv",
        "--items",
        shop / "products.parquet",
    ]
    recipe = shop / "recipe.toml"

    def printed(*arguments: object) -> Any:
        capfd.readouterr()
        done = mistaken(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(capfd.readouterr().out)

    written = printed("init", *files, "--out", recipe, "--name", "shop")
    assert {column["name"]: column["becomes"] for column in written["columns"]}["timestamp"] == "timestamp"
    assert mistaken("init", *files, "--out", recipe).returncode == 2, "a recipe was written over"
    assert printed("check", recipe)["errors"] == 0
    text = recipe.read_text(encoding="utf-8")
    assert "epochs = 30" in text
    recipe.write_text(text.replace("epochs = 30", "refit = false\nepochs = 1"), encoding="utf-8")
    metrics = printed("run", recipe, "--runs", shop / "runs")["metrics"]
    assert metrics["rows"] == 400
    assert (shop / "runs" / "shop" / "release" / "manifest.json").is_file()
    report = (shop / "runs" / "shop" / "report.html").read_text(encoding="utf-8")
    assert "film" not in report


def test_a_changed_file_is_fetched_again_and_an_opened_run_is_what_it_was(shop: Path) -> None:
    path = shop / "recipe.toml"
    path.write_text(recipe_text(plan_of(shop), "shop", path), encoding="utf-8")

    def kept() -> bool:
        run = Run.create(load_recipe(path), shop / "runs", STAGES)
        return bool(advance(run, ["fetch"], shop, Terminal(sys.stderr))[0]["kept"])

    assert not kept()
    assert kept()
    with (shop / "orders.csv").open("a", encoding="utf-8") as file:
        file.write("C1001,SKU-G001,1711300000000,1,phone\n")
    opened = Run.open(shop / "runs" / "shop", STAGES)
    assert opened.is_finished(opened.stages["fetch"])
    assert not kept()
    assert len(Tables.load(shop / "runs" / "shop" / "tables").interactions) == 4001


def test_plan_knows_the_sizes_right_after_init_and_the_run_keeps_what_it_read(shop: Path) -> None:
    path = shop / "recipe.toml"
    path.write_text(recipe_text(plan_of(shop), "shop", path), encoding="utf-8")
    fetch_own_tables(Terminal(sys.stderr), path, shop / "runs", shop)
    recipe = load_recipe(path)
    run = Run.create(recipe, shop / "runs", STAGES)
    shapes = shapes_of(recipe, run.directory)
    assert (shapes.origin, sum(shapes.rows.values()), shapes.users, shapes.items) == ("tables", 4000, 300, 128)
    assert advance(run, ["fetch"], shop, Terminal(sys.stderr))[0]["kept"]


def test_check_fails_where_rows_are_bad_and_shows_them(shop: Path, mistaken: Any, capfd: pytest.CaptureFixture) -> None:
    path = shop / "recipe.toml"
    path.write_text(recipe_text(plan_of(shop), "shop", path), encoding="utf-8")
    with (shop / "orders.csv").open("a", encoding="utf-8") as file:
        file.write("C1001,SKU-G001,yesterday,1,phone\n")
    assert mistaken("check", path).returncode == 2
    shown = capfd.readouterr().out
    for words in ("bad-row/type", "must be a number of milliseconds", "row 4000", "'yesterday'", "1 error,"):
        assert words in shown, shown


def test_a_column_of_events_is_found_and_its_kinds_are_listed(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    rows = {"visitorid": random.integers(0, 40, 400), "itemid": random.integers(0, 30, 400)}
    kinds = np.array(["view"] * 8 + ["addtocart", "transaction"])[np.arange(400) % 10]
    frame = pd.DataFrame({**rows, "event_type": kinds, "event_id": np.arange(400)})
    frame.iloc[:-1].to_csv(tmp_path / "orders.csv", index=False)  # of two kinds one is the rarer
    text = recipe_text(plan_of(tmp_path), "shop", tmp_path / "recipe.toml")
    assert fetched(text, tmp_path).interactions["event"].value_counts().to_dict() == {
        "view": 320,
        "addtocart": 40,
        "transaction": 39,
    }
    lines = text.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("# [train.tasks.events]"))
    uncommented = "\n".join([*lines[:start], *(line.removeprefix("# ") for line in lines[start:])])
    events = parse_recipe(uncommented, tmp_path / "recipe.toml").train.tasks.events
    assert (events.kinds, events.served) == (("view", "addtocart", "transaction"), "transaction")
