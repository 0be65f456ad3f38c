"""The recipe's `[model]` and `[train]`."""

from __future__ import annotations

from typing import Annotated, Literal, Union

from msgspec import Meta
from msgspec.structs import replace

from models.training.losses.task_config import Tasks
from models.training.weights.warm_start_config import WarmStart
from workflows.config import PositiveInt, Section

Rate = Annotated[float, Meta(ge=0.0, lt=1.0)]
PositiveFloat = Annotated[float, Meta(gt=0.0)]
Count = Annotated[int, Meta(ge=0)]
Weight = Annotated[float, Meta(ge=0.0)]
Side = Literal["query", "item"]
SOFTMAX_BLOCK = 1 << 20
"""Logits that are computed at a time on a CPU: what stays in its cache."""
BLEND_SCORES = 1 << 26
"""Validation queries x items whose scores are held of each model while a blend is chosen: 256 MiB each."""
FACTOR_BYTES = 256 << 20
"""Of a blend's factors at most."""
Monitor = Literal[
    "all.recall@10",
    "all.recall@100",
    "all.ndcg@10",
    "unseen.recall@10",
    "unseen.recall@100",
    "unseen.ndcg@10",
    "rating.r2",
]


class Withheld(Section, frozen=True, kw_only=True):
    """Features of a query that requests may lack together."""

    features: Annotated[tuple[str, ...], Meta(min_length=1)]
    """Names of features, of any kind but numbers: `history`, say, and what is counted in it."""
    rate: Rate = 0.2
    """How often they are hidden during training, as if they had not been sent."""


class Cross(Section, frozen=True, kw_only=True):
    """Cross layers in the towers (DCN-v2, Wang et al. 2021): x_{l+1} = x_0 * (W x_l + b) + x_l of the concatenated
    inputs, products of features that an MLP only approximates."""

    layers: PositiveInt = 2
    """So many; the highest products are of one factor more."""
    structure: Literal["stacked", "parallel"] = "stacked"
    """`stacked`: the MLP is fed what the cross layers make of the inputs. `parallel`: both are fed the inputs, and the
    tower's last layer what both make of them."""
    rank: PositiveInt | None = None
    """W is a product of two matrices of this inner width: fewer numbers where inputs are wide. None: it is full."""
    towers: Annotated[tuple[Side, ...], Meta(min_length=1)] = ("query", "item")
    """Which towers have them."""


class Gates(Section, frozen=True, kw_only=True):
    """Each feature's numbers are multiplied by a gate that all of the row's features decide: squeeze-and-excitation (Hu
    et al. 2018) of the fields, as in FiBiNET (Huang et al. 2019)."""

    reduction: PositiveInt = 3
    """The hidden layer, between the features' means and the gates, is so much narrower than there are features."""
    activation: Literal["sigmoid", "relu"] = "sigmoid"
    """Of the gates: `sigmoid` as in images, between 0 and 1; `relu` as in FiBiNET, which can shut a feature out."""
    towers: Annotated[tuple[Side, ...], Meta(min_length=1)] = ("query", "item")
    """Which towers have them."""


class Augmentation(Section, frozen=True, kw_only=True):
    """The Dual Augmented Two-Tower (DAT, Yu et al., DLP-KDD 2021): every user and every item has a vector more in its
    tower's inputs, which learns to be like the vectors of the other tower that it is chosen with."""

    query: str = "user_id"
    """The categorical feature whose values have such a vector in the query tower; unseen ones share a trained one."""
    item: str = "item_id"
    """The same in the item tower."""
    mimic_weight: Weight = 0.5
    """Of the mimic loss, the squared distance of a row's vector from the other tower's output, which it does not move;
    for each tower."""
    category: str | None = None
    """An item feature, categorical or a list: the items of each of its values shall spread as those of the most
    frequent one do, for the rare ones to learn from it. None: nothing is aligned."""
    alignment_weight: Weight = 1.0
    """Of that: the squared distances between the covariances of the items' vectors (CORAL, Sun and Saenko 2016)."""


class Blend(Section, frozen=True, kw_only=True):
    """The towers' scores are blended with those of item KNN, a random walk, SVD, EASE and ALS, as factors of `user_id`
    and `item_id` beside the towers' vectors. Which ones, and how much each counts, is what ranks validation rows best;
    each model alone and the towers alone are among what is tried."""

    rank: PositiveInt = 2048
    """Width of the factors at most, by which the vectors get longer. It is never more than there are users or items,
    with which the factors are exact, nor than makes the two tables larger than 256 MiB."""

    def width(self, users: int, items: int) -> int:
        """Return the width of the factors of so many users and items."""
        return max(1, min(self.rank, users, items, FACTOR_BYTES // (4 * (users + items))))


class Model(Section, frozen=True, kw_only=True):
    """The two towers, `merlin.models.tf.MLPBlock` over the embedded features."""

    tower: tuple[PositiveInt, ...] = (128, 64)
    """Widths of the tower's layers; the last is the dimension of the vectors."""
    embedding_dim: PositiveInt = 64
    """Width of an embedding table; small vocabularies get narrower ones."""
    dropout: Rate = 0.5
    """On the concatenated inputs of each tower, during training."""
    hidden_dropout: Rate = 0.0
    """Between the layers of each tower, during training."""
    unseen_rate: Rate = 0.02
    """How often a known id is shown to the towers as unseen during training, so that unknown users and new items get
    a trained vector."""
    history_decay_seconds: tuple[PositiveFloat, ...] = (30.0, 600.0, 86400.0)
    """A history is pooled by its plain mean and once per entry by exp(-age / entry): what happened in the last half
    minute, ten minutes, day. The values are where training starts from; it moves them."""
    history_dropout: Rate = 0.3
    """How often an interaction is left out of a history during training."""
    withheld: tuple[Withheld, ...] = ()
    """What is hidden from the query tower now and then during training, so that it learns to do without."""
    similarity: Literal["cosine", "dot"] = "cosine"
    """`cosine`: both towers end in unit length. `dot`: they do not, so that the length of an item's vector can say how
    popular it is; scores are then inner products of any size, and `temperature` is rather 1. Served as inner product
    either way."""
    temperature: PositiveFloat = 0.2
    """Similarities are divided by it before the softmax."""
    learn_temperature: bool = False
    """Train the logarithm of the temperature along with the towers, from `temperature`, never below 0.01 (as CLIP does,
    Radford et al. 2021). Only training knows it: served scores are similarities."""
    cross: Cross | None = None
    """Cross layers before the MLP or beside it; none by default."""
    gates: Gates | None = None
    """Gates on the features; none by default."""
    augmentation: Augmentation | None = None
    """Vectors of users and items that stand in for the other tower; none by default."""
    blend: Blend | None = None
    """A simple model beside the towers; none by default."""

    def __post_init__(self) -> None:
        """Refuse cross layers beside an MLP without hidden layers."""
        if self.cross and self.cross.structure == "parallel" and len(self.tower) < 2:
            raise ValueError('`cross.structure = "parallel"` needs a `tower` of two layers or more')


class Catalogue(Section, tag_field="kind", tag="catalogue", frozen=True, kw_only=True):
    """The target competes with every item: the exact softmax, which needs no sampling correction.

    Every step embeds the whole catalogue and scores it against the batch, which some ten thousand items allow.
    """


class Sampled(Section, tag_field="kind", tag="sampled", frozen=True, kw_only=True):
    """The target competes with other items of the batch and with drawn ones, for a catalogue too large to embed in
    every step.

    A negative's logit is lessened, after the temperature, by the logarithm of how often that item is expected among
    the negatives of a row (logQ, Bengio and Senecal 2008, Yi et al. 2019), all samplers together. The sum over
    negatives then estimates the sum over the catalogue, and popular items are not punished for turning up often. The
    target is not sampled but always there, so that its own logit stays as it is (the observation of Khrylchenko et al.,
    "Correcting the LogQ Correction", RecSys 2025; the weights that they derive from it are left out). The target among
    its negatives, an accidental hit, is masked.
    """

    group: PositiveInt = 2048
    """Rows of a batch whose items compete with one another: a row of a large batch costs no more than one of a small
    batch. The drawn items compete with all."""
    uniform: Count = 1024
    """Items drawn evenly from the catalogue in every step: items that are rarely or never in a batch are trained too
    (mixed negative sampling, Yang et al. 2020)."""
    popularity: Count = 0
    """Items drawn in every step as often as they occur in the training rows, as the batch's own items are."""
    cached: Count = 0
    """So many of the earlier batches' items compete as well, with the vectors they had then, which costs no
    embedding (cross-batch negative sampling, Wang et al. 2021)."""
    hard: Count = 0
    """Only the so many negatives of largest corrected logit compete with a row's target (online hard example mining,
    Shrivastava et al. 2016). The sum over the catalogue is then estimated too small. 0: all of them."""


class Threshold(Section, tag_field="kind", tag="threshold", frozen=True, kw_only=True):
    """Only rows rated `positive_from` or better are trained on.

    The others still are the user's history and count as seen, and evaluation asks for every row whatever its rating.
    """

    positive_from: float = 4.0


class Weighted(Section, tag_field="kind", tag="weight", frozen=True, kw_only=True):
    """A row's loss is multiplied by its rating over the mean rating of the training rows: how sure it is that the
    user wanted the item (the confidence of Hu et al. 2008, with a mean of one)."""


class Ignored(Section, tag_field="kind", tag="ignore", frozen=True, kw_only=True):
    """Every row is a positive, whatever its rating."""


Rating = Union[Ignored, Weighted, Threshold]


class Objective(Section, frozen=True, kw_only=True):
    """What the towers are trained to do: to tell the item that was chosen from others, by a softmax over them."""

    candidates: Union[Catalogue, Sampled] = Catalogue()
    """What the target competes with."""
    positives_weight: Annotated[float, Meta(ge=0.0, le=1.0)] = 1.0
    """How much the other items that the user has in the rows trained on count in the softmax: 1 like any item; 0 not at
    all, as they are no negatives. In between their logits are lessened by its logarithm. The less they count, the
    better unseen items are ranked, and the more answers are items that the user has."""
    label_smoothing: Rate = 0.0
    """This share of the label is spread evenly over the softmax's items (Szegedy et al. 2016)."""
    rating: Rating = Ignored()
    """What a row's rating does."""

    @property
    def is_blockwise(self) -> bool:
        """Return whether the softmax is over items that all rows share, but for each row's own: it is then computed
        some rows at a time (`models.training.losses.normaliser`), unless other tasks need every row's loss, or items
        are sampled and there is a teacher."""
        sampled = self.candidates if isinstance(self.candidates, Sampled) else None
        own = sampled and (self.label_smoothing or sampled.hard or sampled.cached)
        return self.positives_weight == 1 and not own


class Ease(Section, tag_field="kind", tag="ease", frozen=True, kw_only=True):
    """EASE, item to item in closed form (Steck 2019)."""

    l2: PositiveFloat = 500.0
    """Its regularisation."""


class Als(Section, tag_field="kind", tag="als", frozen=True, kw_only=True):
    """Matrix factorisation of implicit feedback (Hu et al. 2008), by the library `implicit`, an extra."""

    factors: PositiveInt = 32
    regularization: PositiveFloat = 10.0
    alpha: PositiveFloat = 1.0
    """Weight of an interaction against that of its absence."""
    item_exponent: Rate = 0.0
    """That weight falls with the item's number of users n as n ** -item_exponent."""


class Distillation(Section, frozen=True, kw_only=True):
    """Towers also learn what a teacher thinks of every item, not only which one was chosen (Hinton, Vinyals and Dean
    2015). So much of what a few rows per user say is chance that even towers of the same size end better: born-again
    networks, Furlanello et al. 2018.
    """

    weight: Annotated[float, Meta(gt=0.0, le=1.0)] = 0.5
    """This share of a row's label is the teacher's softmax, at its own temperature; the rest as `objective` says."""
    dropout: Rate | None = None
    """That of the generations, instead of the model's: towers that are taught do not overfit as early, and what a high
    rate keeps out of them is then missing."""
    generations: Count = 1
    """So often the towers are retrained on training and validation rows, for as many epochs each. Every generation
    is taught by all before it, the search's included, through the mean of their logits; the last is kept. 0: the peers
    alone teach, in the search as well."""
    peers: tuple[Union[Ease, Als], ...] = ()
    """Models of user and item alone, fitted on the rows trained on. They add the mean logarithm of their scores to the
    teacher's logits: a product of experts (Hinton 2002)."""
    unseen_only: bool = False
    """The teacher gives nothing to the user's other items in the rows trained on. Towers then learn to rank them low,
    as nobody wants an item twice; that takes room in their vectors, unless `positives_weight` is small."""
    peers_exponent: PositiveFloat = 1.0
    """What that mean is multiplied by: their scores grow like a probability, and too slowly for one."""


class Train(Section, frozen=True, kw_only=True):
    """How the towers are trained."""

    preset: Literal["auto"] | None = None
    """`auto`: the towers are blended with simple models (`model.blend`), so that validation rows are ranked no worse
    than by the best of these, wherever users and items are features by their ids. What the recipe says of `model.blend`
    itself goes first."""
    epochs: PositiveInt = 30
    """At most this many."""
    patience: PositiveInt = 5
    """Stop after this many epochs without a better `monitor`."""
    monitor: Monitor = "unseen.recall@10"
    """The validation figure that decides which epoch is best. `rating.r2`, for the task of that name: the share of the
    ratings' variance that is predicted."""
    validation_rows: PositiveInt | None = None
    """About so many validation rows are ranked after every epoch, all those of users drawn evenly. None: all rows."""
    batch_size: PositiveInt = 1024
    objective: Objective = Objective()
    tasks: Tasks | None = None
    """What else is learned along with retrieval; nothing by default."""
    learning_rate: PositiveFloat = 0.003
    """Of Adam (Kingma and Ba 2015)."""
    weight_decay: Annotated[float, Meta(ge=0.0)] = 0.0
    """Every step takes this share, times the learning rate, off every weight but biases, the history's decays and the
    temperature: AdamW, decoupled from the gradient (Loshchilov and Hutter 2019)."""
    lazy_rows: PositiveInt = 100_000
    """Embedding tables of so many rows or more are updated sparsely (LazyAdam): a step moves the rows that its batch
    looks up, with their moments, the second of which is one number a row, and their weight decay, and costs no more
    for a larger table. Smaller tables, like all layers, are moved whole: rows that are not looked up go on by their
    momentum, and decay."""
    clip_norm: PositiveFloat | None = None
    """Gradients, all together, are scaled down to this norm where theirs is larger (Pascanu et al. 2013)."""
    schedule: Literal["constant", "cosine"] = "constant"
    """`cosine`: the rate falls to zero along half a cosine (Loshchilov and Hutter 2017), over `epochs` in the search,
    over as many as it has in the retraining."""
    refit: bool = True
    """After the best number of epochs is known, retrain on training and validation rows together."""
    distillation: Distillation | None = None
    """What teaches the towers besides the rows; nothing by default."""
    warm_start: WarmStart | None = None
    """How training goes on from an earlier run's towers; by default it starts from zero."""
    mixed_precision: bool = False
    """The layers of the towers compute in float16, with float32 weights and a scaled loss (Micikevicius et al. 2018):
    faster on GPUs with tensor cores, slower on a CPU. Embeddings, vectors and what is exported stay float32."""
    xla: bool = False
    """Training compiles the towers with XLA, meant for GPUs. Another compiler draws other random numbers: other
    weights come out than without."""
    checkpoint_seconds: Annotated[float, Meta(ge=0.0)] = 60.0
    """A training that is interrupted goes on from its last checkpoint, which is written at the first end of an epoch so
    many seconds after the one before."""

    def __post_init__(self) -> None:
        """Refuse a distillation without a teacher, and tasks that do not go with the rest."""
        self._check_tasks()
        if self.distillation is None:
            return
        if self.distillation.generations and not self.refit:
            raise ValueError("`distillation.generations` are retrained, which needs `refit = true`")
        if not self.distillation.generations and not self.distillation.peers:
            raise ValueError('`distillation` has no teacher; set `peers = [{ kind = "ease" }]` or `generations = 1`')

    def _check_tasks(self) -> None:
        rated = self.tasks is not None and self.tasks.rating is not None
        if self.monitor == "rating.r2" and not rated:
            raise ValueError('`monitor = "rating.r2"` needs `tasks.rating`; set `tasks = { rating = {} }`')
        if self.distillation and self.tasks and self.tasks.events:
            raise ValueError("`distillation` has no teacher that tells `tasks.events` apart; leave one of them out")

    @property
    def asks_who_has_what(self) -> bool:
        """Return whether a step tells the items that a row's user has from the others."""
        return self.objective.positives_weight < 1 or bool(self.distillation and self.distillation.unseen_only)

    def search_only(self) -> Train:
        """Return the settings that find the best epoch and stop there."""
        taught = self.distillation if self.distillation and not self.distillation.generations else None
        return replace(self, refit=False, distillation=taught)
