"""The recall that a release states of its index is the recall of what it answers, for the same rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ensemble.config import Index, Serving
from ensemble.release.congruence import raw_columns, sample_queries
from ensemble.release.write import Parts, Settings, Training, write_release
from ensemble.serving.index import costs
from ensemble.serving.retriever import Retriever
from ensemble.serving.search.search import no_exclusions
from ensemble.serving.triton.tensors import Request
from tests.synthetic import Run, make_run

K = 100


@pytest.mark.parametrize("metric", ["inner_product", "l2"])
def test_stated_recall_is_that_of_the_answers(metric: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for dear in ("SCAN_NS", "GATHER_NS"):
        monkeypatch.setattr(costs, dear, 1e12)  # the index is asked, small as the catalogue is
    monkeypatch.setattr(costs, "SMALL", 0)
    run = make_run(tmp_path / "run", items=4000, users=70)
    exact = released(run, Index(kind="flat", metric=metric))
    index = Index(kind="ivf_sq8", metric=metric, nlist=64, nprobe=8, refine_factor=1.0)
    approximate = released(run, index)
    stated = approximate.release.json("index/params.json")["measured"]
    truth, answered = answers(run, exact), answers(run, approximate)
    assert stated["queries"] == len(truth[0])
    for k in (1, 10, K):
        least = truth[1][:, k - 1 : k] - 1e-5
        served = float((answered[1][:, :k] >= least).mean())
        assert served == pytest.approx(stated[f"index_recall@{k}"], abs=1e-4)
    assert 0.2 < stated[f"index_recall@{K}"] < 0.999  # it is not exact, or the test would show nothing


def released(run: Run, index: Index) -> Retriever:
    """Return a release of the run with this index, loaded."""
    serving = Serving(top_k=K, max_top_k=200, max_batch_size=512)
    parts = Parts(run.path / "features", run.path / "towers", run.path / f"release-{index.kind}")
    release = write_release(parts, Training(run.reference), Settings("index", "0" * 64, serving, index))
    return Retriever(release)


def answers(run: Run, retriever: Retriever) -> tuple[np.ndarray, np.ndarray]:
    """Return items and scores for all test rows, nothing left out."""
    names = [column["name"] for column in retriever.release.json("query/transform.json")["inputs"]]
    columns = raw_columns(sample_queries(run.path / "features", names, count=10**6), retriever.release)
    rows = len(columns["user_id"].values)
    request = Request(columns, np.full(rows, K), np.ones(rows, dtype=bool), no_exclusions())
    answer = retriever.answer(request)
    return answer.item_index, answer.score
