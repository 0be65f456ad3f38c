"""Towers that go on from those of an earlier run: its weights, its tables' rows where the features have them now."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, Literal, NamedTuple

import merlin.models.tf as mm
import msgspec
import numpy as np
import numpy.typing as npt
import pandas as pd
import tensorflow as tf
from msgspec.structs import replace
from scipy.sparse import csr_matrix

from models.config import Model, Train
from models.metrics import Float32Array, Int64Array
from models.towers.two_tower import UNSEEN, TwoTowerModel, input_names, table_of
from workflows.columns import Columns
from workflows.errors import RecipeError, StageError
from workflows.features.plan import FIRST_ITEM, HISTORY
from workflows.features.stage import FeatureSet, FeatureSpec
from workflows.fitting.warm_start_record import AS_MADE

PhaseName = Literal["search", "refit"]
PHASES: Final[tuple[PhaseName, PhaseName]] = ("search", "refit")
_TABLE: Final = re.compile(r"([^/]+)_embedding/embeddings:0$")
_TRAINING_ONLY: Final = ("dropout", "hidden_dropout", "unseen_rate", "history_dropout", "withheld", "temperature")
"""Fields of `[model]` that the weights do not depend on, nor what they mean."""


class Earlier(NamedTuple):
    """The towers of an earlier run, and what its recipe says of them."""

    towers: Path
    model: Model
    train: Train

    def checkpoint(self, phase: PhaseName) -> tuple[Path, tuple[str, ...]]:
        """Return the weights that a phase goes on from, and the parts of the split that they were trained on."""
        if phase == "refit" and self.train.refit:
            return self.towers / "checkpoints" / "refit", ("train", "valid")
        return self.towers / "checkpoints" / "best", ("train",)


class Start:
    """What a phase of a training goes on from.

    Raises
    ------
    RecipeError
        The towers are not of the earlier run's kind, or were taught what is not carried over.
    """

    def __init__(self, earlier: Earlier, data: FeatureSet, model: Model, train: Train, phase: PhaseName) -> None:
        assert data.warm_start is not None  # the stage `features` went on from the same run
        assert train.warm_start is not None
        self.earlier, self.data, self.warm_start, self.settings = earlier, data, data.warm_start, train.warm_start
        self.run = earlier.towers.parent
        self.checkpoint, self._parts = earlier.checkpoint(phase)
        check_model(model, earlier.model, self.run)
        if train.tasks or earlier.train.tasks:
            raise RecipeError(
                "[train.tasks] has heads that are not carried over; leave it out, or train without --from"
            )

    def newer(self, interactions: pd.DataFrame) -> npt.NDArray[np.bool_]:
        """Return which interactions are learned from, bool `[rows]`."""
        if self.settings.interactions == "all":
            return np.ones(len(interactions), bool)
        last = max(self.warm_start.last[name] for name in self._parts)
        return interactions[Columns.Timestamp].to_numpy(np.int64) > last

    def nothing_newer(self) -> RecipeError:
        """Return what to raise where no row is later than those that the earlier weights were trained on."""
        return RecipeError(
            f'[train.warm_start] interactions = "new": no row to learn from is later than those of {self.run}; '
            'bring newer interactions, split them by time, or set interactions = "all"'
        )

    def give(self, tower: TwoTowerModel) -> None:
        """Give a new model the earlier weights.

        Raises
        ------
        StageError
            The earlier weights are not there, or of another shape.
        """
        old = restored(self.earlier, self.checkpoint)
        _build(tower, self.data.query_specs)
        sides = (
            (old.query_encoder, tower.query_encoder, self.data.query_specs),
            (old.candidate_encoder, tower.candidate_encoder, self.data.item_specs),
        )
        for before, after, specs in sides:
            for variable, values in self._grown(before, after, specs):
                variable.assign(values)
        if tower.log_temperature is not None:
            tower.log_temperature.assign(old.log_temperature)

    def _grown(
        self, before: mm.Encoder, after: mm.Encoder, specs: Sequence[FeatureSpec]
    ) -> Iterator[tuple[tf.Variable, Float32Array]]:
        """Yield the variables of a tower with the values they start from."""
        features = {table_of(spec): spec.name for spec in specs if spec.cardinality}
        if len(before.weights) != len(after.weights):
            raise self._other_shape(f"{len(before.weights)} weights, not {len(after.weights)}")
        for old, new in zip(before.weights, after.weights, strict=True):
            feature = _feature_of(new.name, features)
            if not new.trainable:
                continue  # vectors of a file, which says what they are now
            if feature is not None and old.shape[1:] == new.shape[1:]:
                yield new, self._table(feature, old.numpy(), new.numpy())
            elif old.shape == new.shape:
                yield new, old.numpy()
            else:
                raise self._other_shape(f"{old.name} is {list(old.shape)}, not {list(new.shape)}")

    def _table(self, feature: str, old: Float32Array, new: Float32Array) -> Float32Array:
        rows = self.warm_start.rows[feature]
        grown = np.where((rows == AS_MADE)[:, np.newaxis], new, old[rows])
        if self.settings.new_rows == "attributes":
            codes = _item_codes(feature, self.data)
            if codes is not None:
                set_from_attributes(grown, codes, rows, self.data)
        return grown

    def _other_shape(self, what: str) -> StageError:
        return StageError(f"{self.run}: the towers have {what}; train without --from")


def going_on(train: Train) -> Train:
    """Return the settings of a training that goes on: `[train.warm_start]` in the place of what it stands for.

    Raises
    ------
    RecipeError
        The section excludes what the rest of `[train]` asks for.
    """
    assert train.warm_start is not None
    rate = train.warm_start.learning_rate or train.learning_rate
    if not train.warm_start.search and not train.refit:
        raise RecipeError("[train.warm_start] search = false trains on validation rows as well: set train.refit = true")
    if not train.warm_start.search and train.distillation and train.distillation.generations:
        raise RecipeError(
            "[train.distillation] generations are taught by the search's towers; with [train.warm_start] search = "
            "false set generations = 0"
        )
    if train.distillation and train.distillation.peers and train.warm_start.interactions == "new":
        raise RecipeError(
            '[train.warm_start] interactions = "new": peers are fitted on the rows learned from and would know nothing '
            'else; set interactions = "all" or leave [train.distillation] peers out'
        )
    return replace(train, epochs=train.warm_start.epochs, learning_rate=rate)


def check_model(model: Model, earlier: Model, run: Path) -> None:
    """Raise RecipeError where towers differ in more than how they are trained; names the fields."""
    for field in Model.__struct_fields__:
        here, there = getattr(model, field), getattr(earlier, field)
        if here != there and field not in _TRAINING_ONLY:
            raise RecipeError(
                f"[model] {field} is {here!r}, and in {run} {there!r}; weights only fit the towers they were trained "
                "in: set it so, or train without --from"
            )


def restored(earlier: Earlier, checkpoint: Path) -> TwoTowerModel:
    """Return the model that earlier weights belong to, with these.

    Raises
    ------
    StageError
        The weights, or the description of the towers, are not there.
    """
    try:
        stated = json.loads((earlier.towers / "towers.json").read_text(encoding="utf-8"))
        query, item = (msgspec.convert(stated[f"{side}_inputs"], list[FeatureSpec]) for side in ("query", "item"))
        old = TwoTowerModel(query, item, _row(item), earlier.model)
        _build(old, query)
        old.load_weights(checkpoint).assert_existing_objects_matched().expect_partial()
    except (OSError, ValueError, KeyError, AssertionError, tf.errors.OpError) as error:
        raise StageError(
            f"{checkpoint}: no weights of a finished training ({error}); a run made with [train.warm_start] search = "
            "false has none of a search: set it here, too, or train without --from"
        ) from None
    return old


def _build(tower: TwoTowerModel, query: Sequence[FeatureSpec]) -> None:
    """Make the variables of both towers."""
    tower.query_vectors({name: tf.constant(values) for name, values in _row(query).items()})
    tower.item_vectors(items=tf.zeros([1], tf.int64))


def _row(specs: Sequence[FeatureSpec]) -> dict[str, np.ndarray]:
    """Return the inputs of a tower for one row of nothing."""
    inputs = {}
    for spec in specs:
        shape = (1, spec.max_length) if spec.max_length else (1,)
        first, *more = input_names(spec)
        inputs[first] = np.zeros(shape, spec.dtype)
        inputs.update({name: np.zeros(shape, np.float32) for name in more})
    return inputs


def _feature_of(variable: str, features: Mapping[str, str]) -> str | None:
    """Return the feature that a table is of; an augmented vector's is its id's."""
    match = _TABLE.search(variable)
    if match is None:
        return None
    return features.get(match.group(1), features.get(match.group(1).removesuffix("_augmented")))


def _item_codes(feature: str, data: FeatureSet) -> Int64Array | None:
    """Return the code of every item in a table that has a row for each, int64 [items]; None of others."""
    if feature == HISTORY:
        return np.arange(len(data.catalogue), dtype=np.int64) + FIRST_ITEM
    of_ids = [spec.name for spec in data.item_specs if spec.source == Columns.Item and spec.kind == "categorical"]
    return data.items[feature] if feature in of_ids else None


def set_from_attributes(table: Float32Array, codes: Int64Array, rows: Int64Array, data: FeatureSet) -> None:
    """Set the rows of new items: the mean, over their attributes, of the mean row of the known items that have one.

    An item none of whose attributes a known item has keeps its row. `codes` int64 [items], `rows` int64 [cardinality].
    """
    known, new = rows[codes] != UNSEEN, (rows[codes] == UNSEEN) & (codes != UNSEEN)
    attributes = _attributes(data)
    had = np.asarray(attributes[known].sum(axis=0)).ravel()
    means = (attributes[known].T @ table[codes[known]]) / np.maximum(had, 1.0)[:, np.newaxis]
    theirs = attributes[new].multiply(had > 0).tocsr()
    counts = np.asarray(theirs.sum(axis=1)).ravel()
    described = counts > 0
    table[codes[new][described]] = (theirs[described] @ means) / counts[described, np.newaxis]


def _attributes(data: FeatureSet) -> csr_matrix:
    """Return which item has which value of the item features but ids, float64 [items, values]."""
    blocks, first = [], 0
    for spec in data.item_specs:
        if not spec.cardinality or spec.source == Columns.Item:
            continue
        codes = data.items[spec.name].reshape(len(data.catalogue), -1)
        items, places = np.nonzero(codes > UNSEEN)
        blocks.append((items, codes[items, places] + first))
        first += spec.cardinality
    items, values = (np.concatenate([block[side] for block in blocks] or [np.zeros(0, np.int64)]) for side in (0, 1))
    table = csr_matrix((np.ones(len(items)), (items, values)), shape=(len(data.catalogue), max(first, 1)))
    table.data[:] = 1.0  # what an item has twice was added up
    return table
