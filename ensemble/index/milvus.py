"""Writes item vectors, and changes of the items, to a collection of Milvus.

Each release has a collection of its own, so that the previous release stays available. The collection also holds the
attributes for filters: tags as arrays of strings, numbers as doubles, nothing where an item has none.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ensemble.catalogue.changes import LiveItems
from ensemble.config import Index
from ensemble.index.building import Building, Built
from ensemble.serving.files.arrays import read_values
from ensemble.serving.index.engine import PARAMETERS
from ensemble.serving.index.engines import engine_module
from ensemble.serving.index.milvus_index import CHAIN, PAIRING, ROWS, URI, connect, located, reason
from ensemble.serving.search.attributes import Attribute, Attributes, Tags, read_attributes
from workflows.errors import ReleaseError

_METRIC = {"inner_product": "IP", "cosine": "COSINE", "l2": "L2"}
_LONGEST_TEXT, _MOST_VALUES, _MOST_FIELDS = 65_535, 4096, 50
_ROWS_AT_ONCE = 2000
_EF, _EF_CONSTRUCTION = 200, 200
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_]{0,200}")
_SECONDS = 60
"""An integer: by a float pymilvus 2.5 does not limit how long it tries again."""


def build(building: Building) -> Built:
    """Write the items of an unfinished release into a new collection; raise ReleaseError if Milvus refuses them."""
    assert building.draft is not None, "a collection holds more of a release than its vectors"
    release, config, vectors = building.draft(), building.config, building.vectors
    pairing = str(release.manifest["pairing"])
    if config.uri is not None:
        # What follows in this process opens the release, and reads the same variable as a server.
        os.environ.setdefault(URI, located(config.uri))
    attributes = read_attributes(release, len(vectors))
    dtype = release.manifest["id_dtype"]["item_id"]
    fields, name = field_names(attributes), f"{config.collection}_{pairing[:12]}{secrets.token_hex(3)}"
    search, build = _parameters(config, len(vectors))
    client = _client()
    building.progress(f"writing {len(vectors):,} items to the collection {name}")
    try:
        about = (pairing, dtype, vectors.shape[1], len(vectors))
        columns = {field: attributes[attribute] for attribute, field in fields.items()}
        _make(client, name, about, columns, {"metric_type": _METRIC[config.metric], **build})
        for block in _blocks(read_values(release, "items/ids", dtype), vectors, columns):
            client.insert(name, block, timeout=_SECONDS)
        client.flush(name, timeout=_SECONDS)
        client.load_collection(name, timeout=_SECONDS)
    except Exception as error:  # pymilvus's and gRPC's own
        raise ReleaseError(f"Milvus at {URI}, collection {name}: {reason(error)}") from None
    stated = building.stated(
        kind="milvus", structure=config.structure, is_exact=config.structure == "flat", search=search
    )
    return Built(None, {**stated, "collection": name, "collection_pairing": pairing, "fields": fields})


def mirror(items: LiveItems, first: int) -> bool:
    """Write the rows from `first` on, of a change that is about to be published, to the release's collection.

    A collection that the environment does not name, that was filled for another release, or that holds the rows of
    another delta directory, is left alone: servers then compare the new items themselves. Return whether the collection
    has the rows now; raise ReleaseError if Milvus refuses them.
    """
    rows, stated = items.catalogue.rows, items.release.json(PARAMETERS)
    if stated["collection_pairing"] != stated["pairing"] or not os.environ.get(URI):
        return False
    client, name, chain = _client(), stated["collection"], _chain(items)
    try:
        says = client.describe_collection(name, timeout=_SECONDS).get("properties", {})
        if says.get(CHAIN, chain) != chain:
            return False
        columns = {field: rows.attributes[attribute] for attribute, field in stated["fields"].items()}
        for block in _blocks(rows.ids, rows.vectors, columns, min(int(says[ROWS]), first)):
            client.upsert(name, block, timeout=_SECONDS)
        # Servers take the rows from the collection once it says that it has them.
        client.query(name, filter=f"row == {len(rows.ids) - 1}", consistency_level="Strong", timeout=_SECONDS)
        properties = {CHAIN: chain, ROWS: str(len(rows.ids))}
        client.alter_collection_properties(name, properties, timeout=_SECONDS)
    except Exception as error:  # pymilvus's and gRPC's own
        raise ReleaseError(f"Milvus at {URI}, collection {name}: {reason(error)}; nothing was changed") from None
    return True


def forget(items: LiveItems) -> None:
    """Delete rows that changes had added and that no server can answer with any more. Call after `mirror`.

    The release's original rows stay, since a server without the changes answers with them. Dead rows are filtered out
    in any case; if Milvus does not answer, it keeps them until the next change.
    """
    stated = items.release.json(PARAMETERS)
    dead = np.flatnonzero(~items.catalogue.rows.live)
    removed_rows = dead[dead >= stated["items"]].tolist()
    try:
        client = _client()
        for start in range(0, len(removed_rows), _ROWS_AT_ONCE):
            client.delete(stated["collection"], ids=removed_rows[start : start + _ROWS_AT_ONCE], timeout=_SECONDS)
    except Exception:  # see above
        return


def _chain(items: LiveItems) -> str:
    return str(items.deltas[0].manifest["package"])


def _blocks(
    ids: np.ndarray, vectors: np.ndarray, attributes: Attributes, start: int = 0
) -> Iterator[list[dict[str, Any]]]:
    """Yield the entities of the rows from `start` on, some thousand at a time; the attributes are by field."""
    for first in range(start, len(ids), _ROWS_AT_ONCE):
        yield [
            {
                "row": row,
                "item_id": ids[row] if isinstance(ids[row], str) else int(ids[row]),
                "vector": vectors[row].tolist(),
                **{field: _value(attribute, row) for field, attribute in attributes.items()},
            }
            for row in range(first, min(first + _ROWS_AT_ONCE, len(ids)))
        ]


def field_names(attributes: Attributes) -> dict[str, str]:
    """Return the field of every attribute that a collection can hold; filters on the others are not sent."""
    fields: dict[str, str] = {}
    for number, (name, attribute) in enumerate(attributes.items()):
        kind = "tags" if isinstance(attribute, Tags) else "number"
        if _fits(attribute) and len(fields) < _MOST_FIELDS:
            fields[name] = f"{kind}_{name}" if _PLAIN.fullmatch(name) else f"{kind}__{number}"
    return fields


def _fits(attribute: Attribute) -> bool:
    if not isinstance(attribute, Tags):
        return True
    widest = int(np.diff(attribute.groups.rows).max(initial=0))
    return widest <= _MOST_VALUES and all(len(value.encode()) <= _LONGEST_TEXT for value in attribute.values)


def _value(attribute: Attribute, row: int) -> Any:
    if isinstance(attribute, Tags):
        return attribute.values_of(row)
    value = float(attribute.values[row])
    return None if np.isnan(value) else value


def _client() -> Any:
    return connect(Path("[index] kind = 'milvus'"))


def _parameters(config: Index, items: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the parameters of a search and those of the build."""
    if config.structure == "flat":
        return {}, {"index_type": "FLAT", "params": {}}
    if config.structure == "hnsw":
        build = {"M": config.links, "efConstruction": _EF_CONSTRUCTION}
        return {"ef": config.ef or _EF}, {"index_type": "HNSW", "params": build}
    nlist = config.nlist or max(1, min(round(4 * np.sqrt(items)), items // 40, 65_536))
    return {"nprobe": config.nprobe or max(1, nlist // 8)}, {"index_type": "IVF_FLAT", "params": {"nlist": nlist}}


def _make(
    client: Any, name: str, about: tuple[str, str, int, int], attributes: Attributes, build: dict[str, Any]
) -> None:
    """Create an empty collection; `about`: pairing id, type of the item ids, dimensions, number of rows."""
    types = engine_module("pymilvus", name).DataType
    pairing, dtype, dim, rows = about
    text = {"datatype": types.VARCHAR, "max_length": _LONGEST_TEXT}
    schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field("row", types.INT64, is_primary=True)
    schema.add_field("item_id", **(text if dtype == "string" else {"datatype": types.INT64}))
    schema.add_field("vector", types.FLOAT_VECTOR, dim=dim)
    for field, attribute in attributes.items():
        if isinstance(attribute, Tags):
            listed = {"element_type": types.VARCHAR, "max_length": _LONGEST_TEXT, "max_capacity": _MOST_VALUES}
            schema.add_field(field, types.ARRAY, **listed)
        else:
            schema.add_field(field, types.DOUBLE, nullable=True)
    index = client.prepare_index_params()
    index.add_index("vector", **build)
    client.create_collection(
        name,
        schema=schema,
        index_params=index,
        properties={PAIRING: pairing, ROWS: str(rows)},
        consistency_level="Bounded",
        timeout=_SECONDS,
    )
