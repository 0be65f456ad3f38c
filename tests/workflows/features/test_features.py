"""Stage features: aligned, fitted on training rows only, whole or absent."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from merlin.schema import Tags
from merlin.schema.io.tensorflow_metadata import TensorflowMetadata

from workflows.config import Categorical, Continuous, FeatureSide, MultiHot, RandomSplit, Text
from workflows.errors import DataError, RecipeError, StageError
from workflows.features.stage import FeatureSet, build, load
from workflows.tables.splits import split
from workflows.tables.store import Tables

QUERY = FeatureSide(features={"user_id": Categorical(), "age": Continuous(), "timestamp": Continuous()})
ITEM = FeatureSide(features={"item_id": Categorical(), "title": Text(max_length=4), "genres": MultiHot(max_length=2)})
SPLIT = RandomSplit(test=0.25, validation=0.2, seed=1)


def make_tables(rows: int = 60) -> Tables:
    random = np.random.default_rng(0)
    users = pd.DataFrame({"user_id": np.arange(10) * 3 + 1, "age": np.arange(10.0) + 20, "zip_code": ["0"] * 10})
    items = pd.DataFrame(
        {
            "item_id": [f"i{n}" for n in range(8)],
            "title": [f"The Film {n}" for n in range(8)],
            "genres": [["Drama", "Comedy", "War"][: n % 4] for n in range(8)],
        }
    )
    interactions = pd.DataFrame(
        {
            "user_id": random.choice(users["user_id"], rows),
            "item_id": random.choice(items["item_id"], rows),
            "rating": np.ones(rows, dtype=np.float32),
            "timestamp": np.arange(rows, dtype=np.int64) + 900_000_000,
        }
    )
    return Tables(interactions, users, items)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("features") / "features"
    build(make_tables(), QUERY, ITEM, SPLIT, "cpu", out, lambda _: None)
    return out


@pytest.fixture(scope="module")
def features(directory: Path) -> FeatureSet:
    return load(directory)


def test_every_row_lands_in_its_part_beside_its_features(features: FeatureSet) -> None:
    tables = make_tables()
    rows = split(tables.interactions, SPLIT)
    ages = tables.users.set_index("user_id")["age"]
    fit = ages.loc[tables.interactions["user_id"].iloc[rows.train]]
    for part, positions in ((features.train, rows.train), (features.valid, rows.valid), (features.test, rows.test)):
        expected = tables.interactions.iloc[positions].reset_index(drop=True)
        pd.testing.assert_frame_equal(part.interactions.drop(columns="item_index"), expected)
        indexed = tables.items["item_id"].iloc[part.interactions["item_index"]]
        assert indexed.tolist() == expected["item_id"].tolist()
        scaled = (ages.loc[expected["user_id"]] - fit.mean()) / fit.std()
        np.testing.assert_allclose(part.query["age"], scaled, rtol=1e-6)


def test_statistics_and_vocabularies_come_from_the_training_rows_only(tmp_path: Path) -> None:
    tables = make_tables(12)
    interactions = tables.interactions.assign(user_id=[1, 1, 1, 1, 1, 1, 4, 4, 4, 7, 7, 7])
    interactions["timestamp"] = [*range(11), 10**9]
    temporal = RandomSplit(test=0.25, validation=0.2, seed=1)
    rows = split(interactions, temporal)
    build(
        Tables(interactions, tables.users, tables.items), QUERY, ITEM, temporal, "cpu", tmp_path / "f", lambda _: None
    )
    features = load(tmp_path / "f")
    assert abs(float(features.train.query["timestamp"].mean())) < 1e-5
    unseen = ~interactions["user_id"].iloc[rows.test].isin(interactions["user_id"].iloc[rows.train]).to_numpy()
    np.testing.assert_array_equal(features.test.query["user_id"] == 2, unseen)
    assert features.query_specs[0].cardinality == 3 + interactions["user_id"].iloc[rows.train].nunique()


def test_arrays_have_the_types_and_widths_of_their_specs(features: FeatureSet) -> None:
    specs = {spec.name: spec for spec in [*features.query_specs, *features.item_specs]}
    assert list(features.train.query) == [spec.name for spec in features.query_specs]
    assert list(features.items) == [spec.name for spec in features.item_specs]
    for name, array in {**features.train.query, **features.items}.items():
        spec = specs[name]
        assert array.dtype == spec.dtype
        assert array.shape[1:] == ((spec.max_length,) if spec.kind == "list" else ())
        assert spec.kind == "continuous" or 0 <= array.min() <= array.max() < spec.cardinality
    assert features.items["genres"][0].tolist() == [0, 0], "no genre: padding only"
    assert (features.items["genres"][3] > 2).all(), "three genres are cut to two"
    assert features.items["title"].shape == (8, 4)


def test_catalogue_and_users_come_back_as_they_were(features: FeatureSet) -> None:
    tables = make_tables()
    assert features.catalogue["item_id"].tolist() == tables.items["item_id"].tolist()
    assert [list(genres) for genres in features.catalogue["genres"]] == tables.items["genres"].tolist()
    pd.testing.assert_frame_equal(features.users, tables.users)


def test_the_merlin_schema_says_what_each_tower_takes(directory: Path) -> None:
    schema = TensorflowMetadata.from_proto_text_file(str(directory), "schema.pbtxt").to_merlin_schema()
    assert schema.select_by_tag(Tags.USER).column_names == ["user_id", "age", "timestamp"]
    assert schema.select_by_tag(Tags.ITEM).column_names == ["item_id", "title", "genres"]
    assert schema.select_by_tag(Tags.ITEM_ID).column_names == ["item_id"]
    assert schema.select_by_tag(Tags.CONTINUOUS).column_names == ["age", "timestamp"]
    assert schema["item_id"].int_domain.max == 3 + 8 - 1


def test_a_recipe_with_a_wrong_column_leaves_nothing_behind(tmp_path: Path) -> None:
    wrong = FeatureSide(features={"user_id": Categorical(), "agee": Continuous()})
    with pytest.raises(RecipeError, match=r"\[query.features\] agee: no such column; there are: .*age"):
        build(make_tables(), wrong, ITEM, SPLIT, "cpu", tmp_path / "f", lambda _: None)
    assert list(tmp_path.iterdir()) == []


def test_a_stage_that_fails_halfway_keeps_the_last_good_one(directory: Path, tmp_path: Path) -> None:
    out = tmp_path / "features"
    build(make_tables(), QUERY, ITEM, SPLIT, "cpu", out, lambda _: None)
    before = sorted(path.name for path in tmp_path.iterdir())
    tables = make_tables()
    broken = Tables(tables.interactions, tables.users, tables.items.assign(title="!!!"))
    with pytest.raises(DataError, match="column 'title'"):
        build(broken, QUERY, ITEM, SPLIT, "cpu", out, lambda _: None)
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert load(out).items["title"].any()


def test_one_feature_name_on_both_sides_is_refused(tmp_path: Path) -> None:
    tables = make_tables()
    titled = Tables(tables.interactions, tables.users.assign(title="x"), tables.items)
    query = FeatureSide(features={"title": Categorical()})
    with pytest.raises(RecipeError, match="both make a feature 'title'"):
        build(titled, query, ITEM, SPLIT, "cpu", tmp_path / "f", lambda _: None)


def test_a_damaged_directory_is_told_with_the_command_that_mends_it(tmp_path: Path, directory: Path) -> None:
    with pytest.raises(StageError, match="run `retrieval features`"):
        load(tmp_path / "nothing")
    (tmp_path / "features.json").write_bytes((directory / "features.json").read_bytes()[:-20])
    with pytest.raises(StageError, match="run `retrieval features`"):
        load(tmp_path)
