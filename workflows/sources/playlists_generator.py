"""Made-up slices of the Million Playlist Dataset: its format, every field of it, and structure that can be learned.

Tracks belong to genres, and within a genre to artists and albums; how often a track, an artist or a genre is chosen
falls by Zipf's law. A playlist is mostly of one genre, often of another besides, and of some artists more than others;
its title has words of its genre, or says nothing.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from workflows.files import atomic_write

Int64Array = npt.NDArray[np.int64]

PER_SLICE: Final = 1000
"""Playlists in a file, as in the data set."""
LONGEST, SHORTEST = 250, 5
"""Tracks of a playlist, as in the data set."""
_GENRES: Final = (
    ("rock", "guitar", "garage"),
    ("rap", "hip hop", "trap"),
    ("country", "southern", "nashville"),
    ("chill", "acoustic", "coffee"),
    ("workout", "gym", "running"),
    ("party", "dance", "club"),
    ("christmas", "holiday", "winter"),
    ("jazz", "swing", "blue note"),
    ("classical", "piano", "study"),
    ("latin", "salsa", "reggaeton"),
    ("worship", "gospel", "church"),
    ("disney", "musicals", "broadway"),
)
_VAGUE: Final = ("my playlist", "good stuff", "summer 2016", "car", "mix", "favorites", "new", "songs")
_DECORATION: Final = ("", "", "", " mix", " 2017", " vibes", "!", " ♥")
_NOUNS: Final = ("Night", "River", "Heart", "Fire", "Road", "Light", "Dream", "City", "Rain", "Gold", "Home", "Moon")
_WORDS: Final = ("of", "without", "under", "after", "in the", "for", "and the", "against")
_STARTED: Final = 1_262_304_000
"""2010-01-01, when the data set's playlists begin."""
_DAYS, _DAY = 2860, 86_400
_VAGUE_SHARE, _GUEST_SHARE, _FAVOURITES, _TWICE = 0.25, 0.15, 3, 0.02


class Catalogue:
    """Tracks, whose numbers are their rank in popularity, in genres, of artists and albums."""

    def __init__(self, tracks: int, random: np.random.Generator) -> None:
        self.genres = min(len(_GENRES), tracks)
        self.popularity = _zipf(self.genres, 0.5)
        self.genre = random.choice(self.genres, size=tracks, p=self.popularity)
        self.genre[: self.genres] = np.arange(self.genres)  # none is without a track
        artists_per_genre = max(3, tracks // (20 * self.genres))
        within = random.choice(artists_per_genre, size=tracks, p=_zipf(artists_per_genre, 0.7))
        self.artist: Int64Array = self.genre * artists_per_genre + within
        self.album: Int64Array = self.artist * 4 + random.integers(0, 4, tracks)
        self.duration = random.normal(230_000, 45_000, tracks).clip(60_000, 900_000).astype(int)
        self.weight = _zipf(tracks, 0.8)
        self.by_genre = [np.flatnonzero(self.genre == genre) for genre in range(self.genres)]

    def described(self, track: int, position: int) -> dict[str, Any]:
        """Return a track at its place in a playlist, with the format's fields."""
        artist, album = int(self.artist[track]), int(self.album[track])
        return {
            "pos": position,
            "artist_name": f"The {_NOUNS[artist % len(_NOUNS)]} {artist}",
            "track_uri": f"spotify:track:{track:022d}",
            "artist_uri": f"spotify:artist:{artist:022d}",
            "track_name": _named(track),
            "album_uri": f"spotify:album:{album:022d}",
            "duration_ms": int(self.duration[track]),
            "album_name": _named(album),
        }

    def chosen(self, genre: int, length: int, random: np.random.Generator) -> Int64Array:
        """Return different tracks for a playlist of a genre, its favourite artists more often than others."""
        weight = np.zeros(len(self.weight))
        own = self.by_genre[genre]
        favourites = random.choice(self.artist[own], size=_FAVOURITES)
        weight[own] = self.weight[own] * np.where(np.isin(self.artist[own], favourites), 12.0, 1.0)
        guests = self.by_genre[int(random.integers(self.genres))]
        share = _GUEST_SHARE * weight.sum() / self.weight[guests].sum()
        weight[guests] = np.maximum(weight[guests], share * self.weight[guests])
        able = min(length, int(np.count_nonzero(weight)))
        return random.choice(len(weight), size=able, replace=False, p=weight / weight.sum())


def slices(playlists: int, tracks: int, seed: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield name and content of each slice; the same for the same arguments."""
    random = np.random.default_rng(seed)
    catalogue = Catalogue(tracks, random)
    for first in range(0, playlists, PER_SLICE):
        last = min(first + PER_SLICE, playlists) - 1
        content = [_playlist(pid, catalogue, random) for pid in range(first, last + 1)]
        info = {"generated_on": "2017-12-03 08:41:42.057563", "slice": f"{first}-{last}", "version": "v1"}
        yield f"mpd.slice.{first}-{last}.json", {"info": info, "playlists": content}


def generate(out: Path, playlists: int, tracks: int, seed: int) -> list[Path]:
    """Write slices to a directory, each whole or not at all, and return their paths."""
    paths = []
    for name, content in slices(playlists, tracks, seed):
        atomic_write(out / name, msgspec.json.format(msgspec.json.encode(content), indent=4))
        paths.append(out / name)
    return paths


def main(arguments: list[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="python -m workflows.sources.playlists_generator",
        description="Write made-up slices in the format of the Million Playlist Dataset.",
        epilog="example: python -m workflows.sources.playlists_generator --out data/playlists --playlists 2000",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="directory of the slices")
    parser.add_argument("--playlists", type=_positive, default=2000, metavar="N", help="how many (2000)")
    parser.add_argument("--tracks", type=_positive, default=3000, metavar="N", help="different ones (3000)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="the same seed gives the same slices (1)")
    options = parser.parse_args(arguments)
    for path in generate(options.out, options.playlists, options.tracks, options.seed):
        sys.stdout.write(f"{path}\n")
    return 0


def _playlist(pid: int, catalogue: Catalogue, random: np.random.Generator) -> dict[str, Any]:
    genre = int(random.choice(catalogue.genres, p=catalogue.popularity))
    length = int(np.clip(random.lognormal(3.6, 0.8), SHORTEST, LONGEST))
    chosen = catalogue.chosen(genre, length, random)
    if random.random() < _TWICE:  # people do
        chosen = np.append(chosen[:-1], chosen[0])
    tracks = [catalogue.described(int(track), position) for position, track in enumerate(chosen)]
    playlist: dict[str, Any] = {
        "name": _title(genre, random),
        "collaborative": "true" if random.random() < 0.02 else "false",
        "pid": pid,
        "modified_at": _STARTED + int(random.integers(_DAYS)) * _DAY,
        "num_tracks": len(tracks),
        "num_albums": len({track["album_uri"] for track in tracks}),
        "num_followers": int(random.zipf(2.5)),
        "tracks": tracks,
        "num_edits": int(random.integers(1, 60)),
        "duration_ms": sum(track["duration_ms"] for track in tracks),
        "num_artists": len({track["artist_uri"] for track in tracks}),
    }
    if random.random() < 0.02:
        playlist["description"] = f"{_GENRES[genre][0]} that I like"
    return playlist


def _title(genre: int, random: np.random.Generator) -> str:
    if random.random() < _VAGUE_SHARE:
        return str(random.choice(_VAGUE))
    words = random.choice(_GENRES[genre], size=int(random.integers(1, 3)), replace=False)
    title = " ".join(words) + str(random.choice(_DECORATION))
    return title.title() if random.random() < 0.5 else title


def _named(number: int) -> str:
    first, second = divmod(number, len(_NOUNS))
    return f"{_NOUNS[second]} {_WORDS[first % len(_WORDS)]} {_NOUNS[first // len(_WORDS) % len(_NOUNS)]} {number}"


def _zipf(values: int, exponent: float) -> npt.NDArray[np.float64]:
    """Return probabilities that fall by rank."""
    weights = np.arange(1, values + 1) ** -exponent
    return weights / weights.sum()


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more, got {text}")
    return value


if __name__ == "__main__":
    raise SystemExit(main())
