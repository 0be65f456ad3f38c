"""Exports a release as SavedModels, which are compared with the release before they are kept.

`query_tower/1` has the signature `encode`. `recommend/1` has `recommend` and `recommend_excluding` over the tower's
features and, if TensorFlow can express the whole transform, `recommend_raw` and `recommend_raw_excluding` over raw
columns. The number is the version for TensorFlow Serving. `manifest.json` documents inputs, outputs and origin.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from ensemble.release.congruence import TOLERANCE, exact_scores, raw_columns, sample_queries
from ensemble.release.raw_feeds import EXCLUDE, PADDING, Unsupported, raw_feeds
from ensemble.release.write import listing
from ensemble.savedmodel.columns import RawColumns
from ensemble.savedmodel.recommender import Items
from ensemble.serving.files.release import MANIFEST, Release
from ensemble.serving.index.engine import PARAMETERS
from ensemble.serving.retriever import Retriever
from ensemble.serving.triton.tensors import NO_SCORE
from models.towers.two_tower import TwoTowerModel
from models.training.export import tensors_of
from workflows.errors import ReleaseError
from workflows.features.stage import FeatureSpec
from workflows.files import atomic_directory, json_bytes
from workflows.progress import Progress

FORMAT, KIND = 1, "saved-models"
TOWER, RECOMMEND = "query_tower/1", "recommend/1"

Feeds = Mapping[str, tf.Tensor]
Function = Callable[[Feeds], dict[str, tf.Tensor]]


class Source(NamedTuple):
    """The source of an export."""

    release: Release
    model: TwoTowerModel
    """The towers that the release was made of."""
    specs: Sequence[FeatureSpec]
    """Of the query tower."""
    features: Path
    """The run's features, for sample queries."""


def write_saved_models(source: Source, top_k: int, out: Path, progress: Progress) -> dict[str, Any]:
    """Write a release as SavedModels.

    Parameters
    ----------
    source
        The release, the towers that it was made of, and the run's features.
    top_k
        Items in an answer.
    out
        Directory of the SavedModels; an earlier export is replaced.
    progress
        Called with a line of text before each step.

    Returns
    -------
    dict
        The manifest: inputs and outputs of every signature, and where they come from.

    Raises
    ------
    ReleaseError
        Their answers differ from the release's by more than `TOLERANCE`, or `out` holds something else.
    """
    _check_place(out)
    retriever = Retriever(source.release)
    with atomic_directory(out) as temporary:
        samples = _Samples(source, retriever)
        encode = _tower(source, samples.features)
        recommend = _Recommend(source, retriever, top_k)
        progress("writing the query tower")
        signatures = {TOWER: _save(_holder(source.model), {"encode": encode}, temporary / TOWER)}
        progress("writing the query tower with the items")
        signatures[RECOMMEND] = _save(recommend.module, recommend.signatures(encode), temporary / RECOMMEND)
        progress("comparing their answers with the release's")
        samples.check(temporary, top_k, recommend.raw is not None)
        manifest = _manifest(source, recommend, signatures, temporary)
        (temporary / MANIFEST).write_bytes(json_bytes(manifest))
    return manifest


class _Recommend:
    """The second SavedModel."""

    def __init__(self, source: Source, retriever: Retriever, top_k: int) -> None:
        rows = retriever.catalogue.rows
        metric = source.release.json(PARAMETERS)["metric"]
        self.module = _holder(source.model)
        self.items = Items(rows.vectors[rows.live], rows.ids[rows.live], metric)
        self.top_k, self.left_out = top_k, ""
        self.raw: RawColumns | None = None
        try:
            # A history's codes are those of the items that the towers were trained with, which may be gone by now.
            self.raw = RawColumns(source.release.path / "query", rows.ids[: source.release.trained_items])
        except Unsupported as reason:
            self.left_out = str(reason)
        self.module.items, self.module.raw = self.items, self.raw.resources if self.raw is not None else {}

    def signatures(self, encode: Any) -> dict[str, Any]:
        """Return the signatures by name."""
        features = _inputs(encode)
        signatures = self._pair("recommend", features, lambda feeds: encode(**feeds)["vector"])
        if self.raw is not None:
            raw = self.raw

            def encode_raw(feeds: Feeds) -> tf.Tensor:
                features_of = raw(feeds)
                return encode(**{name: features_of[name] for name in features})["vector"]

            signatures.update(self._pair("recommend_raw", raw.signature(), encode_raw))
        return signatures

    def _pair(self, name: str, specs: dict[str, tf.TensorSpec], vectors: Callable[[Feeds], tf.Tensor]) -> Any:
        items, top_k = self.items, self.top_k

        def excluding(feeds: Feeds) -> dict[str, tf.Tensor]:
            rest = {key: value for key, value in feeds.items() if key != EXCLUDE}
            return items.best(vectors(rest), top_k, feeds[EXCLUDE])

        excluded = {EXCLUDE: tf.TensorSpec([None, None], items.ids.dtype, EXCLUDE)}
        return {
            name: _concrete(lambda feeds: items.best(vectors(feeds), top_k), specs),
            f"{name}_excluding": _concrete(excluding, {**specs, **excluded}),
        }


class _Samples:
    """Sample queries with the release's features, vectors and answers."""

    def __init__(self, source: Source, retriever: Retriever) -> None:
        release = source.release
        stated = release.json("query/transform.json")["inputs"]
        queries = sample_queries(source.features, [column["name"] for column in stated])
        columns = raw_columns(queries, release)
        users = retriever.users.rows_of(columns["user_id"].values)
        self.retriever, self.users = retriever, users
        self.features = retriever.features.compute(columns, users)
        self.vectors = retriever.tower.encode(self.features)
        self.raw = raw_feeds(retriever, columns, users)

    def check(self, directory: Path, top_k: int, raw: bool) -> None:
        """Raise ReleaseError if the SavedModels do not answer as the release does."""
        tower = tf.saved_model.load(str(directory / TOWER)).signatures["encode"]
        self._compare("encode", tower(**self._fed(tower, self.features))["vector"].numpy(), self.vectors)
        model = tf.saved_model.load(str(directory / RECOMMEND))
        live = np.flatnonzero(self.retriever.catalogue.rows.live)
        ids = self.retriever.catalogue.rows.ids
        metric = self.retriever.release.json(PARAMETERS)["metric"]
        scores = exact_scores(
            self.vectors.astype(np.float64), self.retriever.search.vectors[live].astype(float), metric
        )
        best = -np.sort(-scores, axis=1)
        k = min(top_k, len(live))
        places = {value: place for place, value in enumerate(ids[live].tolist())}
        for name, feeds in {"recommend": self.features, **({"recommend_raw": self.raw} if raw else {})}.items():
            plain, excluding = model.signatures[name], model.signatures[f"{name}_excluding"]
            answer = plain(**self._fed(plain, feeds))
            self._compare(name, answer["score"].numpy(), best[:, :k])
            own = [[places[_plain(item_id)] for item_id in row] for row in answer["item_id"].numpy().tolist()]
            self._compare(name, np.take_along_axis(scores, np.array(own), axis=1), best[:, :k])
            answer = excluding(**self._fed(excluding, {**feeds, EXCLUDE: answer["item_id"][:, :1].numpy()}))
            expected = np.pad(best, ((0, 0), (0, 1)), constant_values=NO_SCORE)[:, 1 : k + 1]
            self._compare(f"{name}_excluding", answer["score"].numpy(), expected)

    @staticmethod
    def _fed(signature: Any, feeds: Mapping[str, np.ndarray]) -> dict[str, tf.Tensor]:
        specs = _inputs(signature)
        return {name: tf.constant(feeds[name].tolist(), spec.dtype, feeds[name].shape) for name, spec in specs.items()}

    @staticmethod
    def _compare(what: str, answered: np.ndarray, expected: np.ndarray) -> None:
        scale = max(1.0, float(np.abs(expected[expected > NO_SCORE]).max(initial=0.0)))
        if answered.shape != expected.shape or not np.allclose(answered, expected, rtol=0, atol=TOLERANCE * scale):
            raise ReleaseError(
                f"no SavedModel was kept: what '{what}' answers is not the release's within {TOLERANCE}; report it "
                "with the recipe and the versions that `pip freeze` prints"
            )


def _holder(model: TwoTowerModel) -> Any:
    """Return a module with the query tower's variables, and nothing else of Keras or Merlin."""
    module = tf.Module()
    module.weights = list(model.query_encoder.variables)
    return module


def _tower(source: Source, sample: Mapping[str, np.ndarray]) -> Any:
    # Once outside of a graph: restored weights exist only then.
    source.model.query_vectors({name: tf.constant(values[:1]) for name, values in sample.items()})
    specs = {tensor.name: tensor for spec in source.specs for tensor in tensors_of(spec)}
    return _concrete(lambda feeds: {"vector": source.model.query_vectors(feeds)}, specs)


def _concrete(function: Function, specs: Mapping[str, tf.TensorSpec]) -> Any:
    return tf.function(lambda **feeds: function(feeds), autograph=False).get_concrete_function(**specs)


def _inputs(signature: Any) -> dict[str, tf.TensorSpec]:
    return dict(signature.structured_input_signature[1])


def _save(module: Any, signatures: dict[str, Any], place: Path) -> dict[str, Any]:
    """Write one SavedModel; return the inputs and outputs of its signatures."""
    tf.saved_model.save(module, str(place), signatures)
    return {
        name: {
            "inputs": {key: _described(spec) for key, spec in _inputs(signature).items()},
            "outputs": {key: _described(spec) for key, spec in signature.structured_outputs.items()},
        }
        for name, signature in signatures.items()
    }


def _described(spec: Any) -> dict[str, Any]:
    return {"dtype": spec.dtype.name, "shape": spec.shape.as_list()}


def _manifest(source: Source, recommend: _Recommend, signatures: dict[str, Any], directory: Path) -> dict[str, Any]:
    stated = source.release.manifest
    return {
        "format": FORMAT,
        "kind": KIND,
        "name": stated["name"],
        "release": stated["release"],
        "pairing": stated["pairing"],
        "dim": stated["dim"],
        "metric": recommend.items.metric,
        "counts": {"items": int(recommend.items.vectors.shape[0])},
        "top_k": min(recommend.top_k, int(recommend.items.vectors.shape[0])),
        "padding": PADDING[recommend.items.ids.dtype.name],
        "nulls": {**PADDING, "float64": "NaN"},
        "raw_left_out": recommend.left_out,
        "tensorflow": tf.__version__,
        "signatures": signatures,
        **listing(directory),
    }


def _check_place(out: Path) -> None:
    """Refuse to replace anything but an earlier export."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    try:
        kind = json.loads((out / MANIFEST).read_text(encoding="utf-8"))["kind"]
    except (OSError, ValueError, KeyError, TypeError):
        kind = None
    if kind != KIND:
        raise ReleaseError(f"--out {out}: holds something else than an earlier export; choose a new directory")


def _plain(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value
