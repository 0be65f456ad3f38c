"""The recipe's `[train.tasks]`: what the towers learn besides to retrieve."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, field

from workflows.section import PositiveInt, Section

Share = Annotated[float, Meta(ge=0.0, le=1.0)]
Weight = Annotated[float, Meta(ge=0.0)]


class RatingTask(Section, frozen=True, kw_only=True):
    """A head predicts the row's rating from the two vectors: an MLP over both and their product, by squared error.

    Ratings are centred and divided by their standard deviation first, so that a weight means the same on any scale.
    The head stays in the run; what is served are the vectors.
    """

    weight: Share | None = None
    """The loss is (1 - weight) times that of retrieval and weight times that of the rating; 0.5 where none is said.
    0: the head learns from vectors that it does not move. 1: the towers learn from ratings alone."""
    hidden: tuple[PositiveInt, ...] = (64,)
    """Widths of the head's layers before the last."""

    @property
    def share(self) -> float:
        """Return the weight, or what it is where none is said."""
        return 0.5 if self.weight is None else self.weight


class EventTasks(Section, frozen=True, kw_only=True):
    """Rows are events of several kinds, by the interactions' column `event`: views, clicks and purchases, say.

    All kinds share the towers. The towers' own query vector answers for the kind `served`; every other kind has a head,
    a linear map of that vector which begins as the identity, so that what people only look at need not be what they
    buy. Epochs are chosen on the validation rows of the kind served. History and seen items are of all kinds.
    """

    kinds: Annotated[tuple[str, ...], Meta(min_length=1)]
    """Every value that the column has."""
    served: str
    """The kind whose items a release answers with."""
    weights: dict[str, Weight] = field(default_factory=dict)
    """What a row's loss is multiplied by, by kind; 1 where none is said. Rows of weight 0 are not learned from."""
    heads: bool = True
    """`false`: one query vector for all kinds, which then only weigh differently."""

    def __post_init__(self) -> None:
        """Refuse kinds that are not there."""
        if len(set(self.kinds)) < len(self.kinds):
            raise ValueError(f"`kinds` names one twice: {', '.join(self.kinds)}")
        for name, named in (("served", [self.served]), ("weights", list(self.weights))):
            unknown = [kind for kind in named if kind not in self.kinds]
            if unknown:
                raise ValueError(f"`{name}`: {unknown[0]!r} is none of `kinds`, which are {', '.join(self.kinds)}")
        if not any(map(self.weight, self.kinds)):
            raise ValueError("`weights` are all 0, so that nothing is learned from; give one kind a weight")

    def weight(self, kind: str) -> float:
        """Return a kind's weight."""
        return self.weights.get(kind, 1.0)


class Tasks(Section, frozen=True, kw_only=True):
    """What the towers learn jointly with retrieval, so that sparse feedback borrows from dense feedback."""

    rating: RatingTask | None = None
    """The rating of every row trained on; not learned by default."""
    events: EventTasks | None = None
    """The kinds of events that are told apart; by default all rows are of one kind."""
    weighting: Literal["fixed", "uncertainty"] = "fixed"
    """`fixed`: by their own weights. `uncertainty`: they are learned, one log variance s for each kind of event (or
    for retrieval as a whole) and one for the rating: exp(-s) times a softmax's loss, or half of that times a squared
    error, plus s / 2 (Kendall, Gal and Cipolla 2018)."""

    def __post_init__(self) -> None:
        """Refuse tasks without any, and weights that would not be used."""
        if self.rating is None and self.events is None:
            raise ValueError(
                '`tasks` names none; set `rating = {}` or `events = { kinds = ["view"], served = "view" }`'
            )
        fixed = (self.rating is not None and self.rating.weight is not None) or (self.events and self.events.weights)
        if self.weighting == "uncertainty" and fixed:
            raise ValueError('`weighting = "uncertainty"` learns the weights; leave `weight` and `weights` out')

    @property
    def terms(self) -> list[str]:
        """Return the names of the losses that are weighed against each other."""
        retrieval = list(self.events.kinds) if self.events else ["retrieval"]
        return [*retrieval, *(["rating"] if self.rating else [])]
