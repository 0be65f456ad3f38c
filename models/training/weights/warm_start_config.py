"""The recipe's `[train.warm_start]`: how training goes on from an earlier run's towers."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from workflows.config import Section


class WarmStart(Section, frozen=True, kw_only=True):
    """How training goes on from the towers of an earlier run instead of from zero, see docs/operating.md.

    Vocabularies and embedding tables grow: what the earlier run knew keeps its codes and its trained rows. The search
    goes on from the earlier run's best epoch, which has not seen its validation rows; the retraining from what that
    run released. The optimizer starts from scratch.
    """

    run: str | None = None
    """The earlier run's directory, relative to the recipe. `--from RUN` goes before it; without both, training starts
    from zero and this section is not looked at."""
    epochs: Annotated[int, Meta(ge=0)] = 4
    """At most this many, instead of `train.epochs`. The validation part says after how many it is best, 0 included:
    the towers as they were, with rows for what is new."""
    search: bool = True
    """`false`: the validation part chooses nothing, exactly so many `epochs` are trained, on training and validation
    rows at once: a cheap routine, whose number of epochs was found before. Needs `train.refit`. A run that searches can
    then only go on from one that did."""
    learning_rate: Annotated[float, Meta(gt=0.0)] | None = None
    """Instead of that of `[train]`."""
    interactions: Literal["all", "new"] = "all"
    """`new`: an epoch has only the interactions that are later than all that the earlier run learned from. Older ones
    stay in the histories, and are no negatives where `objective.positives_weight` says so."""
    new_rows: Literal["unseen", "attributes"] = "unseen"
    """What the row of a new value starts from. `unseen`: the row that unseen values share. `attributes`: for items the
    mean over their values in the other features, of the mean row of the known items that have the value."""
