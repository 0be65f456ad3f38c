"""Milvus as an index engine: a collection names the candidates, the release's vectors decide among them.

The release states the collection and the pairing id of its vectors; address and token come from the environment of the
serving process, so that no release holds them. Filters are sent as Milvus's expressions
(https://milvus.io/docs/boolean.md); those that cannot be expressed are answered by comparing items.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InvalidRelease, Unavailable
from ..files.parameters import Fields, shown
from ..files.release import Release
from ..files.schema import Schema, choice, integer, object_of, of_names, taken
from ..search.masks import ItemMask
from .engine import COMMON, OPTIONAL, PARAMETERS, Engine
from .engines import engine_module
from .inverted_lists import Probes

URI, TOKEN, CONSISTENCY = "RETRIEVAL_MILVUS_URI", "RETRIEVAL_MILVUS_TOKEN", "RETRIEVAL_MILVUS_CONSISTENCY"
SECONDS = "RETRIEVAL_MILVUS_SECONDS"
"""Environment variables: where Milvus is (`https://host:19530`, or a file of milvus-lite), what opens it, how recent a
state a search must see (Milvus's consistency levels; by default `Bounded`), and how long an answer may take."""
PAIRING, ROWS, CHAIN = "retrieval.pairing", "retrieval.rows", "retrieval.changes"
"""Properties of a collection: its vectors' hash, how many rows of the catalogue it holds, and the id of the first
change whose rows are among them: another delta directory of the same release has other rows of these numbers."""
STRUCTURES = ("flat", "hnsw", "ivf_flat")
FIELDS = ("row", "item_id", "vector")
MOST = 16_384
"""The longest answer that Milvus gives to one query."""
_SECONDS = 10.0
"""By default: pymilvus 2.5 itself tries for minutes, in which this process would answer nobody."""
_OPENING_SECONDS = 30.0


def _name(fields: Fields, key: str) -> str:
    """Take the name of a collection or a field."""
    name = fields.text(key)
    if not name.isascii() or not name.isidentifier():
        raise fields.error(f"{shown(name)} is no name of a collection or a field")
    return name


_OWN: Schema = {
    "kind": choice("milvus"),
    "structure": choice(*STRUCTURES),
    "collection": _name,
    "collection_pairing": Fields.digest,
    "fields": of_names(_name),
    "search": object_of({}, dict.fromkeys(("ef", "nprobe"), integer(1, 1 << 16))),
}
_Array = np.ndarray


class MilvusIndex(Engine):
    """A collection that holds the first `items` rows of the catalogue."""

    is_remote = True

    def __init__(self, client: Any, vectors: _Array, parameters: Mapping[str, Any]) -> None:
        """Take a connected `MilvusClient`, the item vectors and `index/params.json`."""
        super().__init__(vectors, parameters)
        self._client, self.collection = client, str(parameters["collection"])
        self._fields: dict[str, str] = dict(parameters["fields"])
        self._consistency, self._once = os.environ.get(CONSISTENCY, "Bounded"), once()

    def candidates(
        self, queries: _Array, fetch: int, mask: ItemMask | None = None, removed: int = 0, probes: Probes | None = None
    ) -> _Array:
        """Return candidates; see `Engine`. A filter that is sent does not exclude removed items."""
        if mask is not None and not self.takes(mask):
            raise ValueError("Milvus does not express this filter")
        expression = "" if mask is None or mask.wanted is None else expression_of(mask.wanted, self._fields)
        limit = max(1, min(self.with_removed(fetch, removed), self.items, MOST))
        params = {**self.settings, **({"ef": max(self.settings["ef"], limit)} if "ef" in self.settings else {})}
        try:
            answers = self._client.search(
                self.collection,
                data=np.ascontiguousarray(queries, dtype=np.float32).tolist(),
                anns_field="vector",
                limit=limit,
                filter=expression,
                search_params={"params": params},
                output_fields=[],
                consistency_level=self._consistency,
                **self._once,
            )
        except Exception as error:  # pymilvus's and gRPC's own
            raise Unavailable(f"Milvus did not answer for collection {self.collection}: {reason(error)}") from None
        rows = np.full((len(queries), limit), -1, dtype=np.int64)
        for row, answer in enumerate(answers):
            rows[row, : len(answer)] = [int(hit["row"]) for hit in answer]
        # Rows that others wrote meanwhile are compared by who asks, or not known yet.
        return np.where(rows < self.items, rows, -1)

    def takes(self, mask: ItemMask) -> bool:
        """Return whether an expression of Milvus can state the mask."""
        if mask.wanted is None:
            return False
        try:
            expression_of(mask.wanted, self._fields)
        except ValueError:
            return False
        return True

    def reads(self, fetch: float) -> float:
        """Return how many items a search compares here: none."""
        return 0.0

    def extended(self, items: int, chain: str | None) -> MilvusIndex:
        """Return the engine of a catalogue that has grown; the collection states how many of its rows it holds.

        The caller compares the others, or all new rows if Milvus does not answer.
        """
        grown = copy(self)
        try:
            says = self._client.describe_collection(self.collection, **self._once).get("properties", {})
        except Exception:  # see above
            return grown
        if chain is not None and says.get(CHAIN) == chain and str(says.get(ROWS)).isdecimal():
            grown.items = max(self.items, min(items, int(says[ROWS])))
        return grown


def load(release: Release, parameters: Mapping[str, Any], vectors: _Array) -> MilvusIndex:
    """Connect to the collection of a release.

    Raises InvalidRelease where the environment does not name a Milvus, it does not answer, lacks the collection, cannot
    load it, or holds vectors of another release; or pymilvus is missing.
    """
    place = release.path / PARAMETERS
    client = connect(place)
    check_collection(client, parameters, place, vectors.shape[1])
    _load_collection(client, parameters["collection"], place)
    return MilvusIndex(client, vectors, parameters)


def once() -> dict[str, Any]:
    """Return the options of a call that is tried once, for as long as the environment says; raise InvalidRelease where
    that is no number of seconds.
    """
    text = os.environ.get(SECONDS, str(_SECONDS))
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise InvalidRelease(f"{SECONDS} is {text!r}, expected how many seconds Milvus may take, such as {_SECONDS}")
    return {"timeout": seconds, "retry_times": 0}


def connect(place: Path) -> Any:
    """Return a client of the Milvus that the environment names; raise InvalidRelease naming what is missing."""
    uri = os.environ.get(URI)
    if not uri:
        raise InvalidRelease(
            f"{place}: its items are in Milvus, and {URI} is not set; set it to https://HOST:19530 or to the file of "
            f"milvus-lite, and {TOKEN} where a token is needed"
        )
    module = engine_module("pymilvus", place)
    try:
        return module.MilvusClient(uri=located(uri), token=os.environ.get(TOKEN, ""), timeout=_OPENING_SECONDS)
    except Exception as error:  # pymilvus's and gRPC's own
        raise InvalidRelease(f"{place}: Milvus at {URI} does not answer: {reason(error)}") from None


def located(uri: str) -> str:
    """Return the address of a Milvus; for a file of milvus-lite its absolute path, the same in every process."""
    return uri if "://" in uri else str(Path(uri).expanduser().absolute())


def expression_of(conditions: Mapping[str, Any], fields: Mapping[str, str]) -> str:
    """Return a filter (docs/serving.md: allow, deny, tags, ranges) as Milvus's expression; "" allows everything.

    Raises ValueError: Milvus cannot express it: an attribute that the collection does not hold, a control character.
    """
    parts = [f"item_id in {_listed(conditions['allow'])}"] if "allow" in conditions else []
    if conditions.get("deny"):
        parts.append(f"item_id not in {_listed(conditions['deny'])}")
    for name, tests in conditions.get("tags", {}).items():
        calls = {"any": "array_contains_any", "all": "array_contains_all", "none": "not array_contains_any"}
        field = _field(fields, name)
        parts += [f"{calls[test]}({field}, {_listed(map(_tag, values))})" for test, values in tests.items()]
    for name, limits in conditions.get("ranges", {}).items():
        signs = {"min": ">=", "max": "<="}
        parts += [f"{_field(fields, name)} {signs[end]} {float(limit)!r}" for end, limit in limits.items()]
    return " and ".join(f"({part})" for part in parts)


def reason(error: Exception) -> str:
    """Return the type and the first line of an exception."""
    text = str(getattr(error, "message", "") or error)
    return f"{type(error).__name__}: {(text.splitlines() or [''])[0][:300]}"


def _field(fields: Mapping[str, str], name: str) -> str:
    if name not in fields:
        raise ValueError(f"the collection does not hold '{name}'")
    return fields[name]


def _tag(value: Any) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def _listed(values: Iterable[Any]) -> str:
    return f"[{', '.join(_quoted(value) if isinstance(value, str) else str(value) for value in values)}]"


def _quoted(text: str) -> str:
    if any(letter < " " or letter == "\x7f" for letter in text):
        raise ValueError("a control character")
    return json.dumps(text, ensure_ascii=False)


def check_collection(client: Any, parameters: Mapping[str, Any], place: Path, dim: int) -> None:
    """Raise InvalidRelease if Milvus does not hold the collection as the release made it."""
    name = parameters["collection"]
    try:
        if not client.has_collection(name, **once()):
            raise InvalidRelease(f"{place}: Milvus has no collection {name}; release it again, or restore it")
        described = client.describe_collection(name, **once())
    except InvalidRelease:
        raise
    except Exception as error:  # pymilvus's and gRPC's own
        raise InvalidRelease(f"{place}: Milvus does not describe collection {name}: {reason(error)}") from None
    pairing = parameters["collection_pairing"]
    if (says := described.get("properties", {}).get(PAIRING)) != pairing:
        raise InvalidRelease(
            f"{place}: collection {name} has the pairing id {says}, expected {pairing}: its vectors are not those of "
            "this release; release it again"
        )
    fields = {field["name"]: field for field in described["fields"]}
    expected = {*FIELDS, *parameters["fields"].values()}
    if expected - set(fields) or int(fields["vector"]["params"]["dim"]) != dim:
        raise InvalidRelease(f"{place}: collection {name} has other fields than the release; release it again")


def _load_collection(client: Any, name: str, place: Path) -> None:
    """Load a collection that is not loaded: milvus-lite opens its file with all collections released."""
    try:
        if client.get_load_state(name, **once())["state"].name != "Loaded":
            client.load_collection(name, timeout=_OPENING_SECONDS)
    except Exception as error:  # pymilvus's and gRPC's own
        raise InvalidRelease(f"{place}: Milvus does not load collection {name}: {reason(error)}") from None


def check_parameters(fields: Fields) -> None:
    """Raise InvalidRelease, naming the field, unless these are the parameters of a collection."""
    taken(fields, {**COMMON, **_OWN}, OPTIONAL)
