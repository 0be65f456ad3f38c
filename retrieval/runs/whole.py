"""Every stage of a run, and its report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from retrieval.runs.mlflow_log import Log
from retrieval.runs.run import Run, Teller, advance
from retrieval.runs.stages import STAGES


class Finished(NamedTuple):
    """What came of a run."""

    stages: list[dict[str, Any]]
    """What was done with each, as `advance` says."""
    metrics: dict[str, Any]
    report: Path
    mlflow_run: str | None
    """MLflow's id of it, where it was logged."""


def run_all(run: Run, cache: Path, teller: Teller, since: str | None = None, log: Log | None = None) -> Finished:
    """Run every stage in order, keep those that are finished, write the report, and log it all to MLflow if asked.
    The stage `since`, and all after it, are run whether or not they are finished."""
    names = [stage.name for stage in STAGES]
    again = names.index(since) if since else len(names)
    done = advance(run, names[:again], cache, teller) + advance(run, names[again:], cache, teller, force=True)
    from retrieval.report.page import write_report  # late: a wrong recipe is to be refused at once

    with teller.working("report"):
        page = write_report(run)
    return Finished(done, json.loads(run.metrics.read_bytes()), page, log.add(run) if log else None)
