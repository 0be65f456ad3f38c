"""Schema of a release's manifest, one line per field, for writers and readers alike.

The bounds of `[serving]` are those of the recipe as well (`ensemble/config.py`): what a recipe may ask for can be
released, and what is released can be served. They keep a release from asking for what no machine has; whether this
machine has it is checked where it is served (`ensemble/serving/threads.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .parameters import Fields

Check = Callable[[Fields, str], Any]
"""Takes a field and returns its value; raises InvalidRelease naming file and field."""
Schema = Mapping[str, Check]

FORMAT = 4
METRICS = ("inner_product", "cosine", "l2")
LAYOUTS = ("fused", "chained", "both", "onnx")
MOST_DIMENSIONS = 1 << 16
MOST_ROWS = (1 << 32) - 1
"""Users, or items: their lookups have 32 bits for a row."""
MOST_THREADS = 4096
"""Instances of a model times the threads of each."""
LARGEST_ANSWER = 1 << 31
"""Bytes: what gRPC sends in one message."""
_ANSWER_BYTES = 16
"""Of one item in an answer, at least."""
INSTANCES = ("instances", "transform_instances", "tower_instances", "search_instances", "rank_instances")
"""The options that say how many processes a model has; all but the first may be null."""
BOUNDS: Mapping[str, tuple[int, int]] = {
    "top_k": (1, 1 << 20),
    "max_top_k": (1, 1 << 20),
    "max_batch_size": (1, 1 << 16),
    "max_exclude_item_ids": (1, 1 << 20),
    "max_history_item_ids": (1, 1 << 20),
    "max_queue_delay_microseconds": (0, 60_000_000),
    "max_queue_rows": (0, 1 << 20),
    "max_request_milliseconds": (1, 1 << 31),
    "default_timeout_microseconds": (0, 3_600_000_000),
    "threads": (1, 256),
    **dict.fromkeys(INSTANCES, (1, 256)),
    "keep": (2, 1 << 20),
    "users": (1, 1 << 20),
}
"""The least and the largest value of every integer in `[serving]` and `[release]`."""
AT = (1, 5, 10, 50, 100)
"""The k at which a promotion may compare answers."""


def integer(low: int, high: int) -> Check:
    """Return the check of an integer from `low` to `high`."""
    return lambda fields, key: fields.integer(key, low, high)


def real(low: float, high: float) -> Check:
    """Return the check of a number from `low` to `high`."""
    return lambda fields, key: fields.number(key, low, high)


def choice(*allowed: str) -> Check:
    """Return the check of one of some strings."""
    return lambda fields, key: fields.choice(key, allowed)


def one_of(*allowed: int) -> Check:
    """Return the check of one of some integers."""

    def check(fields: Fields, key: str) -> int:
        value = fields.integer(key, min(allowed), max(allowed))
        if value not in allowed:
            raise fields.error(f"{key} must be one of {', '.join(map(str, allowed))}, got {value}")
        return value

    return check


def or_null(check: Check) -> Check:
    """Return the check of a field that may be null."""
    return lambda fields, key: fields.null(key) if fields.is_null(key) else check(fields, key)


def of_names(check: Check) -> Check:
    """Return the check of an object with any names, whose values are alike."""

    def checked(fields: Fields, key: str) -> dict[str, Any]:
        inner = fields.object(key)
        return {name: check(inner, name) for name in inner.names}

    return checked


def object_of(required: Schema, optional: Schema = {}) -> Check:  # noqa: B006 - not changed
    """Return the check of an object with these fields and no others."""
    return lambda fields, key: taken(fields.object(key), required, optional)


def list_of(required: Schema) -> Check:
    """Return the check of a list of objects with these fields and no others."""
    return lambda fields, key: [taken(entry, required) for entry in fields.objects(key)]


def taken(fields: Fields, required: Schema, optional: Schema = {}) -> dict[str, Any]:  # noqa: B006 - not changed
    """Return the values of an object's fields; raise InvalidRelease if one is missing, wrong or unknown."""
    values = {key: check(fields, key) for key, check in required.items()}
    values.update({key: check(fields, key) for key, check in optional.items() if fields.has(key)})
    fields.finish()
    return values


def _bounded(key: str) -> Check:
    return integer(*BOUNDS[key])


FILES: Schema = {"files": of_names(Fields.digest), "bytes": of_names(integer(0, 1 << 60))}
"""Of every manifest."""
_COUNT = integer(0, MOST_ROWS)
_ID = choice("int64", "string")
SERVING: Schema = {
    "layout": choice(*LAYOUTS),
    **{key: _bounded(key) for key in ("top_k", "max_top_k", "max_batch_size")},
    **{key: _bounded(key) for key in ("max_queue_delay_microseconds", "max_queue_rows", "max_request_milliseconds")},
    "default_timeout_microseconds": _bounded("default_timeout_microseconds"),
    **{key: or_null(_bounded(key)) for key in INSTANCES},
    "instances": _bounded("instances"),
    "tower_platform": choice("python", "onnxruntime"),
    "tower_device": choice("cpu", "gpu"),
    "threads": _bounded("threads"),
    **{key: _bounded(key) for key in ("max_exclude_item_ids", "max_history_item_ids")},
}
"""`serving` of the manifest: the recipe's `[serving]`."""
PROMOTION: Schema = {
    "max_recall_loss": real(0.0, 1.0),
    "min_overlap": real(0.0, 1.0),
    "k": one_of(*AT),
    "users": _bounded("users"),
    "keep": _bounded("keep"),
}
"""`promotion` of the manifest: the recipe's `[release]`."""
MANIFEST: Schema = {
    "format": integer(FORMAT, FORMAT),
    "name": Fields.text,
    "created": Fields.time,
    "recipe_sha256": Fields.digest,
    "versions": of_names(Fields.text),
    "counts": object_of(
        {"users": _COUNT, "items": _COUNT, "interactions": integer(0, 1 << 40)},
        {"trained_items": integer(1, MOST_ROWS)},
    ),
    "dim": integer(1, MOST_DIMENSIONS),
    "metric": choice(*METRICS),
    "pairing": Fields.digest,
    "vocabulary_sha256": Fields.digest,
    "release": Fields.digest,
    "id_dtype": object_of({"user_id": _ID, "item_id": _ID}),
    "serving": object_of(SERVING),
    "promotion": object_of(PROMOTION),
    **FILES,
}
DERIVED: Schema = {
    "derived_from": object_of(
        {
            "release": Fields.digest,
            "pairing": Fields.digest,
            "changes": object_of(dict.fromkeys(("add", "update", "remove"), _COUNT)),
            "dead_when_indexed": _COUNT,
        },
        {"lineage": Fields.digest, "package": Fields.digest, "sequence": integer(0, 1 << 40)},
    )
}
"""Of a release that was made of another one."""


def check_manifest(fields: Fields) -> None:
    """Raise InvalidRelease, naming the field, unless the manifest is one of a release that can be served."""
    manifest = taken(fields, MANIFEST, DERIVED)
    origin = manifest.get("derived_from", {})
    if len({"lineage", "package", "sequence"} & set(origin)) not in (0, 3):
        raise fields.error("derived_from must have lineage, package and sequence, or none of the three")
    if origin and "trained_items" not in manifest["counts"]:
        raise fields.error("counts, trained_items is missing, which a derived release has")
    reason = contradiction(manifest["serving"], manifest["counts"]["items"])
    if reason is not None:
        raise fields.error(f"serving, {reason}")


def contradiction(serving: Mapping[str, Any], items: int = 0) -> str | None:
    """Return which options of `[serving]` contradict each other, over so many items; None: none."""
    if serving["top_k"] > serving["max_top_k"]:
        return f"top_k is {serving['top_k']}, above max_top_k, {serving['max_top_k']}"
    if serving["tower_device"] == "gpu" and serving["tower_platform"] != "onnxruntime":
        return 'tower_device = "gpu" needs tower_platform = "onnxruntime", a Triton that has that backend'
    longest, rows = min(serving["max_top_k"], items), serving["max_batch_size"]
    if 0 < serving["max_queue_rows"] < rows:
        return f"max_queue_rows is {serving['max_queue_rows']}: no full request of max_batch_size, {rows}, would fit"
    if longest * rows * _ANSWER_BYTES > LARGEST_ANSWER:
        return (
            f"max_batch_size is {rows}: so many rows of {longest} items are more than {LARGEST_ANSWER} bytes, the "
            "longest answer that gRPC sends; lower max_batch_size or max_top_k"
        )
    for key in INSTANCES:
        if (serving[key] or 1) * serving["threads"] > MOST_THREADS:
            return f"{key} is {serving[key]}, of {serving['threads']} threads each: more than {MOST_THREADS} in all"
    return None
