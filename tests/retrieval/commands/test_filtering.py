"""The filter options of `retrieval query`."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ensemble.client.filters import Crowding, Filter, Range, TagTest
from ensemble.client.tensors import InvalidRequest
from retrieval.queries.filter_options import FilterOptions, filter_of
from retrieval.queries.query import Question, ask
from tests.served import Served


def number(option: str, text: str) -> Any:
    return int(text)


def test_options_make_the_filter_that_they_say() -> None:
    options = FilterOptions(
        tag=["genres=Comedy", "genres=Drama", "mood=a=b"],
        tag_all=["genres=War"],
        not_tag=["genres=Horror"],
        range=["year=1990:1999", "price=:9.5"],
        limit_per="genres=3",
        min_score=0.2,
        only_items=["5", "7"],
    )
    assert filter_of(options, number) == Filter(
        allow=[5, 7],
        tags={"genres": TagTest(["Comedy", "Drama"], ["War"], ["Horror"]), "mood": TagTest(["a=b"])},
        ranges={"year": Range(1990, 1999), "price": Range(None, 9.5)},
        crowding=Crowding("genres", 3),
        min_score=0.2,
    )
    assert filter_of(FilterOptions(), number) is None
    assert filter_of(FilterOptions(raw='{"deny": [1]}'), number) == '{"deny": [1]}'


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tag": ["genres"]}, "--tag genres: expected ATTRIBUTE=VALUE, such as genres=Comedy"),
        ({"not_tag": ["=x"]}, "--not-tag =x: expected"),
        ({"range": ["year=1990"]}, "--range year=1990: expected year=1990:1999"),
        ({"range": ["year=:"]}, "--range year=:: expected"),
        ({"range": ["year=a:b"]}, "--range year=a:b: expected numbers"),
        ({"limit_per": "genres=many"}, "--limit-per genres=many: expected a whole number"),
        ({"raw": "{}", "min_score": 0.0}, "--filter: expected alone, got --min-score as well"),
    ],
)
def test_a_wrong_option_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        filter_of(FilterOptions(**options), number)


def test_a_filters_text_states_what_is_stated() -> None:
    assert Filter().text() == ""
    assert Filter(tags={"genres": TagTest()}, ranges={"year": Range()}).text() == ""
    assert json.loads(Filter(allow=[]).text()) == {"allow": []}, "nothing is allowed, which is not everything"
    stated = Filter(deny=["é"], ranges={"year": Range(min=0)}, min_score=0.0).text()
    assert json.loads(stated) == {"deny": ["é"], "ranges": {"year": {"min": 0}}, "min_score": 0.0}


@pytest.mark.server
def test_a_question_with_filters_is_answered_by_them(served: Served) -> None:
    items = served.run.items.set_index("item_id")
    options = FilterOptions(tag=["genres=Drama"], range=["year=1993:"], limit_per="year=2")
    users = [str(user) for user in served.users[:2]]
    question = Question(users, 30, [], True, [], filters=options)
    for answer in ask(served.address, question, None):
        answered = items.loc[[item.id for item in answer.items]]
        assert len(answered) == 2 * (1999 - 1993 + 1)
        assert all("Drama" in genres for genres in answered["genres"])
        assert answered["year"].value_counts().to_dict() == dict.fromkeys(range(1993, 2000), 2)
    with pytest.raises(InvalidRequest, match="'any': no item has 'Dramma'; the values are such as 'Drama'"):
        ask(served.address, Question(users, 5, [], True, [], filters=FilterOptions(tag=["genres=Dramma"])), None)
