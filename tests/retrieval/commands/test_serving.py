"""`retrieval serve`, `query` and `bench` against a real Triton."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest

from ensemble.server.ports import free_ports

Command = Callable[..., "subprocess.CompletedProcess[str]"]
pytestmark = pytest.mark.server


@contextmanager
def serving(run: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start `retrieval serve` on free ports; yield the process and its gRPC address once it is ready; stop it."""
    grpc, http, metrics = free_ports("127.0.0.1", 3)
    ports = ["--grpc-port", str(grpc), "--http-port", str(http), "--metrics-port", str(metrics)]
    command = [sys.executable, "-m", "retrieval", "serve", str(run), *ports]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("ready: ")
            yield process, f"127.0.0.1:{grpc}"
        finally:
            process.kill()  # Triton ends with it


@pytest.fixture(scope="module")
def address(run_dir: Path) -> Iterator[str]:
    with serving(run_dir) as (_, address):
        yield address


def test_query_answers_with_titles_and_without_what_was_seen(retrieval: Command, run_dir: Path, address: str) -> None:
    done = retrieval(
        "query", "--user", 196, "--user", 22, "--top-k", 7, "--run", run_dir, "--address", address, "--json"
    )
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout)
    assert [answer["user_id"] for answer in answers] == [196, 22]
    titles = pd.read_parquet(run_dir / "features" / "catalogue.parquet").set_index("item_id")["title"]
    train = pd.read_parquet(run_dir / "features" / "train" / "interactions.parquet")
    for answer in answers:
        items = [item["item_id"] for item in answer["items"]]
        assert answer["user_known"]
        assert len(items) == 7
        assert all(item["title"].startswith(titles[item["item_id"]]) for item in answer["items"])
        assert not set(items) & set(train.loc[train["user_id"] == answer["user_id"], "item_id"])


def test_query_leaves_out_what_it_is_told_to(retrieval: Command, address: str) -> None:
    ask = ("query", "--user", 196, "--top-k", 5, "--address", address, "--json")
    first = json.loads(retrieval(*ask).stdout)[0]["items"]
    second = json.loads(retrieval(*ask, "--exclude", first[0]["item_id"]).stdout)[0]["items"]
    assert [item["item_id"] for item in second[:4]] == [item["item_id"] for item in first[1:]]


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("--user", "someone"), ("--user someone", "an integer")),
        (("--user", 1, "--top-k", 0), ("top_k", "from 1 to")),
        (("--user", 1, "--exclude", "x"), ("--exclude x", "an integer")),
        (("--user", 1, "--column", "age"), ("NAME=VALUE",)),
        (("--user", 1, "--column", "height=3"), ("height", "age")),
    ],
)
def test_a_wrong_question_is_told_in_one_line(
    mistaken: Command, address: str, arguments: tuple[object, ...], parts: tuple[str, ...]
) -> None:
    done = mistaken("query", *arguments, "--address", address)
    assert done.returncode == 2
    assert done.stdout == ""
    assert [part for part in parts if part not in done.stderr] == []
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr


def test_serve_ends_cleanly_on_a_signal(run_dir: Path) -> None:
    with serving(run_dir) as (process, _):
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def test_a_repository_that_is_none_is_refused(retrieval: Command, tmp_path: Path) -> None:
    done = retrieval("serve", tmp_path)
    assert done.returncode == 2
    assert str(tmp_path) in done.stderr


def test_bench_prints_points_and_keeps_them(retrieval: Command, run_dir: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(run_dir, tmp_path / run_dir.name))
    done = retrieval("bench", run, "--concurrency", 1, "--concurrency", 2, "--interval-ms", 300, "--json")
    assert done.returncode == 0, done.stderr
    points = json.loads(done.stdout)
    assert [(point["layout"], point["batch"], point["concurrency"]) for point in points] == [
        ("fused", 1, 1),
        ("fused", 1, 2),
    ]
    for point in points:
        assert 0 < point["p50_ms"] <= point["p99_ms"]
        assert point["rows_per_s"] > 0
        assert point["server_cpu_ms_per_row"] > 0
    assert json.loads((run / "bench.json").read_bytes()) == points
    assert (run / "bench.png").read_bytes().startswith(b"\x89PNG")
    assert "fused, 1 row per request: p99" in (run / "report.html").read_text(encoding="utf-8")


def test_sweep_keeps_what_it_measured_and_names_lines_for_the_recipe(
    retrieval: Command, run_dir: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(run_dir, tmp_path / run_dir.name))
    little = ("--minutes", 0.0001, "--p99-ms", 100_000, "--concurrency", 1, "--interval-ms", 200)
    done = retrieval("bench", run, "--sweep", *little)
    assert done.returncode == 0, done.stderr
    assert "[serving]\ninstances = 1\nthreads = 1\nmax_queue_delay_microseconds = 0\n" in done.stdout
    sweep = json.loads((run / "sweep.json").read_bytes())
    assert sweep["best"] in sweep["measured"]
    assert (run / "sweep.png").read_bytes().startswith(b"\x89PNG")
