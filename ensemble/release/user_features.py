"""Precomputed features of known users, which requests that name a user and no column are answered from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ensemble.serving.files.arrays import read_values
from ensemble.serving.files.release import Sealed
from ensemble.serving.query.transform import Column, QueryTransform
from ensemble.serving.query.users import READY, USER, Users
from workflows.files import allocate, json_bytes

_ROWS = 1 << 16


def write_ready(out: Path, id_dtype: Mapping[str, str]) -> None:
    """Precompute the time-independent features of known users, with the transform that serves the others.

    `out` is an unfinished release that has its `query/` and `users/`.
    """
    place = out / "users/users.json"
    stated = {**json.loads(place.read_text(encoding="utf-8")), "features": []}
    place.write_bytes(json_bytes(stated))
    present = {path.relative_to(out).as_posix(): "" for path in (out / "users").iterdir()}
    draft = Sealed(out, {"files": present, "id_dtype": id_dtype})
    transform = QueryTransform.load(out / "query")
    users, ids = Users(draft, transform.inputs), read_values(draft, f"users/{USER}", id_dtype[USER])
    (out / "users/features").mkdir()
    written: dict[str, np.ndarray] = {}
    for start in range(0, len(ids), _ROWS):
        rows = np.arange(start, min(start + _ROWS, len(ids)))
        features = transform.compute(users.complete({USER: Column(ids[rows])}, rows))
        for number, name in enumerate(transform.lasting):
            if name not in written:
                shape = (len(ids), *features[name].shape[1:])
                written[name] = _mapped(out / READY.format(number), features[name].dtype, shape)
            written[name][rows] = features[name]
    place.write_bytes(json_bytes({**stated, "features": list(written)}))


def _mapped(place: Path, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    array: np.ndarray = np.lib.format.open_memmap(place, mode="w+", dtype=dtype, shape=shape)  # type: ignore[no-untyped-call]
    allocate(place)
    return array
