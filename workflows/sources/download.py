"""Files from elsewhere into a cache: resumed, checked against a published checksum, whole or absent."""

from __future__ import annotations

import fcntl
import http.client
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from workflows.errors import DownloadError
from workflows.files import digest_of
from workflows.progress import Progress

CONNECT_TIMEOUT_SECONDS: Final = 5.0
READ_TIMEOUT_SECONDS: Final = 30.0
PIP_TIMEOUT_SECONDS: Final = 300.0
CHUNK: Final = 1 << 18


def cache_directory() -> Path:
    """Where downloads are kept: the environment variable RETRIEVAL_CACHE, else ~/.cache/merlin-retrieval."""
    return Path(os.environ.get("RETRIEVAL_CACHE") or "~/.cache/merlin-retrieval").expanduser()


def is_cached(path: Path, checksum: str) -> bool:
    """Whether `path` is there and has `checksum`, "md5:<hex>" or "sha256:<hex>".

    The whole file is hashed every time: half a second for the largest, and no side file to be trusted.
    """
    return path.is_file() and _checksum(path, checksum) == checksum


def _checksum(path: Path, like: str) -> str:
    """Return the checksum of a file, of the same algorithm as another."""
    algorithm = like.partition(":")[0]
    return f"{algorithm}:{digest_of(path, algorithm)}"


def download(url: str, checksum: str, destination: Path, progress: Progress) -> Path:
    """Return `destination`, downloaded from `url` unless it is there already with the right checksum.

    What arrives goes to `<destination>.part`, from where a later call resumes (HTTP Range); it gets its name only
    when its checksum, "md5:<hex>" or "sha256:<hex>", is right. Two processes do not download at once. The proxies
    of the environment are used.

    Raises
    ------
    DownloadError
        The address cannot be reached (after 5 s without a connection or 30 s without a byte), breaks off three
        times without a byte of progress, or what came has another checksum (it is then deleted).
    """
    with _only_one(destination):
        if is_cached(destination, checksum):
            return destination
        partial = destination.with_name(destination.name + ".part")
        _complete(url, partial, progress)
        _adopt(partial, checksum, destination, url)
    return destination


def pip_wheel(requirement: str, checksum: str, destination: Path, progress: Progress) -> Path:
    """Return `destination`, a wheel fetched by pip from the user's package index unless it is there already.

    Parameters
    ----------
    requirement
        Such as `name==1.0`. The wheel is not installed, and nothing it depends on is fetched.
    checksum
        "sha256:<hex>"; checked by pip and again here.

    Raises
    ------
    DownloadError
        There is no pip, or pip failed; carries its last line.
    """
    with _only_one(destination):
        if is_cached(destination, checksum):
            return destination
        progress(f"{requirement}: fetching the wheel with pip")
        with tempfile.TemporaryDirectory(dir=destination.parent) as temporary:
            listing = Path(temporary, "requirements.txt")
            listing.write_text(f"{requirement} --hash={checksum}\n", encoding="utf-8")
            _run_pip(requirement, listing, Path(temporary))
            _adopt(next(Path(temporary).glob("*.whl")), checksum, destination, f"the wheel of {requirement}")
    return destination


@contextmanager
def _only_one(destination: Path) -> Iterator[None]:
    destination.parent.mkdir(parents=True, exist_ok=True)
    with destination.with_name(f".{destination.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _adopt(source: Path, checksum: str, destination: Path, origin: str) -> None:
    """Give a finished download its name, if its checksum is right."""
    actual = _checksum(source, checksum)
    if actual != checksum:
        size = source.stat().st_size
        source.unlink()
        raise DownloadError(
            f"{origin}: {size:,} bytes came with checksum {actual}, expected the published {checksum}; they were "
            f"deleted. Run the command again, or put the right file at {destination} yourself"
        )
    with source.open("rb") as file:
        os.fsync(file.fileno())
    source.replace(destination)


def _complete(url: str, partial: Path, progress: Progress) -> None:
    """Download until the server says that this is all, resuming where a connection broke off."""
    failures = 0
    while failures < 3:
        before = _size(partial)
        try:
            if _receive(url, partial, progress):
                return
            problem = "the connection broke off"
        except urllib.error.HTTPError as error:
            if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                raise DownloadError(f"{url}: the server answered {error.code} {error.reason}; try later") from None
            partial.unlink(missing_ok=True)
            problem = "the server has nothing after what was already here"
        except (OSError, http.client.HTTPException) as error:
            problem = str(getattr(error, "reason", error)) or type(error).__name__
            if not before and not _size(partial):
                raise DownloadError(f"{url}: cannot be reached ({problem}); check the network or proxy") from None
        failures = 0 if _size(partial) > before else failures + 1
    raise DownloadError(
        f"{url}: {problem} at {_size(partial):,} bytes; run the command again to go on from there",
    )


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _receive(url: str, partial: Path, progress: Progress) -> bool:
    """Append one response to `partial`; return whether it was whole."""
    have = _size(partial)
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    with urllib.request.build_opener(_Handler).open(request) as response:
        resumed = response.status == http.HTTPStatus.PARTIAL_CONTENT
        length = response.headers.get("Content-Length")
        total = int(length) + have * resumed if length else None
        with partial.open("ab" if resumed else "wb") as file:
            _copy(response, file, partial.name.removesuffix(".part"), total, progress)
    return total is None or _size(partial) == total


def _copy(response: Any, file: Any, name: str, total: int | None, progress: Progress) -> None:
    """Copy to the end, telling about once a second how far it is."""
    of = f" of {total / 1e6:.1f}" if total else ""
    reported = time.monotonic()
    while chunk := response.read(CHUNK):
        file.write(chunk)
        if time.monotonic() - reported > 1.0:
            reported = time.monotonic()
            progress(f"{name}: {file.tell() / 1e6:.1f}{of} MB")


class _Patient:
    """A connection that is given up soon if nobody answers, but may pause once it is there."""

    timeout: float | None
    sock: Any

    def connect(self) -> None:
        self.timeout = CONNECT_TIMEOUT_SECONDS
        super().connect()  # type: ignore[misc]
        self.sock.settimeout(READ_TIMEOUT_SECONDS)


class _HTTPConnection(_Patient, http.client.HTTPConnection):
    pass


class _HTTPSConnection(_Patient, http.client.HTTPSConnection):
    pass


class _Handler(urllib.request.HTTPHandler, urllib.request.HTTPSHandler):
    def http_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_HTTPConnection, request)

    def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_HTTPSConnection, request)


def _run_pip(requirement: str, listing: Path, directory: Path) -> None:
    command = [sys.executable, "-I", "-m", "pip", "download", "--quiet", "--no-input", "--no-deps", "--require-hashes"]
    command += ["--only-binary=:all:", "--dest", str(directory), "--requirement", str(listing)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PIP_TIMEOUT_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        what = f"pip took more than {PIP_TIMEOUT_SECONDS:.0f} s; check the network"
        raise DownloadError(f"{requirement}: {what}") from None
    if done.returncode:
        last = (done.stderr.strip() or "no message").splitlines()[-1]
        raise DownloadError(f"{requirement}: pip could not fetch the wheel ({last}); check pip and its package index")
