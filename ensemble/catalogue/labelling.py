"""Labels new items with classes of an attribute, by the item tower's vectors of the release's own items."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from ensemble.catalogue.changes import LiveItems, ids_array
from ensemble.catalogue.item_file import read_table
from ensemble.catalogue.prototypes import Neighbours, Prototypes, quality
from ensemble.serving.search.attributes import Tags
from workflows.columns import Columns
from workflows.errors import DataError

_Floats = npt.NDArray[np.float32]
_Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Labelled:
    """The classes of an attribute, and their scores for the items of a file."""

    ids: list[int | str]
    classes: list[str]
    counts: npt.NDArray[np.int64]
    """Items of the catalogue in each class."""
    scores: _Floats
    """float32 [items, classes]."""
    truth: _Mask | None
    """bool [items, classes]; None: the file does not say. Classes that the catalogue does not have are left out."""
    blanked: bool
    """Whether the item tower reads the attribute, and was given none, neither of these items nor of the catalogue's."""

    @property
    def quality(self) -> dict[str, float] | None:
        """Return how well the scores agree with the file's own labels; None if it has none."""
        return None if self.truth is None else quality(self.scores, self.truth)


def label(items: LiveItems, path: Path, attribute: str, neighbours: int | None = None) -> Labelled:
    """Score the classes of an attribute of tags for the items in a file, new ones or known ones.

    It has the columns that `LiveItems.adding` needs; the attribute is optional. Items of the file are never learned
    from. If the item tower reads the attribute, it is left empty on both sides, since vectors that contain the label
    would prove nothing. Classes are scored by prototypes, or by so many nearest `neighbours`. Raise DataError if the
    attribute is not one of tags or has fewer than two values, or the file does not fit.
    """
    classes, labels = _classes(items, attribute)
    blanked = attribute in items.inputs
    table = read_table(path, items.kinds, [name for name in (Columns.Item, *items.inputs) if name != attribute])
    whole = items.whole(table)
    item_rows = items.catalogue.ids.rows_of(ids_array(whole[Columns.Item], items.kinds[Columns.Item]))
    known = items.catalogue.rows.live & labels.any(axis=1)
    known[item_rows[item_rows >= 0]] = False
    used = labels[known].any(axis=0)
    if used.sum() < 2:
        raise DataError(f"{path}: leaves {used.sum()} classes of {attribute} to learn from, expected at least two")
    classes, labels = [name for name, is_used in zip(classes, used, strict=True) if is_used], labels[:, used]
    if blanked:
        whole = items.whole(whole.drop(columns=attribute))
        catalogue = items.table[known].reset_index(drop=True).drop(columns=attribute)
        learned = items.vectors(items.whole(catalogue), path)
    else:
        learned = items.catalogue.rows.vectors[known]
    known_labels = labels[known]
    labeller: Neighbours | Prototypes = Prototypes(learned, known_labels)
    if neighbours:
        labeller = Neighbours(learned, known_labels, neighbours)
    truth = _truth(table[attribute], classes) if attribute in table else None
    scores = labeller.score(items.vectors(whole, path))
    return Labelled(table[Columns.Item].tolist(), classes, known_labels.sum(axis=0), scores, truth, blanked)


def _classes(items: LiveItems, attribute: str) -> tuple[list[str], _Mask]:
    """Return the classes that live items have, and the classes of each row of the catalogue, bool [rows, classes]."""
    attributes, live = items.catalogue.rows.attributes, items.catalogue.rows.live
    tags = attributes.get(attribute)
    if not isinstance(tags, Tags):
        known = ", ".join(name for name, attribute in attributes.items() if isinstance(attribute, Tags)) or "none"
        raise DataError(f"--attribute {attribute}: no tags of this release; it has {known}")
    labels = np.zeros((len(live), len(tags.values)), dtype=bool)
    rows = np.repeat(np.arange(len(live)), np.diff(tags.groups.rows))
    labels[rows, tags.groups.codes] = True
    present = labels[live].any(axis=0)
    if present.sum() < 2:
        raise DataError(f"--attribute {attribute}: the items have {present.sum()} values of it, expected at least two")
    return [value for value, is_present in zip(tags.values, present, strict=True) if is_present], labels[:, present]


def _truth(values: pd.Series, classes: list[str]) -> _Mask:
    place = {name: number for number, name in enumerate(classes)}
    truth = np.zeros((len(values), len(classes)), dtype=bool)
    for row, value in enumerate(values):
        for label in value if isinstance(value, list) else [value]:
            if str(label) in place:
                truth[row, place[str(label)]] = True
    return truth
