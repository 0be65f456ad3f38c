"""MovieLens, https://grouplens.org/datasets/movielens/ (Harper and Konstan 2015, doi:10.1145/2827872)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from workflows.config import MovieLens
from workflows.errors import DataError, DownloadError
from workflows.progress import Progress
from workflows.sources.download import download, is_cached, pip_wheel
from workflows.sources.movielens_formats import parse_1m, parse_100k, parse_csv, parse_mirror
from workflows.sources.parsing import Archive
from workflows.tables.store import Tables, merge_items


class Publication(NamedTuple):
    """An archive and the checksum that its publisher gives for it."""

    url: str
    checksum: str


PUBLISHED: Final[Mapping[str, Publication]] = {
    variant: Publication(f"https://files.grouplens.org/datasets/movielens/ml-{variant}.zip", f"md5:{md5}")
    for variant, md5 in {
        "100k": "0e33842e24a9c977be4e0107933c0723",
        "1m": "c4d9eecfca2ab87c1945afe126590906",
        "20m": "cd245b17a1ae2cc31bb14903e1204af3",
        "25m": "6b51fb2759a8657d3bfcbfc42b592ada",
        "32m": "d472be332d4daa821edc399621853b57",
    }.items()
}
"""The checksums are those of the `.zip.md5` files beside the archives."""

MIRROR: Final = "recbole==1.2.1"
"""A wheel of the Python package index that carries MovieLens-100K; its ratings are `u.data`, byte for byte."""
MIRROR_CHECKSUM: Final = "sha256:9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407"

Parser = Callable[[Archive, Progress], Tables]


def fetch(
    config: MovieLens, cache: Path, progress: Progress, published: Mapping[str, Publication] = PUBLISHED
) -> Tables:
    """Return the tables of one MovieLens data set, from the cache, else the publisher, else (100k) a mirror.

    interactions: user_id int64, item_id int64, rating float32, timestamp int64, in file order.
    users: user_id; in 100k and 1m also age int64 (in 1m the lower end of a range), gender, occupation, zip_code str.
    items: item_id int64, title str without its year, year float64 (NaN if none), genres list[str] (empty if unknown).
    Which source was used is told to `progress`. The two sources of 100k give equal tables.

    Raises
    ------
    DownloadError
        No source could be reached, or what came has not the published checksum.
    DataError
        The archive is not in the published format; names file, line, column and value.
    """
    archive, parse = _obtain(config.variant, cache, progress, published[config.variant])
    try:
        with Archive(archive) as opened:
            tables = parse(opened, progress)
    except DataError as error:
        raise DataError(f"MovieLens {config.variant}, {archive}: {error}") from None
    on = config.merge_items_on
    return merge_items(tables, *((on,) if isinstance(on, str) else on)) if on else tables


def _obtain(variant: str, cache: Path, progress: Progress, source: Publication) -> tuple[Path, Parser]:
    """Return a verified archive and what reads it."""
    parse = {"100k": parse_100k, "1m": parse_1m}.get(variant, parse_csv)
    archive, wheel = cache / f"ml-{variant}.zip", cache / f"{MIRROR.replace('==', '-')}.whl"
    if is_cached(archive, source.checksum):
        progress(f"MovieLens {variant}: from the cache, {archive}")
        return archive, parse
    if variant == "100k" and is_cached(wheel, MIRROR_CHECKSUM):
        progress(f"MovieLens {variant}: from the cache, {wheel}")
        return wheel, parse_mirror
    progress(f"MovieLens {variant}: downloading {source.url}")
    try:
        return download(source.url, source.checksum, archive, progress), parse
    except DownloadError as error:
        if variant != "100k":
            raise DownloadError(f"MovieLens {variant}: {error}. Or put the archive at {archive} yourself") from None
        progress(f"MovieLens 100k: {error}. Taking the same data from the package index instead")
        return _from_mirror(wheel, archive, progress, error), parse_mirror


def _from_mirror(wheel: Path, archive: Path, progress: Progress, first: DownloadError) -> Path:
    try:
        return pip_wheel(MIRROR, MIRROR_CHECKSUM, wheel, progress)
    except DownloadError as error:
        raise DownloadError(
            f"MovieLens 100k: neither source worked. {first}. {error}. Or put the archive at {archive} yourself"
        ) from None
