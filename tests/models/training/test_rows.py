"""Rows as batches take them: histories cut from an index, every row once an epoch."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from models.data import with_history
from models.training.horovod import Ranks
from models.training.rows import Rows, shuffled_batches, with_ranges
from workflows.features.plan import FeatureSpec
from workflows.features.stage import Part


@pytest.mark.parametrize("among", ["others", "earlier rows"])
@pytest.mark.parametrize("pad_left", [False, True])
def test_histories_cut_from_the_index_are_those_of_each_row(pad_left: bool, among: str) -> None:
    random, n = np.random.default_rng(0), 500
    settings = {"source": "history", "kind": "sequence", "dtype": "int64", "cardinality": 103, "max_length": 7}
    spec = FeatureSpec(name="history", pad_left=pad_left, **settings)
    rows = pd.DataFrame({"user_id": random.integers(0, 60, n), "item_index": random.integers(0, 100, n)})
    rows["timestamp"] = 10**9 + random.integers(0, 90, n)
    part = Part({"code": random.integers(0, 2**40, n), "number": random.random(n, np.float32)}, rows)
    known = rows[::3].assign(timestamp=lambda frame: frame["timestamp"] - 40) if among == "earlier rows" else None
    held = Rows(*with_ranges(part, [spec], known))
    blocks = list(held.blocks(size=128))
    for name, values in with_history(part, [spec], known).query.items():
        joined = np.concatenate([block[name].numpy() for block in blocks])
        np.testing.assert_array_equal(joined, values)
        assert joined.dtype == values.dtype


def test_the_order_of_rows_is_another_one_every_epoch_and_that_of_the_seed() -> None:
    epochs = []
    for seed in (5, 5, 6):
        batches = shuffled_batches(1003, 100, seed, Ranks())
        assert len(batches) == 10
        epochs.append([np.concatenate([batch.numpy() for batch in batches]) for _ in range(2)])
    for order in (drawn for two in epochs for drawn in two):
        assert len(set(order.tolist())) == 1000
        assert set(order.tolist()) <= set(range(1003))
    np.testing.assert_array_equal(epochs[0], epochs[1])
    assert not np.array_equal(epochs[0][0], epochs[0][1])
    assert not np.array_equal(epochs[0], epochs[2])
