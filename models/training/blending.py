"""Which simple models are blended with the towers, and how much each counts: what ranks validation rows best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from heapq import nlargest
from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import csr_matrix

from models.baselines.baseline import Refused
from models.baselines.factors import KEPT, KINDS, Blended, Product, factors_of, product_of, tried
from models.baselines.task import count_later, interaction_matrix
from models.config import Blend, Model, Rating, Train
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


class Candidate(NamedTuple):
    """A simple model with its settings."""

    kind: str
    peer: Blended

    def __str__(self) -> str:
        settings = ", ".join(f"{name} {value:g}" for name, value in self.peer.settings().items())
        return f"{self.kind} ({settings})"


@dataclass(frozen=True)
class Blending:
    """What was chosen; no `weights`: the towers alone."""

    weights: Mapping[Candidate, float]
    """Of each model's scores with a standard deviation of 1, beside `share` times the towers'."""
    share: float
    figures: Mapping[str, float]
    """The validation figure of what was tried alone, and of the blend, by name."""

    def described(self) -> dict[str, Any]:
        """Return it as JSON."""
        models = [
            {"kind": kind, "settings": peer.settings(), "weight": weight}
            for (kind, peer), weight in self.weights.items()
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
    if train.warm_start and not train.warm_start.search:
        raise RecipeError("[model.blend] is chosen by a search: set train.warm_start.search = true, or leave it out")


def choose(
    tower: TwoTowerModel, data: FeatureSet, validation: Validation, blend: Blend, rating: Rating, progress: Progress
) -> Blending:
    """Fit simple models on the training rows, and add them to one another and to the towers while that helps.

    A kind that cannot be fitted here is left out.
    """
    validation.set_model(tower)  # an interrupted training may have had nothing left to do
    board, interactions = Board.of(validation, tower), _Interactions.of(data, ("train",), rating)
    members: dict[Candidate, Float32Array] = {}
    for kind in KINDS if interactions.table.nnz else ():
        try:
            members |= _best(kind, board, data, validation, interactions, blend, progress)
        except Refused as reason:
            progress(f"{kind} is left out: {reason}")
    weights, figures = mix({TOWERS: board.towers, **members}, board)
    towers = weights.pop(TOWERS, 0.0)
    scale = board.deviation / towers if towers else 1.0  # so that the towers' own scores stay as they are
    chosen = {candidate: float(weights[candidate] * scale) for candidate in members if candidate in weights}
    blending = Blending(chosen, 1.0 if towers else 0.0, figures)
    progress(_line(blending, board.figure_name))
    return blending


def blended(
    tower: TwoTowerModel, data: FeatureSet, parts: Sequence[str], chosen: Blending, model: Model, rating: Rating
) -> TwoTowerModel | BlendedTowers:
    """Fit what was chosen on the rows of parts, and return the towers with its factors beside them."""
    if not chosen.weights or model.blend is None:
        return tower
    known = _Interactions.of(data, parts, rating)
    products = [(weight, known.product(candidate.peer)) for candidate, weight in chosen.weights.items()]
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
        table = interaction_matrix(users, items, shape)
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
    blend: Blend,
    progress: Progress,
) -> dict[Candidate, Float32Array]:
    """Return the models of a kind that rank validation rows best, with their scores for the board's queries."""
    users = validation.queries.column(id_feature(data.query_specs, "query").name)[board.queries].astype(np.int64)
    figures, best = dict[Candidate, float](), dict[Candidate, Float32Array]()
    rank = blend.width(*interactions.table.shape)
    for candidate in (Candidate(kind, peer) for peer in tried(kind, interactions.table.nnz, rank)):
        best[candidate] = board.masked(interactions.product(candidate.peer).scores(users, _item_codes(data)))
        figures[candidate] = board.figure(best[candidate])
        progress(f"blend: {candidate}: validation {board.figure_name} {figures[candidate]:.4f}")
        best = {each: best[each] for each in nlargest(KEPT, best, key=figures.__getitem__)}
    return best


def _line(chosen: Blending, figure: str) -> str:
    parts = ["the towers"] if chosen.share else []
    parts += [f"{weight:.3g} x {candidate}" for candidate, weight in chosen.weights.items()]
    figures = ", ".join(f"{name} {value:.4f}" for name, value in chosen.figures.items())
    return f"blend: {' + '.join(parts)}; validation {figure}: {figures}"
