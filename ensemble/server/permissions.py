"""Who but us may write to what is served: by its modes, its owners, or the directories above it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def writable_by_others(place: Path) -> Iterator[str]:
    """Yield why others may change a file, or a directory and what lies in it; nothing where only root and we may.

    Links within it are not followed.
    """
    yield from replaceable_by_others(place)
    yield from _why(place.resolve())
    for directory, folders, files in os.walk(place):
        for name in sorted([*folders, *files]):
            yield from _why(Path(directory) / name)


def replaceable_by_others(place: Path) -> Iterator[str]:
    """Yield why others may put something else in the place of a path, which need not be there yet."""
    for directory in dict.fromkeys([*place.absolute().parents, *place.resolve().parents]):
        yield from _why(directory, sticky=True)


def _why(path: Path, sticky: bool = False) -> Iterator[str]:
    """Yield why others may write to a path; nothing for a link, or where nothing is."""
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
