"""Finds out whether other users may write to what is served: modes, owners, and the directories above."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def writable_by_others(place: Path) -> Iterator[str]:
    """Yield the reasons why others may change a file, or a directory and its content; none if only root and this user
    may.

    Links within it are not followed.
    """
    yield from replaceable_by_others(place)
    yield from _why(place.resolve())
    for directory, folders, files in os.walk(place):
        for name in sorted([*folders, *files]):
            yield from _why(Path(directory) / name)


def replaceable_by_others(place: Path) -> Iterator[str]:
    """Yield the reasons why others may replace a path, which need not exist yet."""
    for directory in dict.fromkeys([*place.absolute().parents, *place.resolve().parents]):
        yield from _why(directory, sticky=True)


def _why(path: Path, sticky: bool = False) -> Iterator[str]:
    """Yield the reasons why others may write to a path; none for a link or a path that does not exist."""
    try:
        state = path.lstat()
    except FileNotFoundError:  # a temporary file of another process, say
        return
    if stat.S_ISLNK(state.st_mode):
        return
    if state.st_uid not in (0, os.geteuid()):
        yield f"{path} belongs to user {state.st_uid}"
    if state.st_mode & _OTHERS and not (sticky and state.st_mode & stat.S_ISVTX):
        yield f"{path} has mode {stat.S_IMODE(state.st_mode):o}"
