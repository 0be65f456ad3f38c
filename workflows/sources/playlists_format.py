"""The format of a slice of the Million Playlist Dataset, and what is told of one that is not of it."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Struct

from workflows.errors import DataError
from workflows.operators.times import MILLISECONDS

PATTERN: Final = "mpd.slice.*.json"
Count = Annotated[int, Meta(ge=0)]
Uri = Annotated[str, Meta(min_length=1)]
Seconds = Annotated[int, Meta(ge=0, lt=MILLISECONDS)]


class Track(Struct, frozen=True, kw_only=True):
    """A track at its place in a playlist."""

    pos: Count
    """0-based."""
    track_uri: Uri
    track_name: str
    artist_uri: Uri
    artist_name: str
    album_uri: Uri
    album_name: str
    duration_ms: Count


class Playlist(Struct, frozen=True, kw_only=True):
    """A playlist; `description` is in some."""

    pid: int
    name: str
    description: str | None = None
    collaborative: Literal["true", "false"]
    modified_at: Seconds
    """Seconds since 1970, of whole days."""
    num_tracks: Count
    num_albums: Count
    num_artists: Count
    num_followers: Count
    num_edits: Count
    duration_ms: Count
    tracks: Annotated[list[Track], Meta(min_length=1)]


class Slice(Struct, frozen=True, kw_only=True):
    """A file: a thousand playlists, in the data set as it was published."""

    info: dict[str, Any] = {}
    """`generated_on`, `slice`, `version`."""
    playlists: Annotated[list[Playlist], Meta(min_length=1)]


def slice_number(path: str) -> tuple[int, str]:
    """Return what sorts slices by their first playlist: `mpd.slice.0-999.json`, `mpd.slice.1000-1999.json`."""
    number = re.search(r"mpd\.slice\.(\d+)", path)
    return int(number[1]) if number else 0, path


def read_slice(content: bytes, path: str) -> Slice:
    """Read a slice and check it.

    Raises
    ------
    DataError
        It is not of the format; names file, playlist, position, field, value, expectation and remedy.
    """
    try:
        content_ = _DECODER.decode(content)
    except msgspec.ValidationError as error:
        raise DataError(f"{path}: {_place(content, str(error))}; {_REMEDY}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not readable JSON ({error}); {_REMEDY}") from None
    for playlist in content_.playlists:
        _check(playlist, path)
    return content_


_DECODER = msgspec.json.Decoder(Slice)
_REMEDY = "take the file again from the data set, or correct it"
_INDEX = re.compile(r"\.(\w+)|\[(\d+)\]")


def _check(playlist: Playlist, path: str) -> None:
    if playlist.num_tracks != len(playlist.tracks):
        raise DataError(
            f"{path}: playlist {playlist.pid}: num_tracks is {playlist.num_tracks}, but there are "
            f"{len(playlist.tracks)} tracks; expected them equal; {_REMEDY}"
        )
    for place, track in enumerate(playlist.tracks):
        if track.pos != place:
            raise DataError(
                f"{path}: playlist {playlist.pid}, position {place}: pos is {track.pos}; expected {place}, for tracks "
                f"are listed in their order; {_REMEDY}"
            )


def _place(content: bytes, message: str) -> str:
    """Say where a decoder's error is: playlist, position and value in place of `$.playlists[3].tracks[1]`."""
    expected, _, where = message.partition(" - at `$")
    steps = [name or int(index) for name, index in _INDEX.findall(where.rstrip("`"))]
    value, names = json.loads(content), []
    for depth, step in enumerate(steps):
        if steps[depth - 1 : depth] == ["playlists"]:
            names.append(f"playlist {_pid(value[step], step)}")
        elif steps[depth - 1 : depth] == ["tracks"]:
            names.append(f"position {step}")
        elif step not in ("playlists", "tracks") or depth + 1 == len(steps):
            names.append(str(step))
        value = value[step]
    shown = json.dumps(value, ensure_ascii=False)
    where = ", ".join(names) or "the file"
    return f"{where}: {expected[:1].lower()}{expected[1:]}, got {shown if len(shown) < 80 else shown[:77] + '...'}"


def _pid(playlist: Any, index: int) -> str:
    pid = playlist.get("pid") if isinstance(playlist, dict) else None
    return str(pid) if pid is not None else f"number {index} of the file, which has no pid"
