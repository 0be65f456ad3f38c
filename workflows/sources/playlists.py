"""Slices of the Million Playlist Dataset (Chen, Lamere, Schedl and Zamani 2018, doi:10.1145/3240323.3240342).

Read a slice at a time and twice: once for the playlists and tracks, once for the interactions, so that what is held is
one row per playlist and track. docs/playlists.md says what the columns mean.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import fsspec
import numpy as np
import pandas as pd
from msgspec.structs import astuple

from workflows.columns import Columns
from workflows.config import Playlists
from workflows.errors import DataError
from workflows.progress import Progress
from workflows.sources.playlists_format import PATTERN, Playlist, Slice, Track, read_slice, slice_number
from workflows.tables.store import write_tables

COUNTS: Final = ("num_tracks", "num_artists", "num_albums", "duration_ms")
"""What is known of a playlist's tracks: in `users` of all of them, in `interactions` of those before the row."""
ARTIST: Final = "artist_uri"
ALBUM: Final = "album_uri"
TRACK_DURATION: Final = "track_duration_ms"
TITLE: Final = "name"
"""A playlist's title, in `users`."""


@dataclass(frozen=True)
class Slices:
    """The slices of a directory, to be stored."""

    paths: list[str]
    filesystem: Any
    progress: Progress

    def save(self, directory: Path) -> None:
        """Write the tables: `directory` appears whole or not at all."""
        write_tables(directory, self.interactions(), *self.playlists_and_tracks())

    def playlists_and_tracks(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Read every slice once and return the users and the items."""
        playlists: list[pd.DataFrame] = []  # of columns, which take a tenth of what rows of objects do
        tracks: dict[str, tuple[Any, ...]] = {}
        seen: dict[int, str] = {}
        for path, content in self._contents("playlists and tracks"):
            for playlist in content.playlists:
                if playlist.pid in seen:
                    raise DataError(
                        f"{path}: playlist {playlist.pid}: is also in {seen[playlist.pid]}; "
                        "expected each pid once; remove one"
                    )
                seen[playlist.pid] = path
                for track in playlist.tracks:
                    tracks.setdefault(track.track_uri, astuple(track)[1:])
            playlists.append(pd.DataFrame(map(_row_of, content.playlists), columns=list(_USERS)))
        items = pd.DataFrame(list(tracks.values()), columns=list(_ITEMS)).astype({TRACK_DURATION: np.float64})
        return pd.concat(playlists, ignore_index=True), items

    def interactions(self) -> Iterator[pd.DataFrame]:
        """Read every slice once and yield its rows, playlist after playlist, tracks in their order."""
        for _, content in self._contents("interactions"):
            yield _interactions_of(content.playlists)

    def _contents(self, what: str) -> Iterator[tuple[str, Slice]]:
        for number, path in enumerate(self.paths, start=1):
            with self.filesystem.open(path, "rb") as file:
                yield path, read_slice(file.read(), path)
            if number % 50 == 0 or number == len(self.paths):
                self.progress(f"{what}: {number:,} of {len(self.paths):,} slices")


def fetch(config: Playlists, cache: Path, progress: Progress) -> Slices:
    """Return the slices of a directory, read when they are stored.

    users: `user_id` (the pid) int64, `name` str, `description` str or null, `collaborative` bool, `modified_at` int64,
    `num_followers`, `num_edits` int64, and COUNTS of all its tracks, float64.
    items: `item_id` (the track's uri), `title`, `artist_uri`, `artist_name`, `album_uri`, `album_name` str,
    `track_duration_ms` float64; of a track that slices describe differently, the first description.
    interactions: in playlist order; `rating` is 1, `timestamp` is `modified_at` plus the position, so that a track is
    later than those before it by a second each; COUNTS of the tracks before it, null for the first.

    Raises
    ------
    DataError
        There is no slice; or, when they are stored, one is not of the format: names file, playlist, position, value.
    """
    filesystem, root = fsspec.core.url_to_fs(config.path)
    paths = sorted(filesystem.glob(f"{root.rstrip('/')}/{PATTERN}"), key=slice_number)
    if not paths:
        raise DataError(
            f"{config.path}: no {PATTERN} there; expected the slices of the Million Playlist Dataset: set data.path to "
            "their directory, or make some with `python -m workflows.sources.playlists_generator --out DIR`"
        )
    return Slices([str(path) for path in paths], filesystem, progress)


def state(config: Playlists) -> dict[str, Any]:
    """Return what changes when the slices do: names and sizes, and times where the file system has them."""
    filesystem, root = fsspec.core.url_to_fs(config.path)
    infos = sorted(filesystem.glob(f"{root.rstrip('/')}/{PATTERN}", detail=True).items())
    return {str(path): [info.get("size"), str(info.get("mtime", info.get("LastModified")))] for path, info in infos}


def counts(artists: pd.Series, albums: pd.Series, durations: pd.Series) -> dict[str, float]:
    """Return COUNTS of some tracks; null (NaN) of none, for nothing is known of such a playlist."""
    if not len(artists):
        return dict.fromkeys(COUNTS, np.nan)
    figures = len(artists), artists.nunique(), albums.nunique(), durations.sum()
    return {name: float(figure) for name, figure in zip(COUNTS, figures, strict=True)}


_OWN: Final = ("description", "collaborative", "modified_at", "num_followers", "num_edits")
_USERS: Final = (Columns.User, TITLE, *_OWN, *COUNTS)
_ITEMS: Final = (Columns.Item, Columns.Title, ARTIST, "artist_name", ALBUM, "album_name", TRACK_DURATION)
"""The fields of `Track` after its position, in their order."""


def _row_of(playlist: Playlist) -> tuple[Any, ...]:
    own = playlist.pid, playlist.name, playlist.description, playlist.collaborative == "true", playlist.modified_at
    totals = (float(figure) for figure in _running(playlist.tracks)[-1])
    return *own, playlist.num_followers, playlist.num_edits, *totals


def _interactions_of(playlists: list[Playlist]) -> pd.DataFrame:
    lengths = np.array([len(playlist.tracks) for playlist in playlists])
    position = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    # Of the tracks before each: those up to each, one row later.
    before = [
        figures for playlist in playlists for figures in [(np.nan,) * len(COUNTS), *_running(playlist.tracks)[:-1]]
    ]
    return pd.DataFrame(
        {
            Columns.User: np.repeat(np.array([playlist.pid for playlist in playlists], dtype=np.int64), lengths),
            Columns.Item: [track.track_uri for playlist in playlists for track in playlist.tracks],
            Columns.Rating: np.ones(len(position), dtype=np.float32),
            Columns.Timestamp: np.repeat([playlist.modified_at for playlist in playlists], lengths).astype(np.int64)
            + position,
            **dict(zip(COUNTS, np.array(before, dtype=np.float64).T, strict=True)),
        }
    )


def _running(tracks: list[Track]) -> list[tuple[int, int, int, int]]:
    """Return COUNTS of the first track, of the first two, and so on."""
    artists: set[str] = set()
    albums: set[str] = set()
    duration, rows = 0, []
    for number, track in enumerate(tracks, start=1):
        artists.add(track.artist_uri)
        albums.add(track.album_uri)
        duration += track.duration_ms
        rows.append((number, len(artists), len(albums), duration))
    return rows
