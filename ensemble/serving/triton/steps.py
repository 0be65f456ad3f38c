"""Inputs and outputs of the chained models, the tensors between them, and what the models share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..errors import InvalidRequest
from ..files.onnx_file import check_file
from ..files.release import PAIRED, Release
from ..names import CANDIDATES, FEATURES, KNOWN, LEAST, USER_ROW, VECTOR, check_query
from ..query.sequence import HISTORY
from ..search.candidates import RANKER, has_ranker
from .tensors import NO_SCORE, USER, WIRE, Arrays, Outputs, Request, Tensor, extremes, input_tensors, output_tensors

if TYPE_CHECKING:
    from ..retriever import Answer

_TRANSFORM_ONLY = ("history_timestamps",)
_BOTH = ("history_item_ids",)
_TOWER = PAIRED[0]


class Step(NamedTuple):
    """Inputs and outputs of a chained model."""

    inputs: list[Tensor]
    outputs: list[Tensor]


class Steps(NamedTuple):
    """The chain over one release."""

    request: list[Tensor]
    """What a client sends."""
    transform: Step
    tower: Step
    search: Step
    rank: Step | None
    """Of a release that ranks."""


def steps_of(release: Release) -> Steps:
    """Return the tensors of the chained models; with an onnxruntime tower, features are passed by name."""
    stated, id_dtype = release.json("query/transform.json"), release.manifest["id_dtype"]
    inputs, features = ([column["name"] for column in stated[key]] for key in ("inputs", "outputs"))
    check_query(inputs, features, str(release.path / "query/transform.json"))
    history = any(feature["name"] == HISTORY for feature in stated["outputs"])
    request = input_tensors(stated["inputs"], id_dtype, history)
    columns = {USER, *_TRANSFORM_ONLY, *_BOTH, *(column["name"] for column in stated["inputs"])}
    ranks = has_ranker(release)
    between, towers, rankers = (
        feature_tensors(release, stated["outputs"], graphs)
        for graphs in ((_TOWER, RANKER) if ranks else (_TOWER,), (_TOWER,), (RANKER,) if ranks else ())
    )
    row, vector = Tensor(USER_ROW, "INT64", 1), Tensor(VECTOR, "FP32", int(release.manifest["dim"]))
    controls = [tensor for tensor in request if tensor.name not in columns or tensor.name in _BOTH]
    outputs = output_tensors(id_dtype)
    candidates = [Tensor(CANDIDATES, "INT64", -1), Tensor(LEAST, "FP32", 1)]
    top_k = [tensor for tensor in controls if tensor.name == "top_k"]
    known = [tensor for tensor in outputs if tensor.name == KNOWN]
    return Steps(
        request,
        Step([tensor for tensor in request if tensor.name in columns], [*between, row]),
        Step(towers, [vector]),
        Step([vector, row, *controls], [*candidates, *known] if ranks else outputs),
        Step(
            [*rankers, vector, candidates[0]._replace(ragged=True), candidates[1], *top_k],
            [tensor for tensor in outputs if tensor.name != KNOWN],
        )
        if ranks
        else None,
    )


def feature_tensors(release: Release, outputs: Sequence[Mapping[str, Any]], graphs: Sequence[str]) -> list[Tensor]:
    """Return the tensors from the transform to these graphs of the release."""
    if release.manifest["serving"]["tower_platform"] == "python":
        return [Tensor(FEATURES, "UINT8", packing(outputs).itemsize)]
    wire = {**WIRE, "float32": "FP32"}
    # By the graphs: a feature may be two arrays, such as a history and its ages.
    paths = [release.path / graph for graph in graphs]
    graph_inputs = {name for path in paths for name in check_file(path, path.read_bytes())}
    return [
        Tensor(feature["name"], wire[feature["dtype"]], int(feature["max_length"]) if feature["list"] else 1)
        for feature in outputs
        if feature["name"] in graph_inputs
    ]


def packing(outputs: Sequence[Mapping[str, Any]]) -> np.dtype:
    """Return the record type of one row's features, given the `outputs` of a `transform.json`."""
    return np.dtype([(spec["name"], spec["dtype"], (spec["max_length"],) * spec["list"]) for spec in outputs])


def pack(features: Mapping[str, np.ndarray], record: np.dtype, rows: int) -> np.ndarray:
    """Return features as uint8 [rows, record.itemsize]."""
    packed = np.empty(rows, dtype=record)
    for name in record.names or ():
        packed[name] = features[name]
    return packed.view(np.uint8).reshape(rows, record.itemsize)


def unpack(packed: np.ndarray, record: np.dtype) -> dict[str, np.ndarray]:
    """Return the features, [n] or [n, max_length], from the result of `pack`."""
    rows = np.ascontiguousarray(packed).view(record).reshape(-1)
    return {name: np.ascontiguousarray(rows[name]) for name in record.names or ()}


@contextmanager
def fed_by_a_client() -> Iterator[None]:
    """Raise InvalidRequest where a graph is fed what it cannot hold."""
    try:
        yield
    except Exception as error:
        if type(error).__name__ != "InvalidArgument":  # onnxruntime's
            raise
        raise InvalidRequest(f"{FEATURES}: not such as the transform makes; ask the ensemble") from None


def row_slices(sent: Sequence[Arrays], name: str) -> list[slice]:
    """Return the rows of each request within the batch, by the length of its input `name`."""
    bounds = accumulate((len(arrays[name]) for arrays in sent), initial=0)
    return [slice(*pair) for pair in pairwise(bounds)]


def split(answer: Answer, wire_ids: np.ndarray, request: Request, slices: Sequence[slice]) -> list[Outputs]:
    """Return each request's outputs of the answer to a batch, as wide as its largest top_k; past `count` scores are
    NO_SCORE. `wire_ids` are the ids of all rows as they are sent, and that of no item at the end.
    """
    ids = wire_ids[answer.item_index] if answer.item_id.dtype == object else answer.item_id
    counts, known, widest = answer.count[:, None], answer.user_known[:, None], ids.shape[1]
    scores = np.maximum(answer.score, NO_SCORE)
    if len(slices) == 1:
        return [[("item_id", ids), ("score", scores), ("count", counts), ("user_known", known)]]
    alike, outputs = extremes(request.top_k)[0] == widest, []
    for rows in slices:
        own, score = ids[rows], scores[rows]
        if not alike:
            width = int(request.top_k[rows].max())
            own, score = np.ascontiguousarray(own[:, :width]), np.ascontiguousarray(score[:, :width])
        outputs.append([("item_id", own), ("score", score), ("count", counts[rows]), ("user_known", known[rows])])
    return outputs
