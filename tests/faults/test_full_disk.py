"""A disk that is full: nothing half-written stays, and the error says what to do."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import typer

from ensemble.serving.files.release import Release
from retrieval.console import terminal
from tests.synthetic import make_release, make_run
from workflows.errors import DiskError
from workflows.files import atomic_directory, atomic_write

ROOT = Path(__file__).parents[2]


@contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    """Let writes beyond `size` bytes of a file fail, as they do on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_release_that_does_not_fit_leaves_the_one_before_whole(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    before = make_release(run)
    sizes = sorted({path.stat().st_size for path in before.rglob("*") if path.is_file()})
    for size in (0, sizes[len(sizes) // 2], sizes[-1] - 1):
        with (
            no_file_larger_than(size),
            pytest.raises(DiskError, match=r"release: not written: .* are free .*make room"),
        ):
            make_release(run)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["features", "release", "towers"]
        Release.open(before)
    assert make_release(run, max_top_k=300) == before
    assert Release.open(before).manifest["serving"]["max_top_k"] == 300


def numpys_own_words(path: Path) -> None:
    np.save(path / "array.npy", np.zeros(10_000))


def a_library_without_error_numbers(path: Path) -> None:
    raise RuntimeError(f"saving checkpoint: {os.strerror(errno.ENOSPC)}")


@pytest.mark.parametrize("write", [numpys_own_words, a_library_without_error_numbers])
def test_a_full_disk_is_known_from_every_library_that_reports_it(write: object, tmp_path: Path) -> None:
    with no_file_larger_than(1000), pytest.raises(DiskError), atomic_directory(tmp_path / "made") as place:
        write(place)  # type: ignore[operator]
    assert not list(tmp_path.iterdir())
    with pytest.raises(ZeroDivisionError), atomic_directory(tmp_path / "made") as place:
        raise ZeroDivisionError
    with no_file_larger_than(0), pytest.raises(DiskError):
        atomic_write(tmp_path / "file", b"content")
    assert not list(tmp_path.iterdir())


def test_the_command_line_says_so_wherever_it_happens(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as ended, terminal(), no_file_larger_than(0):
        (tmp_path / "lock").write_text("process 1")
    assert ended.value.exit_code == 2
    assert "error: a file: not written: File too large" in capfd.readouterr().err.replace("\n", " ")


MAPPED = """
import sys
from pathlib import Path
import numpy as np
from workflows.files import allocate
path = Path(sys.argv[1]) / "mapped.npy"
mapped = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(4 << 20,))
try:
    allocate(path)
except OSError as error:
    sys.exit(error.strerror)
mapped[:] = 1
"""


def test_a_mapped_file_without_room_is_an_error_and_not_a_dead_process(tmp_path: Path) -> None:
    isolated = ["unshare", "--map-root-user", "--mount", "sh", "-c"]
    script = 'mount -t tmpfs -o size=1m none "$0" || exit 77; exec "$@"'
    command = [*isolated, script, tmp_path, sys.executable, "-c", MAPPED, tmp_path]
    done = subprocess.run([*map(str, command)], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip("no file system can be mounted here")
    assert done.stderr == "No space left on device\n"
    assert done.returncode == 1
