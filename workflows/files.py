"""Files that are either whole or absent, and what to say when the disk is full."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from workflows.errors import DiskError, RetrievalError

_OTHERS = stat.S_IWGRP | stat.S_IWOTH
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_SAYS_FULL = re.compile("|".join([*map(os.strerror, _FULL), r"\d+ requested and \d+ written"]))
"""TensorFlow has no error number for it, and NumPy its own words."""


@contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """Yield a temporary sibling that replaces `path` if the block succeeds and vanishes if it does not.

    Every file is fsynced before the rename, so that `path` is never seen half-written, a crash included.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
        temporary.chmod(0o755)
        try:
            yield temporary
            own_alone(temporary)
            for file in sorted(temporary.rglob("*")):
                if file.is_file():
                    _fsync(file)
            if path.exists():
                shutil.rmtree(path)
            temporary.rename(path)
            _fsync(path.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary sibling, to be written, that replaces `path` if the block succeeds and vanishes if not."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        os.close(descriptor)
        temporary = Path(name)
        try:
            yield temporary
            temporary.chmod(0o644)
            _fsync(temporary)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def locked(path: Path, refusal: RetrievalError) -> Iterator[None]:
    """Hold a lock file while the block runs; raise `refusal` if another process holds it."""
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise refusal from None
        yield


def atomic_write(path: Path, content: bytes) -> None:
    """Write `content` to `path` through a temporary sibling and a rename."""
    with atomic_file(path) as temporary:
        temporary.write_bytes(content)


def json_bytes(value: object, indent: int = 1) -> bytes:
    """Return `value` as lines of JSON that every parser reads: NaN and infinity, which JSON does not have, are null."""
    return msgspec.json.format(msgspec.json.encode(value, enc_hook=_plain), indent=indent) + b"\n"


def _plain(value: Any) -> Any:
    """Return what JSON can hold of a NumPy scalar."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} has no form in JSON")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Raise DiskError, which says where and what to do, for whatever a full disk makes the block raise."""
    try:
        yield
    except Exception as error:
        full = disk_error(error, path)
        if full is None or isinstance(error, DiskError):
            raise
        raise full from error


def disk_error(error: Exception, path: Path) -> DiskError | None:
    """Return what to tell if the error, met in writing to `path`, comes of a full disk; else None."""
    says_full = _SAYS_FULL.search(str(error))
    if says_full is None and getattr(error, "errno", None) not in _FULL:
        return None
    reason = os.strerror(getattr(error, "errno", None) or errno.ENOSPC)
    existing = next(place for place in (path, *path.absolute().parents) if place.exists())
    free = shutil.disk_usage(existing).free / 1e6
    return DiskError(
        f"{path}: not written: {reason}, {free:,.1f} MB are free there; make room (or raise the quota, or `ulimit -f`) "
        "or choose another place, and run the same command again"
    )


def allocate(path: Path) -> None:
    """Give a file that is to be mapped all its room: where the disk is full a mapped page ends the process (SIGBUS)."""
    with path.open("r+b") as file:
        os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def own_alone(directory: Path) -> None:
    """Take from all but the owner the right to write to what lies in a directory, which the umask may have given."""
    for place in (directory, *directory.rglob("*")):
        mode = place.lstat().st_mode
        if mode & _OTHERS and not stat.S_ISLNK(mode):
            place.chmod(stat.S_IMODE(mode) & ~_OTHERS)


def write_for_oneself() -> None:
    """Let nothing that this process and its children create be writable for others, whatever the umask was."""
    os.umask(os.umask(_OTHERS) | _OTHERS)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file as lower-case hexadecimal."""
    return digest_of(path, "sha256")


def digest_of(path: Path, algorithm: str) -> str:
    """Return a digest of a file as lower-case hexadecimal."""
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
