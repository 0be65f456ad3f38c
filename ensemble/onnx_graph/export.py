"""Write a release as one ONNX graph, compared with the release for its users before it is kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime as ort

from ensemble.batch.everybody import known_users
from ensemble.onnx_graph.builder import Builder
from ensemble.onnx_graph.columns import RawColumns
from ensemble.onnx_graph.recommender import best
from ensemble.onnx_graph.tower import whole_tower
from ensemble.release.raw_feeds import EXCLUDE, ITEMS, PADDING, Unsupported, raw_feeds
from ensemble.serving.files.release import Release
from ensemble.serving.index.engine import PARAMETERS
from ensemble.serving.query.sequence import TIME
from ensemble.serving.query.times import FAR
from ensemble.serving.query.transform import Column
from ensemble.serving.retriever import Retriever
from ensemble.serving.search.candidates import has_ranker
from ensemble.serving.triton.tensors import USER, Request
from workflows.errors import ReleaseError
from workflows.files import atomic_write
from workflows.progress import Progress

TOLERANCE = 1e-5
USERS, ROWS = 20_000, 64
"""So many users are compared at most, drawn evenly, and so many at a time."""

Feeds = Mapping[str, np.ndarray]


class Written(NamedTuple):
    """What was written."""

    path: Path
    inputs: dict[str, str]
    """ONNX type by name."""
    top_k: int
    users: int
    """How many were compared with the release."""
    swapped: int
    """Of these, users with neighbouring items in the other order, whose scores are equal within rounding."""
    bytes: int


def write_onnx(release: Release, top_k: int, out: Path, progress: Progress) -> Written:
    """Write a release as one ONNX graph, compared with the release before it is kept.

    Parameters
    ----------
    release
        The verified release.
    top_k
        Items in an answer, at most as many as the release has.
    out
        The file, whose name ends in .onnx.
    progress
        Called with a line of text before each step.

    Returns
    -------
    Written
        The file, its inputs, and how many users were compared.

    Raises
    ------
    ReleaseError
        ONNX cannot express something in the release; or the graph's answers differ from the release's, scores by more
        than `TOLERANCE`.
    """
    if out.suffix != ".onnx" or out.is_dir():
        raise ReleaseError(f"--out {out}: --format onnx writes one file; give it a name that ends in .onnx")
    retriever = Retriever(release)
    progress("writing the graph")
    model = build(retriever, top_k)
    onnx.checker.check_model(model)
    content = model.SerializeToString()
    session = _opened(content)
    progress("comparing its answers with the release's")
    users, swapped = check(session, retriever, top_k)
    atomic_write(out, content)
    inputs = {tensor.name: f"{tensor.type} {tensor.shape}" for tensor in session.get_inputs()}
    return Written(out, inputs, min(top_k, retriever.size[0]), users, swapped, len(content))


def check_graph(graph: bytes, release: Release) -> None:
    """Compare a release's graph, for its own `top_k`, with the release; raise ReleaseError as `write_onnx`."""
    check(_opened(graph), Retriever(release), int(release.manifest["serving"]["top_k"]))


def build(retriever: Retriever, top_k: int) -> onnx.ModelProto:
    """Return the graph of a loaded release; raise ReleaseError naming what cannot be expressed."""
    release, rows = retriever.release, retriever.catalogue.rows
    if has_ranker(release):
        raise ReleaseError(f"{release.path}: the release ranks, which one graph cannot express; export it without")
    graph = Builder()
    try:
        columns = RawColumns(graph, release.path / "query", rows.ids[: release.trained_items])
        raw = columns.take()
        features = columns.features(raw)
    except Unsupported as reason:
        raise ReleaseError(f"{release.path}: {reason}; leave the feature out, or serve the release") from None
    tower = whole_tower(release)
    vectors = graph.embed(tower, {tensor.name: features[tensor.name] for tensor in tower.graph.input})
    excluded = graph.take(EXCLUDE, "string" if rows.ids.dtype == object else "int64", ["n", "excluded_length"])
    items = np.asarray(rows.vectors[rows.live]), rows.ids[rows.live]
    metric = release.json(PARAMETERS)["metric"]
    model = graph.model(best(graph, vectors, items, metric, top_k, [raw[ITEMS], excluded]))
    onnx.helper.set_model_props(model, _facts(release))
    return model


def _facts(release: Release) -> dict[str, str]:
    """Return what the file says of itself."""
    stated = release.manifest
    nulls = {**{dtype: repr(value) for dtype, value in PADDING.items()}, "float64": "NaN"}
    facts = {f"null_{dtype}": value for dtype, value in nulls.items()}
    return {**facts, **{name: str(stated[name]) for name in ("name", "release", "pairing")}}


def check(session: Any, retriever: Retriever, top_k: int) -> tuple[int, int]:
    """Compare the answers to the release's users; return how many there are, and how many are `Written.swapped`.

    Raises ReleaseError: an answer differs.
    """
    compared = swapped = 0
    for users, request, feeds in requests(retriever, min(top_k, retriever.size[0])):
        expected = retriever.answer(request)
        ids, scores, counts = session.run(["item_id", "score", "count"], dict(feeds))
        real = np.arange(ids.shape[1]) < counts[:, None]
        if not np.array_equal(counts, expected.count):
            raise _differs(users[(counts != expected.count).argmax()], "another number of items")
        width = min(ids.shape[1], expected.item_id.shape[1])
        theirs, expected_scores, real = expected.item_id[:, :width], expected.score[:, :width], real[:, :width]
        scale = max(1.0, float(np.abs(expected_scores[real]).max(initial=0.0)))
        apart = np.where(real, np.abs(scores[:, :width] - expected_scores), 0)
        if float(apart.max(initial=0.0)) > TOLERANCE * scale:
            raise _differs(users[apart.max(axis=1).argmax()], f"scores that differ by {apart.max():.2g}")
        differing = ((ids[:, :width] != theirs) & real).any(axis=1)
        for row in np.flatnonzero(differing).tolist():
            if not _is_swapped(ids[row], theirs[row], expected_scores[row], real[row], scale):
                raise _differs(users[row], "other items")
        compared, swapped = compared + len(users), swapped + int(differing.sum())
    return compared, swapped


def _is_swapped(ids: np.ndarray, theirs: np.ndarray, scores: np.ndarray, real: np.ndarray, scale: float) -> bool:
    """Return whether items stand elsewhere only among those of equal scores, within the rounding of float32."""
    wrong = np.flatnonzero((ids[: len(theirs)] != theirs) & real)
    places = {item: place for place, item in enumerate(theirs.tolist())}
    near = 64 * float(np.finfo(np.float32).eps) * scale
    return all(
        abs(float(scores[places.get(ids[place], len(scores) - 1)]) - float(scores[place])) <= near
        for place in wrong.tolist()
    )


def requests(retriever: Retriever, top_k: int) -> Iterator[tuple[np.ndarray, Request, Feeds]]:
    """Yield users, what the release is asked for them, right after their newest interaction, and what the graph is."""
    users = int(retriever.release.manifest["counts"]["users"])
    chosen = np.unique(np.linspace(0, users - 1, min(USERS, users)).astype(np.int64))
    for start in range(0, len(chosen), ROWS):
        yield request_of(retriever, chosen[start : start + ROWS], top_k)


def request_of(retriever: Retriever, rows: np.ndarray, top_k: int) -> tuple[np.ndarray, Request, Feeds]:
    """Return the users of some rows, what the release is asked for them, and what the graph is."""
    users, ids = known_users(retriever.release)[rows], retriever.catalogue.rows.ids
    newest = retriever.history.until(rows, np.full(len(rows), FAR), 1).seconds
    columns = {USER: Column(users), TIME: Column(newest.max(axis=1, initial=0))}
    nothing = np.zeros(0, np.int64), ids[:0]
    request = Request(columns, np.full(len(rows), top_k), np.zeros(len(rows), bool), nothing)
    excluded = np.zeros((len(rows), 0), dtype=ids.dtype)
    return users, request, {**raw_feeds(retriever, columns, rows), EXCLUDE: excluded}


def _opened(content: bytes) -> Any:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _differs(user: Any, how: str) -> ReleaseError:
    return ReleaseError(
        f"no graph was kept: it answers user {user} with {how} than the release; report it with the recipe and the "
        "versions that `pip freeze` prints"
    )
