"""The recall that the evaluation reports is the recall of what a running Triton returns for the same rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ensemble.client import RetrievalClient
from ensemble.server.ports import free_ports
from ensemble.server.server import TritonServer

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def asked(run_dir: Path) -> Iterator[RetrievalClient]:
    grpc, http, metrics = free_ports("127.0.0.1", 3)
    with (
        TritonServer(run_dir / "triton", grpc_port=grpc, http_port=http, metrics_port=metrics) as server,
        RetrievalClient(server.addresses.grpc, timeout_s=120) as client,
    ):
        yield client


@pytest.mark.parametrize("side", ["all", "unseen"])
def test_reported_recall_is_served_recall(run_dir: Path, asked: RetrievalClient, side: str) -> None:
    rows = pd.read_parquet(run_dir / "features" / "test" / "interactions.parquet")
    reported = json.loads((run_dir / "metrics.json").read_text())[side]
    answers = asked.recommend(
        rows["user_id"].tolist(),
        top_k=100,
        include_seen=side == "all",
        timestamps=rows["timestamp"].tolist(),
    )
    for k in (1, 5, 10, 50, 100):
        hits = [item in answer.item_ids[:k] for item, answer in zip(rows["item_id"], answers, strict=True)]
        # Recall counts rows; a tie that float32 sums in another order may move single rows.
        assert np.mean(hits) == pytest.approx(reported[f"recall@{k}"], abs=2 / len(rows))
