"""The recipe's `[index]`, `[serving]`, `[release]` and `[bench]`."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, structs

from ensemble.layouts import Layout
from ensemble.serving.files.schema import BOUNDS, contradiction
from workflows.config import PositiveInt, Section


def _within(name: str) -> Meta:
    """Return the bounds that a release holds the field to."""
    low, high = BOUNDS[name]
    return Meta(ge=low, le=high)


class Index(Section, frozen=True, kw_only=True):
    """How the item vectors are searched."""

    kind: Literal["auto", "flat", "ivf_flat", "ivf_sq8", "ivf_pq", "hnsw", "scann", "milvus"] = "auto"
    """`flat` compares the query with every item: exact. `ivf_flat`, `ivf_sq8` and `ivf_pq` (fast scan) look into the
    nearest of `nlist` lists, `hnsw` walks a graph; all but `flat` are approximate. `auto` is `flat` for catalogues that
    are scanned in no time, and otherwise the quickest kind that reaches `recall_target`, measured. `scann` and `milvus`
    are engines of their own, of the extra `engines` (docs/item-index.md)."""
    recall_target: Annotated[float, Meta(gt=0.0, lt=1.0)] = 0.95
    """Share of the true k nearest items that an approximate index must find, for each of k = 1, 10 and 100."""
    memory_budget_mb: PositiveInt | None = None
    """`auto` takes no index larger than this beside the item vectors."""
    metric: Literal["inner_product", "cosine", "l2"] = "inner_product"
    """What makes an item near. The towers are trained for inner products; where their vectors have norm 1, all three
    order the items alike."""
    nlist: PositiveInt | None = None
    """Inverted lists; by default about four times the root of the number of items."""
    nprobe: PositiveInt | None = None
    """Inverted lists that a search reads; by default measured."""
    links: Annotated[int, Meta(ge=4, le=128)] = 32
    """Edges per item of `hnsw` (half of them in the upper layers)."""
    ef: PositiveInt | None = None
    """Candidates that a search of `hnsw` keeps; by default measured."""
    refine_factor: Annotated[float, Meta(ge=1.0)] | None = None
    """Candidates per wanted item that are compared exactly; by default measured."""
    device: Literal["cpu", "gpu"] = "cpu"
    """`gpu` builds and searches on the first GPU, where FAISS was built with support for it."""
    uri: str | None = None
    """Of `milvus`, for writing the release: `https://HOST:19530`, or a file of milvus-lite, relative to the recipe. The
    environment variable RETRIEVAL_MILVUS_URI, whose file is relative to the working directory, goes before it, and is
    what serving reads; RETRIEVAL_MILVUS_TOKEN is what opens it."""
    collection: Annotated[str, Meta(pattern="^[A-Za-z_][A-Za-z0-9_]{0,200}$")] = "items"
    """Of `milvus`: what its collection is called; each release has one of its own, with its pairing id behind."""
    structure: Literal["flat", "hnsw", "ivf_flat"] = "flat"
    """Of `milvus`: how it searches the collection. `flat` is exact."""

    def __post_init__(self) -> None:
        if self.uri is not None and "@" in self.uri.partition("://")[2]:
            raise ValueError("uri holds a name or a password: set RETRIEVAL_MILVUS_TOKEN in the environment instead")


class Serving(Section, frozen=True, kw_only=True):
    """How the released model answers inside Triton."""

    layout: Layout = "fused"
    """`fused`: one Triton model, `retrieval`, does every step. `chained`: transform, tower and search are models of
    their own behind the Triton ensemble `retrieval_chained`. `both`: one repository with the two. `onnx`: the
    release as one ONNX graph, `retrieval_onnx`, for a Triton with the onnxruntime backend (`retrieval serve` has
    none)."""
    top_k: Annotated[int, _within("top_k")] = 100
    """Answers per row when the request does not say `top_k`."""
    max_top_k: Annotated[int, _within("max_top_k")] = 1000
    """A larger `top_k` is refused."""
    max_batch_size: Annotated[int, _within("max_batch_size")] = 256
    """Rows in one request, and rows that Triton joins into one execution."""
    max_queue_delay_microseconds: Annotated[int, _within("max_queue_delay_microseconds")] = 0
    """How long Triton may wait for more requests to join a batch."""
    max_queue_rows: Annotated[int, _within("max_queue_rows")] = 1024
    """Rows that wait for each process of a model, by what they cost: a batch that takes longer than a millisecond a row
    counts as so many rows as it took milliseconds. What waited for more is refused with UNAVAILABLE. 0: no limit."""
    default_timeout_microseconds: Annotated[int, _within("default_timeout_microseconds")] = 0
    """How long a request may wait before it is refused; a request may name a time of its own (`timeout`), which
    without this limit is ignored. 0: no limit. Look at the p99 before you set it: Triton's time-outs make Triton 2.51
    slow (docs/serving.md)."""
    max_request_milliseconds: Annotated[int, _within("max_request_milliseconds")] = 1000
    """What answering one request may take of a core, by the server's own estimate of its rows, filters, lists and
    `top_k`; one that would take longer is refused before it is searched."""
    instances: Annotated[int, _within("instances")] = 1
    """Model instances (processes), of each model."""
    transform_instances: Annotated[int, _within("transform_instances")] | None = None
    """Instances of the chained transform where that is another number."""
    tower_instances: Annotated[int, _within("tower_instances")] | None = None
    """Instances of the chained tower."""
    search_instances: Annotated[int, _within("search_instances")] | None = None
    """Instances of the chained search."""
    rank_instances: Annotated[int, _within("rank_instances")] | None = None
    """Instances of the chained ranker, where there is `[ranking]`."""
    tower_platform: Literal["python", "onnxruntime"] = "python"
    """What runs the chained tower: `onnxruntime` is Triton's own backend, where the server has it."""
    tower_device: Literal["cpu", "gpu"] = "cpu"
    """Where the chained tower runs; `gpu` takes the onnxruntime platform."""
    threads: Annotated[int, _within("threads")] = 1
    """Threads per instance for the tower and the search."""
    max_exclude_item_ids: Annotated[int, _within("max_exclude_item_ids")] = 10_000
    """Longest `exclude_item_ids` of one row."""
    max_history_item_ids: Annotated[int, _within("max_history_item_ids")] = 1000
    """Longest `history_item_ids` of one row: the newest interactions that a request carries."""

    def __post_init__(self) -> None:
        reason = contradiction(structs.asdict(self))
        if reason is not None:
            raise ValueError(reason)


class Promotion(Section, frozen=True, kw_only=True):
    """When a release may take the place of the current one (`retrieval promote`). It is part of the release."""

    max_recall_loss: Annotated[float, Meta(ge=0.0, le=1.0)] = 0.05
    """Share of the current release's recall@`k` (test rows, unseen items) by which that of the new one may be less."""
    min_overlap: Annotated[float, Meta(ge=0.0, le=1.0)] = 0.3
    """Share of a user's first `k` answers that both releases must have in common, in the mean over sampled users."""
    k: Literal[1, 5, 10, 50, 100] = 10
    """How many answers are looked at."""
    users: Annotated[int, _within("users")] = 500
    """Users that are sampled among those whom both releases know."""
    keep: Annotated[int, _within("keep")] = 5
    """Newest versions that a promotion leaves; the current one and the one to roll back to stay in any case."""


class Bench(Section, frozen=True, kw_only=True):
    """What `retrieval bench` measures."""

    batch: tuple[PositiveInt, ...] = (1,)
    """Rows per request."""
    concurrency: tuple[PositiveInt, ...] = (
        1,
        4,
        16,
    )
    """Requests in flight."""
    measurement_interval_ms: PositiveInt = 2000
    requests: PositiveInt = 1000
    """Distinct real requests drawn from the run's test users."""
