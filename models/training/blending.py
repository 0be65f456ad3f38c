"""Which simple models are blended with the towers, and how much each counts: what ranks validation rows best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

from models.baselines.baseline import Refused
from models.baselines.factors import KINDS, Blended, Product, factors_of, product_of, tried
from models.baselines.task import count_later
from models.config import Model, Rating, Train
from models.metrics import Float32Array, Int64Array
from models.towers.blending import BlendedTowers, id_feature
from models.towers.two_tower import UNSEEN, TwoTowerModel
from models.training.early_stopping import Validation
from models.training.losses.ratings import positives
from models.training.mixing import TOWERS, Board, mix
from models.training.stream.load import rows_with
from workflows.columns import Columns
from workflows.errors import RecipeError
from workflows.features.stage import FeatureSet
from workflows.progress import Progress


@dataclass(frozen=True)
class Blending:
    """What was chosen; no `peers`: the towers alone."""

    peers: Mapping[str, Blended]
    weights: Mapping[str, float]
    """Of each peer's scores with a standard deviation of 1, beside `share` times the towers'."""
    share: float
    figures: Mapping[str, float]
    """The validation figure of what was tried alone, and of the blend, by name."""

    def described(self) -> dict[str, Any]:
        """Return it as JSON."""
        models = [
            {"kind": name, "settings": peer.settings(), "weight": self.weights[name]}
            for name, peer in self.peers.items()
        ]
        return {"share": self.share, "models": models, "validation": dict(self.figures)}


def check_blend(model: Model, train: Train, data: FeatureSet) -> None:
    """Raise RecipeError where a recipe asks for a blend without ids, or beside what does not go with one."""
    if model.blend is None:
        return
    id_feature(data.query_specs, "query")
    id_feature(data.item_specs, "item")
    if train.tasks:
        raise RecipeError(
            "[model.blend] makes vectors longer than the heads of [train.tasks] take; leave one of them out"
        )
    if train.continued and not train.continued.search:
        raise RecipeError("[model.blend] is chosen by a search: set train.continued.search = true, or leave it out")


def choose(
    tower: TwoTowerModel, data: FeatureSet, validation: Validation, rating: Rating, progress: Progress
) -> Blending:
    """Fit simple models on the training rows, and add them to one another and to the towers while that helps.

    A kind that cannot be fitted here is left out.
    """
    validation.set_model(tower)  # an interrupted training may have had nothing left to do
    board, interactions = Board.of(validation, tower), _Interactions.of(data, ("train",), rating)
    peers: dict[str, Blended] = {}
    members, deviation = {TOWERS: board.towers}, board.deviation
    for kind in KINDS if interactions.table.nnz else ():
        try:
            peers[kind], members[kind] = _best(kind, board, data, validation, interactions, progress)
        except Refused as reason:
            progress(f"{kind} is left out: {reason}")
    weights, figures = mix(members, board)
    towers = weights.pop(TOWERS, 0.0)
    scale = deviation / towers if towers else 1.0  # so that the towers' own scores stay as they are
    chosen = {name: float(weight * scale) for name, weight in weights.items()}
    blending = Blending({name: peers[name] for name in chosen}, chosen, 1.0 if towers else 0.0, figures)
    progress(_line(blending, board.figure_name))
    return blending


def blended(
    tower: TwoTowerModel, data: FeatureSet, parts: Sequence[str], chosen: Blending, model: Model, rating: Rating
) -> TwoTowerModel | BlendedTowers:
    """Fit what was chosen on the rows of parts, and return the towers with its factors beside them."""
    if not chosen.peers or model.blend is None:
        return tower
    known = _Interactions.of(data, parts, rating)
    products = [(chosen.weights[name], known.product(peer)) for name, peer in chosen.peers.items()]
    users, items = factors_of(products, known.table, model.blend.width(*known.table.shape))
    items[: UNSEEN + 1] = 0  # the codes of no item
    return BlendedTowers(tower, users, items, chosen.share)


@dataclass(frozen=True)
class _Interactions:
    """Who has what as a positive, by code; what has no code is left out."""

    table: csr_matrix
    """Float32 `[user codes, item codes]`."""
    later: csr_matrix | None
    """See `models.baselines.task.Task`."""

    @classmethod
    def of(cls, data: FeatureSet, parts: Sequence[str], rating: Rating) -> _Interactions:
        user, item = id_feature(data.query_specs, "query"), id_feature(data.item_specs, "item")
        part = rows_with(data, parts, user.name)
        users, items = part.query[user.name], _item_codes(data)[part.interactions[Columns.ItemIndex].to_numpy()]
        kept = positives(part.interactions, rating) & (users > UNSEEN) & (items > UNSEEN)
        users, items = users[kept].astype(np.int64), items[kept].astype(np.int64)
        shape = user.cardinality, item.cardinality
        table = csr_matrix((np.ones(len(users), np.float32), (users, items)), shape=shape)
        table.data[:] = 1  # what a user has twice was added up
        times = part.interactions[Columns.Timestamp].to_numpy(np.int64)[kept]
        return cls(table, count_later(users, items, times, shape))

    def product(self, peer: Blended) -> Product:
        """Fit a peer."""
        return product_of(peer, self.table, self.later)


def _item_codes(data: FeatureSet) -> Int64Array:
    """Return the code of every item of the catalogue, int64 `[items]`."""
    return data.items[id_feature(data.item_specs, "item").name].astype(np.int64)


def _best(
    kind: str,
    board: Board,
    data: FeatureSet,
    validation: Validation,
    interactions: _Interactions,
    progress: Progress,
) -> tuple[Blended, Float32Array]:
    """Return the peer of a kind that ranks validation rows best, and its scores for the board's queries."""
    users = validation.queries.column(id_feature(data.query_specs, "query").name)[board.queries].astype(np.int64)
    best: tuple[float, Blended, Float32Array] | None = None
    for peer in tried(kind, interactions.table.nnz):
        scores = board.masked(interactions.product(peer).scores(users, _item_codes(data)))
        figure = board.figure(scores)
        progress(f"blend: {kind} {_shown(peer)}: validation {board.figure_name} {figure:.4f}")
        if best is None or figure > best[0]:
            best = figure, peer, scores
    assert best is not None
    return best[1:]


def _shown(peer: Blended) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in peer.settings().items())


def _line(chosen: Blending, figure: str) -> str:
    parts = ["the towers"] if chosen.share else []
    parts += [f"{chosen.weights[name]:.3g} x {name} ({_shown(peer)})" for name, peer in chosen.peers.items()]
    figures = ", ".join(f"{name} {value:.4f}" for name, value in chosen.figures.items())
    return f"blend: {' + '.join(parts)}; validation {figure}: {figures}"
