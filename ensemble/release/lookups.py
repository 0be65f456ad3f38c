"""Writes the lookups of a release (id to row, value to code) that `ensemble.serving.files.lookup` reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ensemble.release.columns import save
from ensemble.serving.files.arrays import narrowed
from ensemble.serving.files.lookup import DICTIONARY, Strings, build_lookup


def write_lookup(stem: Path, least: int = DICTIONARY) -> None:
    """Write `<stem>.order.npy` and `<stem>.starts.npy` for distinct ids, if there are more than `least` of them."""
    offsets_at = stem.with_name(f"{stem.name}.offsets.npy")
    if offsets_at.exists():
        offsets = narrowed(np.load(offsets_at))
        np.save(offsets_at, offsets)
        ids: Strings | np.ndarray = Strings(np.load(stem.with_name(f"{stem.name}.utf8.npy"), mmap_mode="r"), offsets)
    else:
        ids = np.load(stem.with_name(f"{stem.name}.npy"), mmap_mode="r").view(np.ndarray)
    if len(ids) > least:
        lookup = build_lookup(ids)
        save(stem.with_name(f"{stem.name}.order"), lookup.order)
        save(stem.with_name(f"{stem.name}.starts"), lookup.starts)


def write_vocabulary_lookups(directory: Path) -> None:
    """Write a lookup beside every large vocabulary of a transform."""
    for place in sorted(directory.glob("*.npy")):
        stem, suffix = place.name.split(".", 1)
        if suffix == "offsets.npy" or (suffix == "npy" and np.load(place, mmap_mode="r").dtype == np.int64):
            write_lookup(directory / stem)
