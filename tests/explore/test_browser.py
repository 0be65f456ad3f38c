"""The pages in Chromium: every view is opened, a filter and a click change the answer to what the release answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from ensemble.client.tensors import Query, tensors
from ensemble.serving.retriever import Retriever
from retrieval.explore.loaded.explored import Explored
from tests.explore.conftest import running
from tests.synthetic import Run

WIDTHS = {"desktop": (1280, 900), "phone": (390, 844)}
UNNAMED = """() => [...document.querySelectorAll("a, button, input:not([type=hidden]), select, [role=img]")].filter(
    (one) => !(one.labels?.length || one.getAttribute("aria-label") || one.textContent.trim() || one.title)
).map((one) => one.outerHTML)"""
"""What a screen reader could not name."""


class Opened(NamedTuple):
    """A page, the address of the server, and what the browser complained about."""

    page: Any
    base: str
    complaints: list[str]
    run: Run


@pytest.fixture(scope="module")
def opened(chromium: Any, runs: Callable[..., Run]) -> Iterator[Opened]:
    """A page that was let in; afterwards the browser must have had nothing to complain about."""
    run = runs("int64", last=5)
    with running(run.path) as listening:
        page, complaints = chromium.new_page(), list[str]()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda sent: sent.url.startswith("http://127.0.0.1:") or complaints.append(sent.url))
        page.goto(listening.address)
        yield Opened(page, listening.address.split("/?")[0], complaints, run)
        page.close()
    assert not [complaint for complaint in complaints if not complaint.startswith("data:")]


VIEWS = {
    "users": "/user",
    "user": "/user?user={user}&click={item}&why={item}",
    "items": "/item",
    "item": "/item?item={item}",
    "map": "/map",
    "quality": "/quality",
    "serving": "/serving",
}


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_fits_its_window_and_names_all_controls(opened: Opened, view: str) -> None:
    user, item = opened.run.users["user_id"][3], opened.run.items["item_id"][7]
    for scheme, width in (("light", "phone"), ("dark", "desktop")):
        size = WIDTHS[width]
        opened.page.set_viewport_size({"width": size[0], "height": size[1]})
        opened.page.emulate_media(color_scheme=scheme)
        opened.page.goto(opened.base + VIEWS[view].format(user=user, item=item))
        assert opened.page.evaluate("document.documentElement.scrollWidth") <= size[0], width
        assert opened.page.evaluate(UNNAMED) == []
        assert opened.page.locator("h1, h2").count() > 0


def test_a_filter_and_a_click_change_the_answer_to_what_the_release_answers(opened: Opened) -> None:
    page, run = opened.page, opened.run
    user = run.users["user_id"].tolist()[3]
    page.goto(f"{opened.base}/user?user={user}&time=1970-01-01T00:00:40")
    assert _shown(page) == _answer(run, user, None, None)
    page.locator("summary", has_text="genres").click()
    page.get_by_label("Comedy").first.check()
    _until_settled(page)
    comedies = '{"tags":{"genres":{"any":["Comedy"]}}}'
    assert _shown(page) == _answer(run, user, None, comedies) != _answer(run, user, None, None)
    clicked = int(page.locator(".ours li").first.get_attribute("data-item"))
    page.locator(".ours .add").first.press("Enter")  # by keyboard
    _until_settled(page)
    expected = _answer(run, user, [(clicked, 40)], comedies)
    assert _shown(page) == expected != _answer(run, user, None, comedies)
    assert f"click={clicked}" in page.url  # the address is one to share
    page.reload()
    assert _shown(page) == expected
    page.locator("#what-if .chip").click()
    _until_settled(page)
    assert _shown(page) == _answer(run, user, None, comedies)


def test_the_page_says_that_the_explorer_is_gone_and_goes_on_when_it_is_back(opened: Opened) -> None:
    page, user = opened.page, opened.run.users["user_id"].tolist()[3]
    page.goto(f"{opened.base}/user?user={user}&time=1970-01-01T00:00:40")
    before = _shown(page)
    page.context.set_offline(True)
    page.get_by_label("Items").first.fill("3")
    page.get_by_text("still running?").wait_for()
    page.context.set_offline(False)
    page.get_by_text("still running?").wait_for(state="hidden")
    assert _shown(page) == before[:3]
    opened.complaints.clear()  # that it was gone


def test_a_page_that_is_no_longer_let_in_says_so_in_place_of_an_old_answer(opened: Opened) -> None:
    page = opened.page
    page.goto(f"{opened.base}/user?user={opened.run.users['user_id'][3]}")
    cookies = page.context.cookies()
    page.context.clear_cookies()
    page.get_by_label("Items").first.fill("3")
    page.get_by_text("its token lets you in").wait_for()
    assert page.locator(".ours").count() == 0
    page.context.add_cookies(cookies)
    opened.complaints.clear()  # that it was refused


def test_by_keyboard_a_reason_is_opened_and_closed_and_the_focus_stays_in_the_answer(opened: Opened) -> None:
    page, focus = opened.page, "document.activeElement.closest('section').id"
    page.goto(f"{opened.base}/user?user={opened.run.users['user_id'][3]}")
    for selector, reasons in ((".ours button.score", 1), (".why .close", 0), (".ours .add", 0)):
        page.locator(selector).first.press("Enter")
        _until_settled(page)
        assert page.locator(".why").count() == reasons
        assert page.evaluate(focus) == "answer", selector


def test_sliders_ask_what_the_fields_beside_them_say(opened: Opened) -> None:
    page, run = opened.page, opened.run
    user = run.users["user_id"].tolist()[3]
    page.goto(f"{opened.base}/user?user={user}&time=1970-01-01T00:00:40&min.year=1900")
    years = run.items["year"].dropna()
    page.get_by_label("year from", exact=True).fill(str(int(years.median())))
    page.get_by_label("As of, within the history").fill("30")
    _until_settled(page)
    assert f"min.year={int(years.median())}" in page.url
    assert "time=1970-01-01T00%3A00%3A30" in page.url
    since = json.dumps({"ranges": {"year": {"min": float(years.median() // 1)}}})
    assert _shown(page) == _answer(run, user, None, since, now=30)


def test_the_map_is_zoomed_by_buttons_and_has_no_key_of_tags_for_popularity(opened: Opened) -> None:
    page = opened.page
    page.goto(f"{opened.base}/map")
    page.locator("canvas[data-drawn]").wait_for()
    page.get_by_role("button", name="Zoom in").press("Enter")
    page.get_by_role("button", name="Zoom in").click()
    assert page.evaluate("view.scale") == pytest.approx(1.96)
    page.get_by_role("button", name="Show all").click()
    assert page.evaluate("view.scale") == 1
    page.get_by_label("by popularity").check()
    assert not page.locator("#groups").is_visible()
    page.get_by_label("by tag").check()
    assert page.locator("#groups").is_visible()


def _until_settled(page: Any) -> None:
    page.wait_for_timeout(300)  # a typed field is asked for after a quarter of a second
    page.locator("[aria-busy=true]").first.wait_for(state="detached")


def _shown(page: Any) -> list[tuple[int, float]]:
    rows = "rows => rows.map(row => [Number(row.dataset.item), Number(row.dataset.score)])"
    return [tuple(row) for row in page.locator(".ours li").evaluate_all(rows)]


def _answer(run: Run, user: int, history: Any, text: str | None, now: int = 40) -> list[tuple[int, float]]:
    retriever, signature = Retriever.load(run.path / "release"), Explored(run.path).signature
    query = Query([user], 10, None, False, {}, [now], history and [history], text and [text])
    answer = retriever.answer(retriever.reader.read([tensors(signature, query)]))
    return list(zip(answer.item_id[0].tolist(), answer.score[0].tolist(), strict=True))
