"""Items as search engines and managed vector search load them: a document each, and how to make the index they go into.

The documents are lines for the bulk interface of Elasticsearch and OpenSearch; the index is the body of the request
that makes it, with the similarity that orders items as the release does
(https://www.elastic.co/guide/en/elasticsearch/reference/current/dense-vector.html,
https://docs.opensearch.org/latest/mappings/supported-field-types/knn-methods-engines/).
"""

from __future__ import annotations

from typing import Any

from ensemble.batch.restricts import Fields, encoded
from ensemble.serving.search.attributes import Attributes
from workflows.columns import Columns
from workflows.errors import DataError

BULK = ("elasticsearch", "opensearch")
EMBEDDING = "embedding"
_SIMILARITY = {"inner_product": "max_inner_product", "cosine": "cosine", "l2": "l2_norm"}
# FAISS inside OpenSearch knows cosines since 2.19 only, Lucene always did.
_SPACE = {"inner_product": ("faiss", "innerproduct"), "cosine": ("lucene", "cosinesimil"), "l2": ("faiss", "l2")}
_LINKS, _EF_CONSTRUCTION = 16, 100
_TREE_ITEMS = 10_000
"""Managed vector search compares all of a catalogue up to this size."""
_NEIGHBOURS = 150


class Documents(Fields):
    """The fields of each item in a search engine beside its vector: the id, and the attributes for filters."""

    def __init__(self, attributes: Attributes) -> None:
        """Take the attributes of a catalogue; raise DataError for a name that cannot be a field."""
        for name in attributes:
            if name in (EMBEDDING, Columns.Item) or name.startswith("_") or "." in name or not name.strip():
                raise DataError(
                    f"attribute {name!r}: no name for a field of a search engine, which has no '.', does not begin "
                    f"with '_' and is neither '{EMBEDDING}' nor '{Columns.Item}'; rename the column of the items table"
                )
        super().__init__(attributes)

    def members(self, row: int) -> bytes:
        """Return the members of a row's JSON object, each after a comma."""
        members: dict[str, Any] = {**self.tags_of(row), **self.numbers_of(row)}
        return encoded({name: value for name, value in members.items() if value is not None and value != []})

    def fields(self) -> dict[str, dict[str, str]]:
        """Return the type of every field except the vector's."""
        types = {name: "long" if key == "value_int" else "double" for name, key in self.number_keys.items()}
        return {name: {"type": kind} for name, kind in {**dict.fromkeys(self.tags, "keyword"), **types}.items()}


def index_body(engine: str, documents: Documents, dim: int, metric: str, ids: str) -> dict[str, Any]:
    """Return the body of the request that creates the index; `ids` is "int64" or "string".

    The index takes the fields of the documents and no others. Elasticsearch has `max_inner_product` since 8.11.
    """
    id_field = {Columns.Item: {"type": "long" if ids == "int64" else "keyword"}}
    fields: dict[str, Any] = {EMBEDDING: _vector(engine, dim, metric), **id_field, **documents.fields()}
    body = {"mappings": {"dynamic": "strict", "properties": fields}}
    return {"settings": {"index": {"knn": True}}, **body} if engine == "opensearch" else body


def managed_index(items: int, dim: int, metric: str) -> dict[str, Any]:
    """Return the metadata of a managed vector search index; the uploader adds where the data lies.

    A cosine is the inner product of vectors that the service normalises itself.
    """
    tree = {"treeAhConfig": {"leafNodeEmbeddingCount": 1000, "leafNodesToSearchPercent": 10}}
    return {
        "config": {
            "dimensions": dim,
            "approximateNeighborsCount": min(_NEIGHBOURS, items),
            "distanceMeasureType": "SQUARED_L2_DISTANCE" if metric == "l2" else "DOT_PRODUCT_DISTANCE",
            "featureNormType": "UNIT_L2_NORM" if metric == "cosine" else "NONE",
            "algorithmConfig": tree if items > _TREE_ITEMS else {"bruteForceConfig": {}},
        }
    }


def _vector(engine: str, dim: int, metric: str) -> dict[str, Any]:
    build = {"m": _LINKS, "ef_construction": _EF_CONSTRUCTION}
    if engine == "elasticsearch":
        options = {"index": True, "similarity": _SIMILARITY[metric], "index_options": {"type": "hnsw", **build}}
        return {"type": "dense_vector", "dims": dim, **options}
    library, space = _SPACE[metric]
    method = {"name": "hnsw", "engine": library, "space_type": space, "parameters": build}
    return {"type": "knn_vector", "dimension": dim, "method": method}
