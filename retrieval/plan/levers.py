"""What would have to change for a training to fit into so much memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from models.config import Model, Sampled, Train
from retrieval.plan.memory import training
from retrieval.plan.shapes import Shapes
from workflows.features.plan import FeatureSpec

LEAST_BATCH, LEAST_WIDTH, LEAST_HISTORY = 128, 8, 5
MANY_CODES = 1000
"""A vocabulary smaller than this is not worth cutting."""


@dataclass(frozen=True)
class Setup:
    """What is trained."""

    shapes: Shapes
    model: Model
    train: Train

    @property
    def counted(self) -> int:
        """Return what it takes besides the base, bytes."""
        return training(self.shapes, self.model, self.train).counted


@dataclass(frozen=True)
class Lever:
    """A change of the recipe, and what it costs in other ways."""

    change: str
    price: str
    saves: int
    """Bytes, alone."""


@dataclass(frozen=True)
class Advice:
    """Whether it fits, and what to change."""

    budget: int
    peak: int
    fits: bool
    levers: list[Lever]
    """Each alone, the best first."""
    together: list[str]
    """Changes that make it fit if they are made together; empty where it fits."""
    peak_together: int
    """With these; more than the budget where nothing here is enough."""


def advise(setup: Setup, base: int, budget: int) -> Advice:
    """Return what makes the train stage fit into `budget` bytes, given what its base takes."""
    peak = base + setup.counted
    levers = sorted((_lever(setup, *change) for change in _changes(setup)), key=lambda lever: -lever.saves)
    together, changed = [], setup
    while base + changed.counted > budget:
        step = max(_changes(changed), key=lambda change: changed.counted - change[2].counted, default=None)
        if step is None or step[2].counted >= changed.counted:
            break
        together.append(step[0])
        changed = step[2]
    helpful = [lever for lever in levers if lever.saves > 0]
    return Advice(budget, peak, peak <= budget, helpful, _last_of_each(together), base + changed.counted)


def _lever(setup: Setup, change: str, price: str, changed: Setup) -> Lever:
    return Lever(change, price, setup.counted - changed.counted)


def _last_of_each(changes: list[str]) -> list[str]:
    """Return the last value that each field was given, in the order in which they were first changed."""
    return list({change.partition(" = ")[0]: change for change in changes}.values())


def _changes(setup: Setup) -> Iterator[tuple[str, str, Setup]]:
    """Yield (change, price, setup) of each step down."""
    for step in (_batch, _candidates, _teacher, _refit, _width, _history):
        change = step(setup)
        if change is not None:
            yield change
    yield from _vocabularies(setup)


_Step = tuple[str, str, Setup]


def _batch(setup: Setup) -> _Step | None:
    size = setup.train.batch_size // 2
    if size < LEAST_BATCH:
        return None
    change = f"train.batch_size = {size}"
    return change, "more steps per epoch; the learning rate may want to follow", _training(setup, batch_size=size)


def _candidates(setup: Setup) -> _Step | None:
    if isinstance(setup.train.objective.candidates, Sampled):
        return None
    objective = msgspec.structs.replace(setup.train.objective, candidates=Sampled())
    change = 'train.objective.candidates = { kind = "sampled" }'
    return change, "an estimate of the softmax instead of the whole one", _training(setup, objective=objective)


def _teacher(setup: Setup) -> _Step | None:
    taught = setup.train.distillation
    if taught is None:
        return None
    if taught.peers and taught.generations:
        fewer = msgspec.structs.replace(taught, peers=())
        return "train.distillation.peers = []", "the towers alone teach", _training(setup, distillation=fewer)
    return "train.distillation = none", "towers without a teacher", _training(setup, distillation=None)


def _refit(setup: Setup) -> _Step | None:
    taught = setup.train.distillation
    if not setup.train.refit or (taught is not None and taught.generations):
        return None
    return "train.refit = false", "the validation rows are not learned from", _training(setup, refit=False)


def _width(setup: Setup) -> _Step | None:
    width = setup.model.embedding_dim // 2
    if width < LEAST_WIDTH:
        return None
    model = msgspec.structs.replace(setup.model, embedding_dim=width)
    return f"model.embedding_dim = {width}", "coarser tables", replace(setup, model=model)


def _history(setup: Setup) -> _Step | None:
    spec = next((feature for feature in setup.shapes.query if feature.kind == "sequence"), None)
    if spec is None or spec.max_length // 2 < LEAST_HISTORY:
        return None
    length = spec.max_length // 2
    shapes = _with(setup.shapes, spec.name, max_length=length)
    return f"query.features.history.last = {length}", "a shorter memory", replace(setup, shapes=shapes)


def _vocabularies(setup: Setup) -> Iterator[_Step]:
    for side in ("query", "item"):
        for spec in getattr(setup.shapes, side):
            if spec.kind in ("categorical", "list", "weighted-list") and spec.cardinality >= MANY_CODES:
                size = spec.cardinality // 2
                shapes = _with(setup.shapes, spec.name, cardinality=size)
                field = "max_tokens" if spec.max_length and spec.source == "title" else "max_size"
                change = f"{side}.features.{spec.source}.{field} = {size}"
                yield change, "the rarer half counts as unseen", replace(setup, shapes=shapes)


def _training(setup: Setup, **changes: Any) -> Setup:
    return replace(setup, train=msgspec.structs.replace(setup.train, **changes))


def _with(shapes: Shapes, name: str, **changes: Any) -> Shapes:
    def changed(spec: FeatureSpec) -> FeatureSpec:
        return msgspec.structs.replace(spec, **changes) if spec.name == name else spec

    return replace(shapes, query=tuple(map(changed, shapes.query)), item=tuple(map(changed, shapes.item)))
