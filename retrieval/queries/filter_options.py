"""The filter options of `query` and `recommend`, as text, to a filter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from ensemble.client.filters import Crowding, Filter, Range, TagTest
from retrieval.options import Texts


@dataclass(frozen=True)
class FilterOptions:
    """The options that make a filter, as the user typed them."""

    tag: Annotated[Texts, typer.Option("--tag", help="ATTRIBUTE=VALUE; repeated: any of them.")] = None
    tag_all: Annotated[Texts, typer.Option("--tag-all", help="ATTRIBUTE=VALUE; repeated: all.")] = None
    not_tag: Annotated[Texts, typer.Option("--not-tag", help="ATTRIBUTE=VALUE; repeated: none.")] = None
    range: Annotated[Texts, typer.Option("--range", help="ATTRIBUTE=MIN:MAX; one may be blank.")] = None
    limit_per: Annotated[str | None, typer.Option("--limit-per", help="ATTRIBUTE=N, at most N of a value.")] = None
    min_score: Annotated[float | None, typer.Option("--min-score", help="Nothing that scores less.")] = None
    only_items: Annotated[Texts, typer.Option("--only-items", help="An item id; repeated: only these.")] = None
    raw: Annotated[str | None, typer.Option("--filter", help="A filter as JSON, see docs/serving.md.")] = None
    """In place of all the others."""


NO_FILTER = FilterOptions()


def filter_of(options: FilterOptions, item_id: Callable[[str, str], Any]) -> Filter | str | None:
    """Return the filter, None for none; `item_id` turns an option and its text into an id of the model.

    Raises InvalidRequest naming the option.
    """
    if options.raw is not None:
        others = [name for name, value in vars(options).items() if name != "raw" and value not in (None, [])]
        if others:
            raise _wrong(f"--filter: expected alone, got --{others[0].replace('_', '-')} as well")
        return options.raw
    only = [item_id("--only-items", text) for text in options.only_items or []]
    item_filter = Filter(
        allow=only or None,
        tags=_tags(options),
        ranges=dict(_range(text) for text in options.range or []),
        crowding=_crowding(options.limit_per),
        min_score=options.min_score,
    )
    return item_filter if item_filter.text() else None


def _tags(options: FilterOptions) -> dict[str, TagTest]:
    tests: dict[str, dict[str, list[str]]] = {}
    for test, option in (("any", "tag"), ("all", "tag_all"), ("none", "not_tag")):
        for text in getattr(options, option) or []:
            name, value = _split(f"--{option.replace('_', '-')}", text, "genres=Comedy")
            tests.setdefault(name, {}).setdefault(test, []).append(value)
    return {name: TagTest(**values) for name, values in tests.items()}


def _range(text: str) -> tuple[str, Range]:
    example = "year=1990:1999, year=1990: or year=:1999"
    name, ends = _split("--range", text, example)
    low, colon, high = ends.partition(":")
    if not colon or not (low or high):
        raise _wrong(f"--range {text}: expected {example}")
    try:
        return name, Range(float(low) if low else None, float(high) if high else None)
    except ValueError:
        raise _wrong(f"--range {text}: expected numbers, such as {example}") from None


def _crowding(text: str | None) -> Crowding | None:
    if text is None:
        return None
    name, limit = _split("--limit-per", text, "genres=3")
    if not limit.isdecimal():
        raise _wrong(f"--limit-per {text}: expected a whole number after the =, such as genres=3")
    return Crowding(name, int(limit))


def _split(option: str, text: str, example: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals or not value:
        raise _wrong(f"{option} {text}: expected ATTRIBUTE=VALUE, such as {example}")
    return name, value


def _wrong(text: str) -> Exception:
    from ensemble.client.tensors import InvalidRequest  # with NumPy, which `--help` can do without

    return InvalidRequest(text)
