"""Releases to change."""

from __future__ import annotations

from pathlib import Path

import pytest

from ensemble.config import Index
from tests.synthetic import make_release, make_run


@pytest.fixture(scope="module", params=["flat", "ivf_sq8", "hnsw"])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release of one's own, with strings or integers as ids, two of three with a ranker; tests leave it as it was."""
    ids = "int64" if request.param == "hnsw" else "string"
    run = make_run(tmp_path_factory.mktemp(request.param) / "run", ids, last=3)
    index = Index(kind=request.param, **{"ivf_sq8": {"nprobe": 4}, "hnsw": {"ef": 64}}.get(request.param, {}))
    return make_release(run, index, ranks=request.param != "ivf_sq8")
