"""Which simple model is blended with the trained towers, and how much: what finds most validation rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import tensorflow as tf
from scipy.sparse import csr_matrix

from models.baselines.als import Als
from models.baselines.baseline import Refused
from models.baselines.ease import Ease
from models.baselines.factors import KINDS, Factors, factors_of
from models.baselines.item_knn import ItemKnn
from models.baselines.search import VALIDATION_ROWS, best_of
from models.baselines.task import validation_task
from models.config import Model, Rating, Train
from models.metrics import Float32Array, Int64Array
from models.towers.blending import id_feature
from models.towers.two_tower import UNSEEN, TwoTowerModel
from models.training.early_stopping import Validation
from models.training.ratings import positives
from workflows.columns import Columns
from workflows.errors import RecipeError
from workflows.features.stage import FeatureSet, Part
from workflows.progress import Progress

MANY: Final = 300_000
"""Interactions beyond which only the first settings of each kind are tried."""
WEIGHTS: Final = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64)
"""Of the simple model's scores, with a standard deviation of 1, beside the towers', with one of 0.2 as cosines have."""


@dataclass(frozen=True)
class Blending:
    """What was chosen; `peer` None: the towers alone."""

    kind: str
    peer: Ease | ItemKnn | Als | None
    weight: float
    share: float
    figures: dict[str, float]
    """The monitored validation figure of what was tried, by name."""

    def described(self) -> dict[str, Any]:
        """Return it as JSON."""
        settings = self.peer.settings() if self.peer else {}
        facts = {"weight": self.weight, "share": self.share, "validation": self.figures}
        return {"kind": self.kind, "settings": settings, **facts}


def check_blend(model: Model, train: Train) -> None:
    """Raise RecipeError where a recipe asks for a blend beside what does not go with one."""
    if model.blend is None:
        return
    if train.tasks:
        raise RecipeError(
            "[model.blend] makes vectors longer than the heads of [train.tasks] take; leave one of them out"
        )
    if train.continued and not train.continued.search:
        raise RecipeError("[model.blend] is chosen by a search: set train.continued.search = true, or leave it out")


def choose(
    tower: TwoTowerModel, data: FeatureSet, validation: Validation, rating: Rating, progress: Progress
) -> Blending:
    """Fit simple models on the training rows, and try each alone and the best of them beside the towers.

    A kind that cannot be fitted here is left out. The tower has nothing beside it afterwards.
    """
    validation.set_model(tower)  # an interrupted training may have had nothing left to do
    rank, figures = tower.query_encoder.blocks[0].beside.width, {"towers": _figure(validation)}
    interactions = _interactions(data, data.train, rating)
    task = validation_task(data, rating).sample(VALIDATION_ROWS, seed=0)
    tried = slice(None if interactions.nnz < MANY else 2)
    best = Blending("towers", None, 0.0, 1.0, figures)
    found: tuple[float, str, Ease | ItemKnn | Als, Factors] | None = None
    for kind in KINDS if interactions.nnz else ():
        try:
            peer = best_of(KINDS[kind][tried], kind, task, progress)
            factors = factors_of(peer, interactions, rank)
        except Refused as reason:
            progress(f"{kind} is left out: {reason}")
            continue
        give(tower, factors, 1.0, 0.0)
        figures[f"{kind} alone"] = figure = _figure(validation)
        if found is None or figure > found[0]:
            found = figure, kind, peer, factors
    if found:
        best = _weighed(tower, found, validation, figures)
    clear(tower)
    progress(_line(best))
    return best


def _weighed(
    tower: TwoTowerModel,
    found: tuple[float, str, Ease | ItemKnn | Als, Factors],
    validation: Validation,
    figures: dict[str, float],
) -> Blending:
    alone, kind, peer, factors = found
    scale = 5 * _deviation(tower, validation)
    tried = {(0.0, 1.0): figures["towers"], (1.0, 0.0): alone}
    for weight in (one * scale for one in WEIGHTS):
        give(tower, factors, weight, 1.0)
        tried[weight, 1.0] = figures[f"towers + {weight:g} {kind}"] = _figure(validation)
    weight, share = max(tried, key=lambda one: tried[one])
    return Blending(kind, peer if weight else None, weight, share, figures)


def blend(tower: TwoTowerModel, data: FeatureSet, part: Part, chosen: Blending | None, rating: Rating) -> None:
    """Fit what was chosen on a part's rows and put it beside the towers."""
    if chosen is None or chosen.peer is None:
        return
    rank = tower.query_encoder.blocks[0].beside.width
    factors = factors_of(chosen.peer, _interactions(data, part, rating), rank)
    give(tower, factors, chosen.weight, chosen.share)


def give(tower: TwoTowerModel, factors: Factors, weight: float, share: float) -> None:
    """Put factors beside the towers, for users and items that the vocabularies hold."""
    query, item = tower.query_encoder.blocks, tower.candidate_encoder.blocks
    query[0].beside.factors.assign(_padded(weight * factors.users, query[0].beside.width))
    table = _padded(factors.items, item[0].beside.width)
    item[0].beside.factors.assign(np.where(np.arange(len(table))[:, np.newaxis] > UNSEEN, table, 0))
    query[1].share.assign(share)


def clear(tower: TwoTowerModel) -> None:
    """Leave the towers alone."""
    for encoder in (tower.query_encoder, tower.candidate_encoder):
        encoder.blocks[0].beside.factors.assign(tf.zeros_like(encoder.blocks[0].beside.factors))
    tower.query_encoder.blocks[1].share.assign(1.0)


def _padded(values: Float32Array, width: int) -> Float32Array:
    return np.pad(values[:, :width], ((0, 0), (0, max(0, width - values.shape[1]))))


def _interactions(data: FeatureSet, part: Part, rating: Rating) -> csr_matrix:
    """Return who has what as a positive, float32 `[user codes, item codes]`; what has no code is left out."""
    user, item = id_feature(data.query_specs, "query"), id_feature(data.item_specs, "item")
    users, items = part.query[user.name], _item_codes(data, part)
    kept = positives(part.interactions, rating) & (users > UNSEEN) & (items > UNSEEN)
    ones = np.ones(int(kept.sum()), np.float32)
    found = csr_matrix((ones, (users[kept], items[kept])), shape=(user.cardinality, item.cardinality))
    found.data[:] = 1  # what a user has twice was added up
    return found


def _item_codes(data: FeatureSet, part: Part) -> Int64Array:
    return data.items[id_feature(data.item_specs, "item").name][part.interactions[Columns.ItemIndex].to_numpy()]


def _deviation(tower: TwoTowerModel, validation: Validation) -> float:
    """Return the standard deviation of the towers' own scores for some validation queries, or 0.2 where it is none."""
    own = tower.query_encoder.blocks[0].beside.width
    queries = {name: values[:1000] for name, values in validation.queries.items()}
    scores = tower.query_vectors(queries)[:, :-own].numpy() @ tower.item_vectors()[:, :-own].numpy().T
    deviation = float(scores.std())
    return deviation if np.isfinite(deviation) and deviation else 0.2


def _figure(validation: Validation) -> float:
    return validation.measure()[f"valid_{validation.monitor}"]


def _line(chosen: Blending) -> str:
    name = "the towers alone" if chosen.peer is None else f"{chosen.kind} {chosen.peer.settings()}"
    beside = f", weight {chosen.weight:g} beside the towers" if chosen.share and chosen.peer else ""
    figures = ", ".join(f"{name} {value:.4f}" for name, value in chosen.figures.items())
    return f"blend: {name}{beside}; validation {figures}"
