"""What a user gets from the command line: results on stdout, one clear line for a mistake, exit codes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from retrieval import commands
from retrieval.cli import FOLDERS, app

Command = Callable[..., "subprocess.CompletedProcess[str]"]
COMMANDS = (
    "fetch",
    "features",
    "train",
    "evaluate",
    "release",
    "run",
    "report",
    "serve",
    "query",
    "bench",
    "demo",
    "export",
    "promote",
    "rollback",
    "diff",
)


def refused(done: subprocess.CompletedProcess[str], *parts: str) -> None:
    """Assert exit code 2, nothing on stdout, and one line of error, the last, that holds every part."""
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    line = done.stderr.strip().splitlines()[-1]
    assert line.startswith("error: ")
    assert [part for part in parts if part not in line] == [], line
    assert "Traceback" not in done.stderr


@pytest.fixture
def copied_run(run_dir: Path, tmp_path: Path) -> Path:
    """A finished run that a test may damage."""
    return Path(shutil.copytree(run_dir, tmp_path / "runs" / run_dir.name))


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_shows_an_example_of_itself(command: str) -> None:
    done = CliRunner().invoke(app, [command, "--help"], terminal_width=200)
    assert done.exit_code == 0
    assert f"retrieval {command} " in done.stdout or f"retrieval {command}\n" in done.stdout


def test_help_does_not_wait_for_the_heavy_libraries() -> None:
    heavy = {"tensorflow", "merlin", "nvtabular", "pandas", "pyarrow", "numpy", "faiss", "grpc", "cryptography"}
    code = f"import sys, retrieval.cli; print({heavy} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


def test_help_of_a_command_waits_for_nothing_that_it_works_with() -> None:
    heavy = {"tensorflow", "merlin", "nvtabular", "sklearn", "scipy", "grpc", "cryptography", "onnxruntime", "faiss"}
    code = (
        "import sys; from typer.testing import CliRunner; from retrieval.cli import app\n"
        f"[CliRunner().invoke(app, [name, '--help'], catch_exceptions=False) for name in {sorted(FOLDERS)}]\n"
        f"print({heavy | {'pandas', 'pyarrow'}} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "set()\n", done.stderr


def test_the_overview_has_every_command_and_fits_a_screen() -> None:
    shown = CliRunner().invoke(app, ["--help"], terminal_width=80).stdout.splitlines()
    assert len(shown) <= 24
    assert max(map(len, shown)) <= 80
    files = {path.stem: path.parent.name for path in Path(commands.__file__).parent.glob("*/[a-z]*.py")}
    assert files == FOLDERS
    assert set(files) <= set(" ".join(shown).split())


def test_a_mistyped_command_is_answered_with_the_nearest() -> None:
    assert "Did you mean 'query'?" in CliRunner().invoke(app, ["querry"]).output


def edit(recipe: Path, old: str, new: str) -> None:
    text = recipe.read_text()
    assert old in text
    recipe.write_text(text.replace(old, new))


def test_an_unknown_recipe_key_is_named_with_its_file(retrieval: Command, recipe: Path, tmp_path: Path) -> None:
    edit(recipe, "tower = [128, 64]", "towers = [128, 64]")
    refused(retrieval("run", recipe, "--runs", tmp_path), str(recipe), "`towers`", "$.model")
    assert not (tmp_path / "movielens-100k").exists()


@pytest.mark.parametrize(
    ("old", "new", "part"),
    [
        ("tower = [128, 64]", "tower = [128, 0]", "$.model.tower"),
        ('kind = "flat"', 'kind = "round"', "$.index.kind"),
        ("[model]", "[model", "not a readable TOML file"),
    ],
)
def test_a_wrong_recipe_value_is_named(
    mistaken: Command, recipe: Path, tmp_path: Path, old: str, new: str, part: str
) -> None:
    edit(recipe, old, new)
    refused(mistaken("fetch", recipe, "--runs", tmp_path), str(recipe), part)


def test_a_missing_recipe_says_where_to_find_one(mistaken: Command, tmp_path: Path) -> None:
    refused(mistaken("run", tmp_path / "none.toml"), "none.toml", "ls recipes/")


def test_a_stage_before_its_time_names_what_is_missing(mistaken: Command, recipe: Path, tmp_path: Path) -> None:
    refused(mistaken("train", recipe, "--runs", tmp_path), "'features' has not been run", "retrieval run")


@pytest.mark.parametrize("command", ["evaluate", "release", "report", "bench"])
def test_a_directory_that_is_no_run_is_refused(mistaken: Command, tmp_path: Path, command: str) -> None:
    refused(mistaken(command, tmp_path), str(tmp_path), "not a run")


def test_an_unknown_stage_lists_the_stages(mistaken: Command, recipe: Path, tmp_path: Path) -> None:
    refused(mistaken("run", recipe, "--from", "bake", "--runs", tmp_path), "bake", "fetch, features, train")


def test_a_query_to_nobody_says_how_to_start_a_server(mistaken: Command) -> None:
    refused(mistaken("query", "--user", "196", "--address", "127.0.0.1:9"), "127.0.0.1:9", "retrieval serve")


def test_an_unreadable_table_is_named(retrieval: Command, copied_run: Path, quick_recipe: Path) -> None:
    table = copied_run / "tables" / "interactions" / "part-00000.parquet"
    table.write_bytes(table.read_bytes()[:1000])
    done = retrieval("features", quick_recipe, "--force", "--runs", copied_run.parent)
    refused(done, "part-00000.parquet")


def test_a_damaged_release_is_refused_by_name(retrieval: Command, copied_run: Path) -> None:
    damaged = copied_run / "release" / "towers" / "query.onnx"
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    refused(retrieval("report", copied_run), "query.onnx")


def test_evaluate_prints_one_json_object_and_nothing_else(retrieval: Command, run_dir: Path) -> None:
    done = retrieval("evaluate", run_dir, "--json")
    assert done.returncode == 0, done.stderr
    metrics = json.loads(done.stdout)
    assert metrics["rows"] == 20_000
    assert {"items", "protocol", "all", "unseen"} <= set(metrics)
    for protocol in ("all", "unseen"):
        assert {f"recall@{k}" for k in (1, 5, 10, 50, 100)} <= set(metrics[protocol])
    assert "evaluate: kept, same inputs" in done.stderr


def test_a_finished_run_is_kept_and_says_so(retrieval: Command, copied_run: Path, quick_recipe: Path) -> None:
    done = retrieval("run", quick_recipe, "--runs", copied_run.parent, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert [stage["stage"] for stage in report["stages"] if stage["kept"]] == [
        "fetch",
        "features",
        "train",
        "peers",
        "evaluate",
        "release",
    ]
    for stage in report["stages"]:
        assert f"{stage['stage']}: kept, same inputs" in done.stderr
