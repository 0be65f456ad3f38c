"""Checks of a release's JSON files beside the manifest, and of the shapes of its arrays, when it is opened.

Each reader knows the content of its file. Here all of them are called, so that files which a command or one of the
chained models does not read are checked too. The content of the arrays is checked by their readers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import InvalidRelease
from ..index.engines import check_parameters
from ..names import check_query
from ..query.sequence import TIME
from ..query.transform import TRANSFORM, described
from ..query.users import stated_users
from ..search.attributes import stated_attributes
from ..search.candidates import candidates_of, has_ranker
from ..selftest import SelfTest
from ..triton.tensors import USER
from .item_columns import stated_columns
from .parameters import Fields
from .release import Release
from .schema import METRICS, MOST_DIMENSIONS, Schema, choice, integer, taken

TOWERS, INDEX = "towers/towers.json", "index/params.json"


def _features(fields: Fields, key: str) -> list[str]:
    """Take the features that a tower was trained with; return their names."""
    return [feature.name("name") for feature in fields.objects(key)]


_TOWERS: Schema = {
    "format": integer(1, 1),
    "pairing": Fields.digest,
    "dim": integer(1, MOST_DIMENSIONS),
    "metric": choice(*METRICS),
    "query_inputs": _features,
    "item_inputs": _features,
}
_OF_TRAINING: Schema = {"epochs": integer(0, 1 << 40), "parameters": integer(0, 1 << 60)}


def check_documents(release: Release) -> None:
    """Raise InvalidRelease, naming file and field, unless the JSON files are as their readers take them."""
    inputs, outputs = described(release.fields(f"query/{TRANSFORM}"))
    described(release.fields(f"item/{TRANSFORM}"))
    place = str(release.path / "query" / TRANSFORM)
    check_query([column["name"] for column in inputs], [column["name"] for column in outputs], place)
    _check_inputs(release, inputs)
    _check_towers(release, [feature["name"] for feature in outputs])
    check_parameters(release)
    stated_users(release, inputs, outputs)
    rows = release.header("items/vectors.npy").shape[0]
    attributes = [name for name, _ in stated_attributes(release, rows)]
    stated_columns(release, rows)
    _check_shapes(release)
    _check_collection(release, attributes)
    if has_ranker(release):
        candidates_of(release)
    SelfTest.load(release)


def _check_inputs(release: Release, inputs: Sequence[Mapping[str, Any]]) -> None:
    """Compare the types of the columns that every request has with those of the requests."""
    for column in inputs:
        expected = {USER: release.manifest["id_dtype"]["user_id"], TIME: "int64"}.get(column["name"], column["dtype"])
        if column["dtype"] != expected or (column["name"] in (USER, TIME) and column["list"]):
            raise InvalidRelease(
                f"{release.path}/query/{TRANSFORM}, inputs: {column['name']} must be {expected}, and no list"
            )


def _check_towers(release: Release, features: Sequence[str]) -> None:
    fields = release.fields(TOWERS)
    stated, manifest = taken(fields, _TOWERS, _OF_TRAINING), release.manifest
    for key in ("dim", "metric"):
        if stated[key] != manifest[key]:
            raise fields.error(f"{key} is {stated[key]}, that of the manifest {manifest[key]}")
    if foreign := sorted(set(stated["query_inputs"]) - set(features)):
        raise fields.error(f"query_inputs: {foreign[0]!r} is none of the outputs of query/{TRANSFORM}")


def _check_collection(release: Release, attributes: Sequence[str]) -> None:
    """Compare the fields of a collection in Milvus, where the index is one, with the items' attributes."""
    if foreign := sorted(set(release.json(INDEX).get("fields", {})) - set(attributes)):
        raise InvalidRelease(f"{release.path / INDEX}: fields: the items have no attribute {foreign[0]!r}")


def _check_shapes(release: Release) -> None:
    """Compare the numbers that the manifest and the index state with the sizes of the arrays."""
    counts, path = release.manifest["counts"], release.path
    rows, trained = release.header("items/vectors.npy").shape[0], release.trained_items
    live = counts["items"] <= rows if "derived_from" in release.manifest else counts["items"] == rows
    if not live or not 0 < trained <= rows:
        raise InvalidRelease(
            f"{path}/manifest.json, counts: items {counts['items']}, trained {trained}, of {rows} rows"
        )
    stated = {
        "users": release.header("history/offsets.npy").shape[0] - 1,
        "interactions": release.header("history/item_index.npy").shape[0],
    }
    for key, number in stated.items():
        if counts[key] != number:
            raise InvalidRelease(f"{path}/manifest.json, counts, {key} is {counts[key]}, history/ has {number}")
    if (indexed := release.json(INDEX)["items"]) > rows:
        raise InvalidRelease(f"{path / INDEX}: items is {indexed}, of {rows} vectors")
