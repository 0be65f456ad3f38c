"""The benchmark's input and output; tests/server measures a real server with it."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pandas as pd
import pytest

from ensemble.client import InvalidRequest
from ensemble.client.tensors import Query, Signature
from ensemble.measure.benchmark import BenchmarkError, draw_requests, input_data, read_report
from ensemble.measure.points import Point, draw, load, save
from workflows.errors import StageError

INPUTS = {"user_id": "INT64", "age": "FP64", "top_k": "INT32", "exclude_item_ids": "INT64", "include_seen": "BOOL"}
SIGNATURE = Signature("m", 64, INPUTS, 10, 100)
REQUESTS = Query([7, -(2**62), 7], top_k=5, exclude_item_ids=[[1, 2], [], [3]])
POINT = Point(
    layout="fused", batch=1, concurrency=4, rows_per_s=100.0, p50_ms=1.0, p90_ms=2.0, p95_ms=3.0, p99_ms=4.0,
    server_cpu_ms_per_row=0.5, spread=0.01,
)  # fmt: skip


def test_requests_are_sent_as_they_were_drawn() -> None:
    rows = json.loads(json.dumps(input_data(SIGNATURE, REQUESTS, batch=1)))["data"]
    assert [row["user_id"] for row in rows] == [[7], [-(2**62)], [7]]
    assert [row["exclude_item_ids"]["content"] for row in rows] == [[1, 2], [], [3]]
    assert [row["exclude_item_ids"]["shape"] for row in rows] == [[2], [0], [1]]
    assert all(row["top_k"] == [5] and row["include_seen"] == [False] for row in rows)


def test_rows_of_a_batch_have_one_shape_because_perf_analyzer_joins_no_others() -> None:
    rows = input_data(SIGNATURE, REQUESTS, batch=2)["data"]
    assert {tuple(row["exclude_item_ids"]["shape"]) for row in rows} == {(2,)}
    assert rows[2]["exclude_item_ids"]["content"][0] == 3


@pytest.mark.parametrize("requests", [Query([]), Query([1], columns={"age": [float("nan")]}), Query(["x"])])
def test_requests_that_cannot_be_sent_are_refused(requests: Query) -> None:
    with pytest.raises(InvalidRequest):
        input_data(SIGNATURE, requests, batch=1)


@pytest.mark.parametrize(("asked", "part"), [("all", "test"), ("continued", "valid")])
def test_requests_are_drawn_from_the_part_whose_users_a_release_knows(tmp_path: Path, asked: str, part: str) -> None:
    path = tmp_path / "features" / part / "interactions.parquet"
    path.parent.mkdir(parents=True)
    (tmp_path / "features" / "features.json").write_text(json.dumps({"asked": asked}))
    pd.DataFrame({"user_id": [1] * 50 + [2] * 10, "timestamp": range(60)}).to_parquet(path)
    drawn = draw_requests(tmp_path, 30, top_k=10)
    assert set(drawn.user_ids) <= {1, 2}
    assert len(drawn.user_ids) == 30
    assert drawn == draw_requests(tmp_path, 30, top_k=10)
    assert sorted(draw_requests(tmp_path, 1000).user_ids) == [1] * 50 + [2] * 10


def test_a_run_without_features_says_so(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="retrieval features"):
        draw_requests(tmp_path, 10)


@pytest.mark.parametrize(
    "report",
    [
        "",
        "Concurrency,Inferences/Second,p50 latency\n2,10,1\n",
        "Concurrency,Inferences/Second,p50 latency,p90 latency,p95 latency\n4,10,1,2,3\n",
        "Concurrency,Inferences/Second,p50 latency,p90 latency,p95 latency,p99 latency\n4,n/a,1,2,3,4\n",
    ],
)
def test_a_report_that_lacks_the_measurement_is_no_measurement(report: str) -> None:
    with pytest.raises(BenchmarkError):
        read_report(report, concurrency=4)


def test_points_are_stored_as_the_issue_names_them_and_read_back(tmp_path: Path) -> None:
    points = [POINT, msgspec.structs.replace(POINT, concurrency=1, server_cpu_ms_per_row=None, spread=None)]
    save(points, tmp_path / "bench.json", tmp_path / "bench.png")
    assert load(tmp_path / "bench.json") == points
    stored = json.loads((tmp_path / "bench.json").read_text())[0]
    names = {"layout", "batch", "concurrency", "rows_per_s", "p50_ms", "p99_ms", "server_cpu_ms_per_row"}
    assert names <= stored.keys()
    assert (tmp_path / "bench.png").read_bytes().startswith(b"\x89PNG")
    (tmp_path / "bench.json").write_text("[{}]")
    with pytest.raises(StageError, match="run `retrieval bench` again"):
        load(tmp_path / "bench.json")


def test_a_single_point_can_be_drawn() -> None:
    assert draw([POINT]).startswith(b"\x89PNG")
