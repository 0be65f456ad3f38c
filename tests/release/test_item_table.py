"""The items' raw columns, which `retrieval items` reads: as pandas does, and no more than items have to say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hostile import CHANGES
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble.release.item_table import check_table, read_items
from ensemble.serving.errors import InvalidRelease


def table_of(path: Path, table: Any, **options: Any) -> Path:
    """Write a Parquet file."""
    pq.write_table(table, path, **options)
    return path


@pytest.mark.parametrize("place", ["flat"], indirect=True)
def test_a_table_is_read_as_pandas_reads_it(place: Path) -> None:
    path = place / "items/attributes.parquet"
    pd.testing.assert_frame_equal(read_items(path, 300), pd.read_parquet(path))


def test_tables_that_unfold_to_gigabytes_are_refused(tmp_path: Path) -> None:
    # A gigabyte, were they not one value.
    values = pa.DictionaryArray.from_arrays(pa.array(np.zeros(1000, dtype=np.int32)), pa.array(["x" * 1_000_000]))
    path = table_of(tmp_path / "long.parquet", pa.table({"item_id": range(1000), "title": values}), store_schema=False)
    assert path.stat().st_size < 300_000
    with pytest.raises(InvalidRelease, match=r"long\.parquet: unfolds"):
        read_items(path, 1000)
    lists = pa.ListArray.from_arrays(pa.array([0, 3_000_000], type=pa.int32()), pa.array(np.zeros(3_000_000)))
    path = table_of(tmp_path / "list.parquet", pa.table({"item_id": [1], "tags": lists}))
    with pytest.raises(InvalidRelease, match=r"list\.parquet: .*3000000 entries of a column for 1 items"):
        read_items(path, 1)


def test_a_table_of_another_size_or_with_code_for_a_type_is_refused(tmp_path: Path) -> None:
    path = table_of(tmp_path / "items.parquet", pa.table({"item_id": [1, 2]}))
    with pytest.raises(InvalidRelease, match="2 rows, expected 3"):
        read_items(path, 3)
    field = pa.field("item_id", pa.int64(), metadata={"ARROW:extension:name": "arrow.py_extension_type"})
    path = table_of(path, pa.table([pa.array([1, 2])], schema=pa.schema([field])))
    with pytest.raises(InvalidRelease, match="extension type"):
        read_items(path, 2)


def test_text_that_is_none_is_refused(tmp_path: Path) -> None:
    path = table_of(tmp_path / "items.parquet", pa.table({"item_id": ["zzzz"]}), compression="none")
    path.write_bytes(path.read_bytes().replace(b"zzzz", b"\xff\xff\xff\xff"))
    with pytest.raises(InvalidRelease, match=r"items\.parquet: pyarrow cannot read it"):
        read_items(path, 1)


@settings(max_examples=60)
@given(data=st.data())
def test_a_damaged_table_is_refused_or_bounded(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """By our own checks alone: pyarrow 15 ends the process for some of these."""
    path = tmp_path_factory.getbasetemp() / "damaged.parquet"
    content = table_of(path, pa.table({"item_id": range(50), "tags": [["a", "b"]] * 50})).read_bytes()
    path.write_bytes(data.draw(st.sampled_from(CHANGES))(content, data.draw))
    try:
        largest = check_table(path, 50)
    except InvalidRelease as error:
        largest, reason = 0, str(error)
    else:
        reason = str(path)
    assert reason.startswith(str(path))
    assert largest <= 1 << 28
