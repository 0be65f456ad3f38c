"""The recipe's `[ranking]`."""

from __future__ import annotations

from typing import Annotated, Literal, Union

from msgspec import Meta

from models.config import Count, PositiveFloat, Rate
from workflows.config import PositiveInt, Section

Weight = Annotated[float, Meta(ge=0.0)]


class RankingTraining(Section, frozen=True, kw_only=True):
    """What both kinds of rankers take."""

    candidates: Annotated[int, Meta(ge=1, le=65_536)] = 200
    """So many allowed items, or `top_k` of them if that is more, are retrieved for a query and rescored. The answer
    is the first `top_k` by the new score."""
    negatives: PositiveInt = 20
    """A training row's item is to win against so many of the candidates that the towers retrieve for the row, drawn
    again every time; items that the user has in the rows trained on are none."""
    epochs: PositiveInt = 8
    """At most this many."""
    patience: PositiveInt = 2
    """Stop after this many epochs without a better ndcg@10 of what would be served, on validation rows."""
    batch_size: PositiveInt = 512
    learning_rate: PositiveFloat = 0.001
    """Of Adam."""
    weight_decay: Weight = 0.0
    """AdamW, as of `[train]`."""
    dropout: Rate = 0.3
    """On the embedded features, during training."""
    loss: Literal["softmax", "binary"] = "softmax"
    """`softmax`: a row's item against its negatives, together. `binary`: each for itself, chosen or not, as the papers
    have it; the scores are then logits of a probability."""


class IntTower(RankingTraining, tag_field="kind", tag="inttower", frozen=True, kw_only=True):
    """IntTower (Li et al., CIKM 2022): two towers that meet at every layer of the query's.

    Each layer of the query tower is projected to `heads` vectors, the last layer of the item tower too. For every layer
    and query head the best of the item's heads counts, by inner product; the score is the sum. What is the item's is
    computed beforehand, so that a candidate costs a few inner products. The paper's Light-SE is left out.
    """

    layers: Annotated[tuple[PositiveInt, ...], Meta(min_length=1)] = (128, 64)
    """Widths of either tower's layers."""
    heads: PositiveInt = 4
    """Vectors per layer, and per item."""
    head_dim: PositiveInt = 32
    """Width of each."""
    contrastive_weight: Weight = 0.1
    """Of the contrastive regularisation: the last query layer's heads are to be nearer to those of the row's item than
    to those of the batch's other items. 0: none."""
    contrastive_temperature: PositiveFloat = 0.1
    """What their cosines are divided by."""


class FieldSelection(Section, frozen=True, kw_only=True):
    """Which fields the network has, learned with a price on each (FSCD, Ma et al., SIGIR 2021).

    In a training of their own all fields have a gate that is open with a learned probability. A gate's prior is open
    with probability 1 - sigmoid(c), c being the field's complexity: the more a field costs, the more it must bring.
    Fields whose gates end below `keep` are left out, and the network is trained without them.
    """

    weight: Weight = 0.001
    """Of the prior against the rows' mean loss."""
    computation: Weight = 1.0
    """Complexity of what is computed to have a field: 0 for an item's, which the release holds; 1 for a query's, made
    once for a request; 2 for one made again for every candidate."""
    width: Weight = 0.5
    """Complexity of every 64 numbers that the field is embedded to."""
    codes: Weight = 0.1
    """Complexity of every tenfold of values that the field's table has rows for."""
    keep: Annotated[float, Meta(gt=0.0, lt=1.0)] = 0.5
    """A field stays if its gate is open with at least this probability."""
    epochs: PositiveInt = 3
    """How long gates are learned."""


class Cold(RankingTraining, tag_field="kind", tag="cold", frozen=True, kw_only=True):
    """COLD (Wang et al., 2020): a light network over the features of query, item and both.

    Every field is weighted by a gate of its own embedding (squeeze and excitation), then come low-rank cross layers
    (DCN V2, Wang et al. 2021) beside a multilayer perceptron. What depends on the query alone is computed once for
    all candidates. Features of both: the towers' similarity, the product of their vectors number by number, and where
    there is a history the candidate's attention over it.
    """

    width: PositiveInt = 64
    """Numbers that the fields of a query, and those of an item, are projected to before the two meet: once for a
    request, and beforehand."""
    cross_layers: Count = 1
    cross_rank: PositiveInt = 16
    """Rank of a cross layer's matrix."""
    layers: Annotated[tuple[PositiveInt, ...], Meta(min_length=1)] = (64,)
    """Widths of the perceptron's layers."""
    selection: FieldSelection | None = None
    """Which of the fields are kept; by default all."""


Ranking = Union[IntTower, Cold]
