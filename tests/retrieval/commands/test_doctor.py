"""`retrieval doctor`: this machine, and combinations that are known not to work."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from retrieval.runs.version_rules import SERVING, TRAINING, Bad, holes, wrong

Command = Callable[..., "subprocess.CompletedProcess[str]"]
GOOD = {"numpy": "1.24.3", "pandas": "1.5.3", "tensorflow-cpu": "2.12.1", "setuptools": "80.9.0", "dask-cuda": "23.8.0"}


@pytest.mark.parametrize(
    ("package", "version"),
    [
        ("numpy", "2.0.1"),
        ("pandas", "2.2.0"),
        ("tensorflow-cpu", "2.13.0"),
        ("dask-cuda", "24.4.0"),
        ("setuptools", "81"),
    ],
)
def test_a_known_bad_version_is_an_error_with_a_remedy(package: str, version: str) -> None:
    assert not list(wrong(TRAINING, GOOD, "training"))
    (finding,) = wrong(TRAINING, {**GOOD, package: version}, "training")
    assert finding.severity == "error"
    assert f"{package} {version}" in finding.what
    assert "requirements/lock.txt" in finding.remedy


def test_what_is_wrong_beside_another_package_is_right_without_it() -> None:
    rule = Bad("pydantic", "2", "", "warning", "cannot live beside it", "remove one", "tensorflow-cpu")
    assert list(wrong((rule,), {"pydantic": "2.5", **GOOD}, "x"))
    assert not list(wrong((rule,), {"pydantic": "2.5"}, "x"))
    assert [finding.severity for finding in wrong(SERVING, {"faiss-cpu": "1.6.1"}, "serving")] == ["error"]


@pytest.mark.parametrize(("release", "count"), [("24.10", 1), ("26.05", 1), ("26.07", 0), ("26.10", 0), ("", 0)])
def test_a_triton_with_known_holes_is_warned_of(release: str, count: int) -> None:
    assert len(list(holes(release))) == count


def test_the_doctor_looks_at_this_machine(retrieval: Command) -> None:
    done = retrieval("doctor", "--json")
    report = json.loads(done.stdout)
    assert sys.executable in report["facts"]["training"]["python"]
    assert "numpy" in report["facts"]["serving"]["packages"]
    assert done.returncode == (2 if report["counts"].get("error") else 0)


def test_a_serving_python_that_does_not_run_is_an_error(retrieval: Command, tmp_path: Path) -> None:
    done = retrieval("doctor", "--python", tmp_path / "python", "--json")
    assert done.returncode == 2
    assert any("cannot be asked" in finding["what"] for finding in json.loads(done.stdout)["findings"])
