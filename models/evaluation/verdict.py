"""Whether the towers are worth it: how they stand to the best simple model on the same test rows, and what to try."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from models.baselines.comparison import LEADS
from models.baselines.search import CHOSEN_BY
from models.config import Model, Train

CLEARLY = 1.05
"""One model is clearly before another by this factor."""
FEW_STEPS = 3_000
MANY_ITEMS = 2_000
HIGH_TEMPERATURE = 0.15
METHOD = "paired bootstrap over test users, {} resamples, 95 %"
WHY = {
    "popularity": "the towers have hardly learned",
    "item KNN": "what goes with a user's items says more here than a vector learned from the user's few rows",
    "recent item KNN": "what users did last says most here, and item KNN is told the order",
    "EASE": "it fits all pairs of items at once, where towers learn a vector for each from a few rows",
    "ALS": "it weighs every item that a user does not have, where towers see a few rows of each user",
}


class Trained(NamedTuple):
    """What the towers are and how they were trained, as far as advice depends on it."""

    model: Model
    train: Train
    epochs: int
    """That the released towers were trained for."""
    train_rows: int
    has_history: bool
    dated: bool
    """Whether the interactions have a time."""


def verdict(comparison: Mapping[str, Any], trained: Trained) -> dict[str, Any]:
    """Compare the first model with the best of the others by unseen recall@10.

    Returns
    -------
    dict
        `outcome`: `ahead`, `level` (the interval holds 0) or `behind`; `against`, the other model's name; `metric`,
        `ours`, `theirs`; `lead`, by metric the difference and its 95 % bounds; `method`; `text`, all that in a
        sentence; `try`, what may help, most likely first, where the towers are not ahead.
    """
    ours, *others = [model for model in comparison["models"] if "skipped" not in model]
    metric = LEADS[0]
    best = max(others, key=lambda model: model["unseen"][metric])
    lead = best["lead"]
    _, low, high = lead[metric]
    outcome = "ahead" if low > 0 else "behind" if high < 0 else "level"
    advice = list(_advice(best, trained, comparison["items"])) if outcome != "ahead" else []
    return {
        "outcome": outcome,
        "against": best["name"],
        "metric": f"{metric}, unseen items",
        "ours": ours["unseen"][metric],
        "theirs": best["unseen"][metric],
        "lead": lead,
        "method": METHOD.format(comparison["resamples"]),
        "text": _sentence(outcome, best, lead, ours, len(others)) + _otherwise(others),
        "try": advice,
    }


def _sentence(outcome: str, best: Mapping[str, Any], lead: Mapping[str, Any], ours: Mapping[str, Any], of: int) -> str:
    name, metric = best["name"], LEADS[0]
    difference, low, high = lead[metric]
    figures = f"unseen {metric} {_short(ours['unseen'][metric])} against {_short(best['unseen'][metric])}"
    second = f"{LEADS[1]} {lead[LEADS[1]][0]:+.3f}"
    best_of = f", the best of {of} simple models," if of > 1 else ""
    if outcome == "ahead":
        return (
            f"ahead of {name}{best_of} by {_short(difference)} ({_short(low)} to {_short(high)}): {figures}; {second}"
        )
    if outcome == "behind":
        by = f"{_short(-difference)} ({_short(-high)} to {_short(-low)})"
        return f"{name} is better on these rows by {by}: {figures}; {second}. It may be that {WHY[name]}"
    return f"level with {name}{best_of} within {_short(low)} to {_short(high)}: {figures}; {second}"


def _otherwise(others: Sequence[Mapping[str, Any]]) -> str:
    """Say so where validation rows, which settings and models are chosen by, clearly prefer another simple model."""
    metric = LEADS[0]
    known = [model for model in others if "searched" in model]
    valid = {model["name"]: max(one[CHOSEN_BY] for one in model["searched"]["tried"]) for model in known}
    test = {model["name"]: model["unseen"][metric] for model in known}
    chosen, best = (max(figures, key=lambda name: figures[name], default="") for figures in (valid, test))
    if not known or valid[chosen] < CLEARLY * valid[best] or test[best] < CLEARLY * test[chosen]:
        return ""
    there, here = (f"{_short(figures[chosen])} against {_short(figures[best])}" for figures in (valid, test))
    return f". Validation rows prefer {chosen} to {best} ({there}; here {here}): they choose for other rows than these"


def _advice(best: Mapping[str, Any], trained: Trained, items: int) -> Iterator[str]:
    """Yield what may help, most likely first."""
    model, train = trained.model, trained.train
    batches = math.ceil(trained.train_rows / train.batch_size)
    steps = batches * trained.epochs
    if trained.dated and not trained.has_history:
        yield 'tell the towers what the user did: history = { kind = "sequence", last = 50 } in [query.features]'
    if steps < FEW_STEPS and train.batch_size > 64:
        yield f"training took {steps:,} steps: train.batch_size = {max(64, train.batch_size // 8)}, train.patience = 10"
    if trained.epochs >= train.epochs:
        yield f"validation was still rising after {train.epochs} epochs: raise train.epochs"
    if items > MANY_ITEMS and model.temperature >= HIGH_TEMPERATURE and not model.learn_temperature:
        yield f"{model.temperature:g} is a high temperature for {items:,} items: model.temperature = 0.07"
    if train.distillation is None and best["name"] in ("EASE", "ALS"):
        yield f"let {best['name']} teach the towers: peers = [{_as_peer(best)}] in [train.distillation]"


def _as_peer(best: Mapping[str, Any]) -> str:
    names = ("l2",) if best["name"] == "EASE" else ("factors", "regularization", "alpha", "item_exponent")
    settings = ", ".join(f"{name} = {best['settings'][name]:g}" for name in names)
    return f'{{ kind = "{best["name"].lower()}", {settings} }}'


def _short(value: float) -> str:
    """Return a number such as .012."""
    return f"{value:.3f}".replace("0.", ".", 1)
