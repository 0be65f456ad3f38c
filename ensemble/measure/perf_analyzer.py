"""Finds NVIDIA's load generator `perf_analyzer`, on this machine or in a tritonclient wheel."""

from __future__ import annotations

import hashlib
import importlib.util
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ensemble.server.environment import child_environment, on_path
from ensemble.triton.find import cache_directory
from workflows.errors import DownloadError, ServerError
from workflows.files import atomic_directory, sha256_of
from workflows.progress import Progress, silent

WHEEL = "tritonclient==2.45.0"
WHEEL_SHA256 = "28b2d550bf5445ccd3f457bbcabf890db1d271924957d4d26abd431f94b078c1"
MEMBER = "tritonclient-2.45.0.data/data/bin/perf_analyzer"
_LIBRARIES = {"libcudart.so.12": "libcudart-*.so.12*", "libb64.so.0d": "libb64-*.so.0d"}
"""What the binary links to, and under which hashed name the nvidia-pytriton wheel carries it."""


@dataclass(frozen=True)
class PerfAnalyzer:
    """A `perf_analyzer` that starts on this machine."""

    binary: Path
    libraries: Path | None = None
    """Directory for LD_LIBRARY_PATH, where the system has not all that the binary needs."""

    def environment(self) -> dict[str, str]:
        """Return the environment to run it in, without proxies, which it would use for this machine's servers."""
        return child_environment(**({} if self.libraries is None else {"LD_LIBRARY_PATH": str(self.libraries)}))


def find(cache: Path | None = None, progress: Progress = silent) -> PerfAnalyzer:
    """Return the first `perf_analyzer` that starts: on PATH, beside this Python, in the cache; otherwise download it.

    Raise DownloadError if the wheel cannot be fetched or is not the expected one, ServerError, with reason and remedy,
    if the cache's path cannot be used or the downloaded binary does not start.
    """
    cache = (cache or cache_directory()).absolute()
    if set(str(cache)) & set(":;\n"):  # LD_LIBRARY_PATH is a list of such paths
        raise ServerError(f"{cache}: expected a cache (RETRIEVAL_CACHE) without ':' and ';' in its path")
    fetched = cache / "perf_analyzer" / WHEEL_SHA256[:16] / "perf_analyzer"
    libraries = _link_libraries(cache / "perf_analyzer", _library_source())
    for binary in [*_installed(), fetched]:
        if binary.is_file() and isinstance(tool := start(binary, libraries), PerfAnalyzer):
            return tool
    if not fetched.is_file():
        progress(f"fetching perf_analyzer out of the {WHEEL} wheel (12 MB, once)")
        _fetch(fetched)
    tool = start(fetched, libraries)
    if isinstance(tool, PerfAnalyzer):
        return tool
    raise ServerError(f"{fetched} does not start: {tool}; {_remedy(tool)}")


def start(binary: Path, libraries: Path | None) -> PerfAnalyzer | str:
    """Return `binary` in a form that starts, with the system's libraries if possible, or the loader's complaint."""
    complaint = "not found"
    for tool in [PerfAnalyzer(binary), PerfAnalyzer(binary, libraries)]:
        try:
            done = subprocess.run(
                [binary, "--version"], env=tool.environment(), capture_output=True, text=True, timeout=30, cwd="/"
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error)
        complaint = (done.stderr or done.stdout).strip()  # 2.51 writes its version to stderr
        if done.returncode == 0 and "Perf Analyzer Version" in complaint:
            return tool
    return complaint


def _installed() -> Iterator[Path]:
    if (installed := on_path("perf_analyzer")) is not None:
        yield installed
    yield Path(sys.executable).parent / "perf_analyzer"  # tritonclient wheels up to 2.51 install one


def _library_source() -> Path | None:
    package = importlib.util.find_spec("pytriton")
    if package is None or package.origin is None:
        return None
    source = Path(package.origin).parent.parent / "nvidia_pytriton.libs"
    return source if source.is_dir() else None


def _link_libraries(parent: Path, source: Path | None) -> Path | None:
    """Return a directory that holds the libraries under the names the loader looks for."""
    if source is None:
        return None
    directory = parent / f"libraries-{hashlib.sha256(str(source).encode()).hexdigest()[:16]}"
    libraries = {name: sorted(source.glob(pattern)) for name, pattern in _LIBRARIES.items()}
    if not all(libraries.values()):
        return None
    if not all((directory / name).exists() for name in _LIBRARIES):  # also false for a link whose end has gone
        with atomic_directory(directory) as temporary:
            for name, files in libraries.items():
                (temporary / name).symlink_to(files[0])
    return directory


def _fetch(binary: Path) -> None:
    """Unpack the binary from the wheel, which pip downloads from its configured index."""
    with tempfile.TemporaryDirectory() as directory:
        options = ["--no-deps", "--only-binary=:all:", "--quiet", "--disable-pip-version-check", "--dest", directory]
        done = subprocess.run(
            [sys.executable, "-I", "-m", "pip", "download", *options, WHEEL],
            capture_output=True,
            text=True,
            cwd=directory,
        )
        wheels = list(Path(directory).glob("*.whl"))
        if done.returncode != 0 or len(wheels) != 1:
            reason = (done.stderr.strip() or done.stdout.strip() or "pip says nothing").splitlines()[-1]
            raise DownloadError(
                f"perf_analyzer is not on PATH, and `{sys.executable} -m pip download {WHEEL}` failed: {reason}; "
                "put perf_analyzer on PATH (Triton's SDK container has it), or give this Python pip and a package index"
            )
        if (digest := sha256_of(wheels[0])) != WHEEL_SHA256:
            raise DownloadError(
                f"{wheels[0].name}: SHA-256 {digest}, expected {WHEEL_SHA256}; the index served another file"
            )
        with zipfile.ZipFile(wheels[0]) as wheel, atomic_directory(binary.parent) as temporary:
            (temporary / binary.name).write_bytes(wheel.read(MEMBER))
            (temporary / binary.name).chmod(0o755)


def _remedy(complaint: str) -> str:
    if "GLIBC" in complaint:
        return "it needs glibc 2.35 or newer: run `retrieval bench` in Triton's SDK container or on a newer system"
    if "shared libraries" in complaint:
        return "install the `triton` extra of this project, whose nvidia-pytriton wheel carries the missing library"
    return "put a perf_analyzer that starts on PATH"
