"""Finding the load generator; pip is the real one, with a directory as its index."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from ensemble.measure import perf_analyzer
from workflows.errors import DownloadError, ServerError


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No perf_analyzer on this machine; returns a directory that is pip's only source."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    monkeypatch.setattr(perf_analyzer, "_installed", lambda: iter(()))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    return wheels


def test_without_a_package_index_the_error_says_what_to_do(nothing_installed: Path, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=r"tritonclient==2\.45\.0.*put perf_analyzer on PATH"):
        perf_analyzer.find(tmp_path / "cache")


def test_another_wheel_under_the_same_name_is_refused(nothing_installed: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(nothing_installed / "tritonclient-2.45.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(
            "tritonclient-2.45.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tritonclient\nVersion: 2.45.0\n"
        )
        wheel.writestr(
            "tritonclient-2.45.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr("tritonclient-2.45.0.dist-info/RECORD", "")
        wheel.writestr(perf_analyzer.MEMBER, "#!/bin/sh\necho Perf Analyzer Version 0\n")
    with pytest.raises(DownloadError, match="SHA-256 .* expected " + perf_analyzer.WHEEL_SHA256):
        perf_analyzer.find(tmp_path / "cache")
    assert not list((tmp_path / "cache").rglob("perf_analyzer/*/perf_analyzer"))


def test_a_binary_that_does_not_start_is_passed_over(
    nothing_installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken, working = tmp_path / "broken", tmp_path / "working"
    broken.write_text("#!/bin/sh\necho error while loading shared libraries >&2\nexit 127\n")
    working.write_text("#!/bin/sh\necho Perf Analyzer Version 9 >&2\n")
    for script in (broken, working):
        script.chmod(0o755)
    monkeypatch.setattr(perf_analyzer, "_installed", lambda: iter([broken, tmp_path / "missing", working]))
    assert perf_analyzer.find(tmp_path / "cache").binary == working


@pytest.mark.parametrize(
    ("complaint", "remedy"),
    [
        ("version GLIBC_2.35 not found", "glibc 2.35"),
        ("error while loading shared libraries: libb64.so.0d", "`triton` extra"),
    ],
)
def test_a_fetched_binary_that_does_not_start_says_what_is_missing(
    nothing_installed: Path, tmp_path: Path, complaint: str, remedy: str
) -> None:
    fetched = tmp_path / "perf_analyzer" / perf_analyzer.WHEEL_SHA256[:16] / "perf_analyzer"
    fetched.parent.mkdir(parents=True)
    fetched.write_text(f'#!/bin/sh\necho "{complaint}" >&2\nexit 1\n')
    fetched.chmod(0o755)
    with pytest.raises(ServerError, match=remedy):
        perf_analyzer.find(tmp_path)
