"""The recipe's features as one NVTabular `Workflow`, the same graph for pandas and for cuDF."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import nvtabular
from nvtabular.ops import Clip, FillMissing, Rename

from workflows.config import Age, Bucketized, Categorical, Continuous, Cross, Device, Embedding, MultiHot, Text, Time
from workflows.errors import RecipeError
from workflows.features.aggregates import Table
from workflows.features.kinds import SECONDS, is_hashed
from workflows.features.plan import Planned
from workflows.features.pretrained import read_pretrained
from workflows.operators.codes import (
    FIRST_KNOWN,
    Codes,
    CrossKeys,
    HashCodes,
    KeyedCodes,
    ListCodes,
    Lookup,
    SharedCodes,
)
from workflows.operators.lists import CleanLists, CutLists, Tokenize, Vectors, WeightedLists, weights_of
from workflows.operators.numbers import (
    BucketCodes,
    Elapsed,
    FittedBuckets,
    MinMax,
    SignedLog,
    Standardise,
    TimeCodes,
    TimeWaves,
    ToFloat,
)
from workflows.operators.times import HOUR, TimeOf


def wants_gpu(device: Device) -> bool:
    """Return whether features are computed with cuDF: what the recipe says, not what is importable.

    Raises
    ------
    RecipeError
        The recipe wants a GPU, and there is no cuDF or no device.
    """
    if device == "cpu":
        return False
    from merlin.core.compat import HAS_GPU, cudf

    if HAS_GPU and cudf is not None:
        return True
    if device == "gpu":
        what = "cuDF cannot be imported" if HAS_GPU else "no GPU is visible"
        raise RecipeError(
            f'device = "gpu": {what}; use the NGC container with a GPU, or set device = "auto" or "cpu" in the recipe'
        )
    return False


def build_workflow(
    planned: list[Planned], scratch: str, aggregates: Mapping[str, Table] = MappingProxyType({})
) -> nvtabular.Workflow:
    """Return the unfitted workflow; one chain of operators per feature, which may share a vocabulary.

    Parameters
    ----------
    scratch
        A directory of this workflow alone for vocabularies: NVTabular caches them by path.
    aggregates
        The table of each of these features (`workflows.features.aggregates`).
    """
    chains = [_chain(entry, scratch) for entry in planned if not _shared(entry) and entry.output not in aggregates]
    chains += [_named(entry) >> Lookup(*aggregates[entry.output]) for entry in planned if entry.output in aggregates]
    for vocabulary in dict.fromkeys(_shared(entry) for entry in planned if _shared(entry)):
        chains += _with_one_vocabulary([entry for entry in planned if _shared(entry) == vocabulary], scratch)
    return nvtabular.Workflow(functools.reduce(operator.add, chains))


def _chain(entry: Planned, scratch: str) -> Any:
    return _CHAINS[type(entry.feature)](entry, scratch)


def _named(entry: Planned) -> Any:
    """Named first: fitted statistics and vocabularies are then found under the feature's own name."""
    return [entry.column] >> Rename(name=entry.output)


def _continuous(entry: Planned, _: str) -> Any:
    return _scaled(_named(entry) >> ToFloat("float64"), entry)


def _age(entry: Planned, _: str) -> Any:
    since, until = entry.columns
    feature: Any = entry.feature
    return _scaled([since, until] >> Elapsed(entry.output, since, until, SECONDS[feature.unit]), entry)


def _scaled(numbers: Any, entry: Planned) -> Any:
    feature: Any = entry.feature
    chain = numbers >> FillMissing(feature.fill)
    if feature.clip_min is not None or feature.clip_max is not None:
        chain = chain >> Clip(feature.clip_min, feature.clip_max)
    if feature.log:
        chain = chain >> SignedLog()
    if not feature.normalise:
        return chain >> ToFloat("float32")
    return chain >> (MinMax if feature.normalise == "min-max" else Standardise)(entry.column)


def _bucketized(entry: Planned, _: str) -> Any:
    feature: Any = entry.feature
    numbers = _named(entry) >> ToFloat("float64")
    if feature.edges is not None:
        return numbers >> BucketCodes(list(feature.edges))
    return numbers >> FittedBuckets(entry.column, feature.buckets, feature.method == "quantile")


def _time(entry: Planned, _: str) -> Any:
    feature: Any = entry.feature
    time = TimeOf(feature.part, round(feature.utc_offset_hours * HOUR))
    return _named(entry) >> ToFloat("float64") >> (TimeWaves(time) if feature.cyclic else TimeCodes(time))


def _categorical(entry: Planned, scratch: str) -> Any:
    return _encoded(_named(entry), entry, scratch, Codes)


def _cross(entry: Planned, scratch: str) -> Any:
    feature: Any = entry.feature
    keys = list(entry.columns) >> CrossKeys(entry.output, entry.columns, feature.edges)
    return _encoded(keys, entry, scratch, Codes)


def _multi_hot(entry: Planned, scratch: str) -> Any:
    lists, weights = _lists(entry)
    return _cut(_encoded(lists, entry, scratch, ListCodes), weights, entry)


def _text(entry: Planned, scratch: str) -> Any:
    feature: Any = entry.feature
    words = _named(entry) >> Tokenize(feature.ngrams)
    size = _table_size(feature.max_tokens)
    return words >> ListCodes(entry.column, out_path=scratch, max_size=size) >> CutLists(feature.max_length)


def _embedding(entry: Planned, _: str) -> Any:
    feature: Any = entry.feature
    codes = KeyedCodes(read_pretrained(feature).ids) if feature.file else Vectors(entry.column)
    return _named(entry) >> codes


_CHAINS: dict[type, Callable[[Planned, str], Any]] = {
    Continuous: _continuous,
    Age: _age,
    Bucketized: _bucketized,
    Time: _time,
    Categorical: _categorical,
    Cross: _cross,
    MultiHot: _multi_hot,
    Text: _text,
    Embedding: _embedding,
}


def _with_one_vocabulary(entries: list[Planned], scratch: str) -> list[Any]:
    """Return the chains of features that share a vocabulary."""
    sources = [_lists(entry) if isinstance(entry.feature, MultiHot) else (_named(entry), None) for entry in entries]
    together = functools.reduce(operator.add, [values for values, _ in sources])
    lists = {entry.output: isinstance(entry.feature, MultiHot) for entry in entries}
    columns = ", ".join(entry.column for entry in entries)
    options = {"out_path": scratch, **_limits(entries[0].feature)}
    codes = together >> SharedCodes(lists, _shared(entries[0]), column=columns, **options)
    return [
        _cut(codes[entry.output], weights, entry) if isinstance(entry.feature, MultiHot) else codes[entry.output]
        for entry, (_, weights) in zip(entries, sources, strict=True)
    ]


def _lists(entry: Planned) -> tuple[Any, Any]:
    """Return a multi-hot feature's clean lists, and their weights where it has some."""
    feature: Any = entry.feature
    if feature.weights is None:
        return _named(entry) >> CleanLists(), None
    both = [entry.column, feature.weights] >> WeightedLists(entry.output, entry.column, feature.weights)
    return both[entry.output], both[weights_of(entry.output)]


def _cut(codes: Any, weights: Any, entry: Planned) -> Any:
    feature: Any = entry.feature
    chain = codes >> CutLists(feature.max_length, feature.keep == "last")
    return chain if weights is None else chain + (weights >> CutLists(feature.max_length, feature.keep == "last"))


def _encoded(values: Any, entry: Planned, scratch: str, kind: type) -> Any:
    feature: Any = entry.feature
    if is_hashed(feature):
        return values >> HashCodes(feature.hash_buckets, kind is ListCodes)
    return values >> kind(entry.column, out_path=scratch, **_limits(feature))


def _limits(feature: Any) -> dict[str, Any]:
    return {
        "freq_threshold": feature.min_frequency,
        "max_size": _table_size(feature.max_size),
        "hash_buckets": feature.hash_buckets,
    }


def _shared(entry: Planned) -> Any:
    return getattr(entry.feature, "vocabulary", None)


def _table_size(values: int | None) -> int:
    """`Categorify` counts padding, null and unseen in its `max_size`; 0 is no limit."""
    return 0 if values is None else values + FIRST_KNOWN
