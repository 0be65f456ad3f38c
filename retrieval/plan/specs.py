"""What a recipe's features will look like to the towers, before they are made (`workflows.features.specs.spec`)."""

from __future__ import annotations

from workflows.config import FeatureSide
from workflows.features.kinds.base import Known as Known
from workflows.features.plan import FIRST_ITEM, FeatureSpec, Planned, feature_spec, plan


def foretold_specs(side: FeatureSide, section: str, known: Known) -> list[FeatureSpec]:
    """Return the spec of each feature but the history; raise RecipeError as `plan`, DataError for a file of vectors."""
    sized = [(entry, _cardinality(entry, known)) for entry in plan(side, section)]
    shared: dict[str, int] = {}
    for entry, size in sized:
        name = entry.feature.shared
        shared[name] = max(shared.get(name, 0), size)
    return [
        feature_spec(entry, shared[entry.feature.shared] if entry.feature.shared else size, _width(entry, known))
        for entry, size in sized
    ]


def _width(entry: Planned, known: Known) -> int:
    return known.width(entry.column) if entry.feature.width is None else entry.feature.width


def _cardinality(entry: Planned, known: Known) -> int:
    """Return one more than the largest code, 0 for numbers and vectors."""
    return 0 if entry.is_numbers else FIRST_ITEM + entry.feature.foretold_codes(known, entry.column)
