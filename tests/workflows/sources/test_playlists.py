"""Slices of the Million Playlist Dataset: read as they are, refused where they are not of the format."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pandas as pd
import pytest

from workflows.config import Playlists, PlaylistsSplit
from workflows.errors import DataError
from workflows.sources.playlists import COUNTS, fetch, state
from workflows.sources.playlists_generator import slices
from workflows.tables.splits import split
from workflows.tables.store import Tables

Slice = dict[str, Any]


@pytest.fixture(scope="module")
def dataset() -> dict[str, Slice]:
    """Three slices, of 25 playlists each."""
    _, content = next(slices(75, 300, seed=2))
    parts = [content["playlists"][first : first + 25] for first in (0, 25, 50)]
    # The first starts with a higher digit than the second: the order is that of the numbers.
    return {f"mpd.slice.{975 + 25 * n}-{999 + 25 * n}.json": {**content, "playlists": p} for n, p in enumerate(parts)}


def written(dataset: dict[str, Slice], directory: Path) -> Path:
    for name, content in dataset.items():
        (directory / name).write_text(json.dumps(content, indent=1), encoding="utf-8")
    return directory


def tables_of(path: str | Path, out: Path) -> Tables:
    fetch(Playlists(path=str(path)), out, str).save(out / "tables")
    return Tables.load(out / "tables")


def test_the_tables_are_what_the_slices_say(dataset: dict[str, Slice], tmp_path: Path) -> None:
    tables = tables_of(written(dataset, tmp_path), tmp_path)
    playlists = [playlist for content in dataset.values() for playlist in content["playlists"]]
    rows = [(playlist, track) for playlist in playlists for track in playlist["tracks"]]
    assert tables.users["user_id"].tolist() == [playlist["pid"] for playlist in playlists]
    for column in ("name", "modified_at", "num_followers", "num_edits", *COUNTS):
        assert tables.users[column].tolist() == [playlist[column] for playlist in playlists], column
    assert tables.users["collaborative"].tolist() == [playlist["collaborative"] == "true" for playlist in playlists]
    assert tables.interactions["user_id"].tolist() == [playlist["pid"] for playlist, _ in rows]
    assert tables.interactions["item_id"].tolist() == [track["track_uri"] for _, track in rows]
    assert tables.interactions["timestamp"].tolist() == [
        playlist["modified_at"] + track["pos"] for playlist, track in rows
    ]
    known = tables.items.set_index("item_id")
    assert set(known.index) == {track["track_uri"] for _, track in rows}
    for _, track in rows:
        item = known.loc[track["track_uri"]]
        assert (item["title"], item["track_duration_ms"]) == (track["track_name"], track["duration_ms"])
        for column in ("artist_uri", "artist_name", "album_uri", "album_name"):
            assert item[column] == track[column]


def test_counts_of_a_row_are_of_the_tracks_before_it(dataset: dict[str, Slice], tmp_path: Path) -> None:
    interactions = tables_of(written(dataset, tmp_path), tmp_path).interactions
    expected = []
    for playlist in (playlist for content in dataset.values() for playlist in content["playlists"]):
        for place in range(len(playlist["tracks"])):
            before = playlist["tracks"][:place]
            distinct = (len({track[key] for track in before}) for key in ("artist_uri", "album_uri"))
            duration = sum(track["duration_ms"] for track in before)
            expected.append((place, *distinct, duration) if place else (None,) * 4)
    columns = ["num_tracks", "num_artists", "num_albums", "duration_ms"]
    pd.testing.assert_frame_equal(interactions[columns], pd.DataFrame(expected, columns=columns).astype(float))


def test_slices_of_another_file_system_are_the_same(dataset: dict[str, Slice], tmp_path: Path) -> None:
    local, memory = tables_of(written(dataset, tmp_path), tmp_path), fsspec.filesystem("memory")
    for name, content in dataset.items():
        memory.pipe(f"/bucket/mpd/{name}", json.dumps(content).encode())
    (tmp_path / "other").mkdir()
    remote = tables_of("memory://bucket/mpd", tmp_path / "other")
    for name in ("interactions", "users", "items"):
        pd.testing.assert_frame_equal(getattr(remote, name), getattr(local, name))


def test_a_changed_slice_is_noticed(dataset: dict[str, Slice], tmp_path: Path) -> None:
    config = Playlists(path=str(written(dataset, tmp_path)))
    before = state(config)
    assert state(config) == before
    (tmp_path / "mpd.slice.1050-1051.json").write_text("{}")
    assert state(config) != before


def _set(key: str, value: Any) -> Callable[[Slice], None]:
    return lambda playlist: playlist.update({key: value})


def _track(place: int, key: str, value: Any) -> Callable[[Slice], None]:
    return lambda playlist: playlist["tracks"][place].update({key: value})


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_track(2, "duration_ms", "long"), "playlist 28, position 2, duration_ms: .*, got \"long\""),
        (_track(2, "duration_ms", -5), "playlist 28, position 2, duration_ms: expected `int` >= 0, got -5"),
        (_track(1, "track_uri", ""), "playlist 28, position 1, track_uri: expected `str` of length >= 1, got \"\""),
        (lambda broken: broken["tracks"][4].pop("album_uri"), "playlist 28, position 4: object missing .* `album_uri`"),
        (_track(3, "pos", 7), "playlist 28, position 3: pos is 7; expected 3"),
        (_set("num_tracks", 2), "playlist 28: num_tracks is 2, but there are"),
        (_set("tracks", []), r"playlist 28, tracks: expected `array` of length >= 1, got \[\]"),
        (_set("collaborative", True), "playlist 28, collaborative: expected `str`, got `bool`, got true"),
        (_set("modified_at", 1_500_000_000_000), "playlist 28, modified_at: expected `int` <= .*, got 1500000000000"),
        (lambda broken: broken.pop("pid"), "playlist number 3 of the file, which has no pid: object missing .* `pid`"),
        (_set("pid", 2), "playlist 2: is also in .*975-999.json; expected each pid once"),
    ],
)  # fmt: skip
def test_a_wrong_slice_is_told_by_file_playlist_position_and_value(
    dataset: dict[str, Slice], tmp_path: Path, spoil: Callable[[Slice], None], message: str
) -> None:
    copied = json.loads(json.dumps(dataset))
    spoil(copied["mpd.slice.1000-1024.json"]["playlists"][3])
    with pytest.raises(DataError, match=rf"mpd\.slice\.1000-1024\.json: {message}"):
        fetch(Playlists(path=str(written(copied, tmp_path))), tmp_path, str).save(tmp_path / "tables")
    assert not (tmp_path / "tables").exists()


def test_what_is_no_slice_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no mpd\.slice\.\*\.json there; .*playlists_generator"):
        fetch(Playlists(path=str(tmp_path)), tmp_path, str)
    (tmp_path / "mpd.slice.0-999.json").write_text('{"playlists": [')
    with pytest.raises(DataError, match=r"mpd\.slice\.0-999\.json: not readable JSON"):
        fetch(Playlists(path=str(tmp_path)), tmp_path, str).save(tmp_path / "tables")


def test_whole_playlists_are_held_out(dataset: dict[str, Slice], tmp_path: Path) -> None:
    interactions = tables_of(written(dataset, tmp_path), tmp_path).interactions
    parts = split(interactions, PlaylistsSplit(test=0.2, validation=0.25, seed=1))
    users = [set(interactions["user_id"].iloc[rows]) for rows in parts]
    assert [len(part) for part in users] == [45, 15, 15]
    assert len(set().union(*users)) == 75
    assert sorted(row for rows in parts for row in rows) == list(range(len(interactions)))
