"""The search of server options: what it takes for best, what it keeps, and that its settings reach a real server."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ensemble.client.tensors import InvalidRequest, Query
from ensemble.measure.points import Point
from ensemble.measure.sweep import Measured, Objective, Setting, Sweep, best_of, settings, sweep, with_options
from ensemble.measure.sweep_view import conclusion, draw, sweep_table
from ensemble.serving.files.release import Release
from tests.synthetic import Run


def measurement(rows_per_s: float, p99_ms: float, instances: int = 1) -> Measured:
    latencies = {f"p{percent}_ms": p99_ms for percent in (50, 90, 95, 99)}
    point = Point(
        layout="fused",
        batch=1,
        concurrency=4,
        rows_per_s=rows_per_s,
        server_cpu_ms_per_row=None,
        spread=None,
        **latencies,
    )
    return Measured(setting=Setting(instances=instances), point=point)


measurements = st.lists(
    st.builds(measurement, st.floats(1, 1e5), st.floats(0.1, 100), st.integers(1, 4)), min_size=1, max_size=20
)


@given(measurements, st.floats(0.1, 100))
def test_the_best_keeps_to_the_objective_and_nothing_that_does_is_clearly_faster(
    measured: list[Measured], p99_ms: float
) -> None:
    best = best_of(measured, p99_ms)
    within = [trial for trial in measured if trial.point.p99_ms <= p99_ms]
    assert (best is None) == (not within)
    if best is not None:
        assert best in within
        most = max(trial.point.rows_per_s for trial in within)
        assert best.point.rows_per_s >= 0.97 * most
        cheaper = [trial for trial in within if trial.setting < best.setting]
        assert all(trial.point.rows_per_s < 0.97 * most for trial in cheaper)


@given(measurements)
def test_the_frontier_is_what_no_other_beats(measured: list[Measured]) -> None:
    frontier = Sweep(p99_ms=10, best=None, measured=measured, left_out=0).frontier()

    def beaten(trial: Measured) -> bool:
        return any(
            (other.point.rows_per_s >= trial.point.rows_per_s and other.point.p99_ms < trial.point.p99_ms)
            or (other.point.rows_per_s > trial.point.rows_per_s and other.point.p99_ms <= trial.point.p99_ms)
            for other in measured
        )

    assert not any(beaten(trial) for trial in frontier)
    places = {(trial.point.rows_per_s, trial.point.p99_ms) for trial in frontier}
    assert places == {(trial.point.rows_per_s, trial.point.p99_ms) for trial in measured if not beaten(trial)}


@pytest.mark.parametrize("cores", [1, 2, 8, 64])
def test_no_setting_wants_more_cores_than_there_are(cores: int) -> None:
    choices = settings(cores)
    assert all(choice.instances * choice.threads <= cores for choice in choices)
    assert Setting(instances=cores) in choices
    assert len(set(choices)) == len(choices)


def test_a_copy_with_other_options_is_a_whole_release_of_another_name(release: Path, tmp_path: Path) -> None:
    copy = Release.open(with_options(release, {"instances": 2, "threads": 2}, tmp_path / "copy"))
    own = Release.open(release)
    assert copy.manifest["serving"] == {**own.manifest["serving"], "instances": 2, "threads": 2}
    assert copy.manifest["release"] != own.manifest["release"]
    assert copy.manifest["files"] == own.manifest["files"]


@pytest.mark.parametrize(("p99_ms", "minutes"), [(0, 1), (10, 0), (float("nan"), 1)])
def test_an_objective_that_cannot_be_met_is_refused(p99_ms: float, minutes: float) -> None:
    with pytest.raises(InvalidRequest, match="expected a number above 0"):
        Objective(p99_ms, minutes)


@pytest.mark.server
def test_the_releases_own_setting_is_measured_whatever_the_time(run: Run, release: Path) -> None:
    objective = Objective(p99_ms=1e6, minutes=1e-6, concurrencies=(2, 1), interval_ms=100)
    result = sweep(release, Query(run.users["user_id"].tolist(), 5), objective)
    assert [(trial.point.batch, trial.point.concurrency) for trial in result.measured] == [(1, 1), (1, 2)]
    assert {trial.setting for trial in result.measured} == {Setting()}
    assert result.best in result.measured
    assert result.left_out > 0
    assert "[serving]\ninstances = 1\n" in conclusion(result)
    assert sweep_table(result).row_count == 2
    assert draw(result).startswith(b"\x89PNG")
