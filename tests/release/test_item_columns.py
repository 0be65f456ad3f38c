"""The items' raw columns, which `retrieval items` and `retrieval diff` read: as they went in, and no others."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ensemble.release.columns import save_values
from ensemble.release.item_columns import kinds_in, read_items, write_columns
from ensemble.serving.errors import InvalidRelease
from ensemble.serving.files.item_columns import FILE
from ensemble.serving.files.release import Sealed

TABLE = pd.DataFrame(
    {
        "item_id": ["a", "b", "c", "ü"],
        "title": ["A", None, "", "naïve\nline"],
        "year": [1999, -(2**62), 0, 2**62],
        "price": [1.5, np.nan, -0.0, 1e300],
        "weight": np.array([0.1, 0.2, np.nan, 0.4], dtype=np.float32),
        "is_new": [True, False, True, False],
        "on_sale": pd.Series([True, None, False, None], dtype=object),
        "genres/all kinds": [["x", "y"], [], ["z"], None],
        "codes": [[1], [2, 3], [], []],
        "vector": [[0.5, 1.0], [0.25], [], [2.0]],
        "seen": pd.Series([None] * 4, dtype=object),
        "when": pd.to_datetime(["2024-01-01"] * 4),
    }
)


def written(out: Path) -> Sealed:
    """Write the table as a release has it."""
    out.mkdir()
    (out / "items").mkdir()
    save_values(TABLE["item_id"], out / "items/ids", "string")
    write_columns(TABLE, kinds_in(TABLE), out)
    return sealed(out)


def sealed(out: Path) -> Sealed:
    return Sealed(out, {"files": {path.relative_to(out).as_posix(): "" for path in out.rglob("*") if path.is_file()}})


def test_columns_of_every_kind_come_back_as_they_went_in(tmp_path: Path) -> None:
    items = read_items(written(tmp_path / "release"), 4, "string")
    expected = TABLE.drop(columns="when").astype({"weight": np.float64})  # dates are no values of a release
    expected["genres/all kinds"] = [["x", "y"], [], ["z"], []]
    pd.testing.assert_frame_equal(items, expected)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda stated: stated.update(rows=5), r"items/columns\.json: rows is 5, there are 4 items"),
        (lambda stated: stated["columns"].append(stated["columns"][0]), "have a name twice"),
        (lambda stated: stated["columns"][1].update(name="item_id"), "or call one item_id"),
        (lambda stated: stated["columns"][1].update(dtype="object"), "dtype must be one of int64, float64"),
        (lambda stated: stated["columns"][0].update(dtype="int64"), r"columns/00\.npy: missing from the release"),
        (lambda stated: stated["columns"][1].update(dtype="float64"), "expected float64"),
        (lambda stated: stated["columns"][1].update(list=True), r"columns/01\.rows\.npy: missing"),
        (lambda stated: stated.update(extra=1), "unknown field 'extra'"),
    ],
)
def test_columns_that_are_not_as_they_were_written_are_refused(
    tmp_path: Path, change: Callable[[Any], None], reason: str
) -> None:
    release = written(tmp_path / "release")
    stated = json.loads((release.path / FILE).read_text())
    change(stated)
    (release.path / FILE).write_text(json.dumps(stated))
    with pytest.raises(InvalidRelease, match=reason):
        read_items(release, 4, "string")


@pytest.mark.parametrize("place", ["flat"], indirect=True)
def test_a_release_holds_no_parquet_and_nothing_else_that_a_library_unfolds(place: Path) -> None:
    kinds = {path.suffix for path in place.rglob("*") if path.is_file()}
    assert kinds == {".npy", ".json", ".onnx"}
