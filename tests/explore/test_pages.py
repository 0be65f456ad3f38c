"""The pages without a browser: who may open them, what they say of bad input, and that they recover."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from onnx import TensorProto, helper
from werkzeug.datastructures import MultiDict

from ensemble.catalogue.publish import publish, writing
from ensemble.client import Recommendations
from ensemble.client.tensors import Query, tensors
from ensemble.config import Index, Serving
from ensemble.index.drift import Quality
from ensemble.release.write import Parts, Settings, Training, write_release
from ensemble.serving.files.release import Release
from ensemble.serving.retriever import Retriever
from models.towers.onnx import pairing_of
from retrieval.explore.app import Server, create_app
from retrieval.explore.loaded.explored import Explored
from retrieval.explore.request.answers import InProcess
from retrieval.explore.request.snippets import over_http, tritonclient
from retrieval.explore.request.why import why
from retrieval.explore.serve import listen, protect
from retrieval.explore.views.drift import Drift
from retrieval.explore.views.user import user_page
from tests.synthetic import DIM, Run, make_release, make_run, write_tower
from workflows.errors import ServerError


def test_the_first_page_waits_for_no_library_that_it_does_not_need(dated_run: Run) -> None:
    heavy = {"tensorflow", "merlin", "nvtabular", "pandas", "sklearn", "scipy", "cryptography", "grpc", "onnx"}
    code = (
        "import sys; from pathlib import Path; from retrieval.explore.app import create_app\n"
        "page = create_app([Path(sys.argv[1])]).test_client().get('/user')\n"
        f"print(page.status, {heavy} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code, dated_run.path], capture_output=True, text=True)
    assert done.stdout == "200 OK set()\n", done.stderr


def test_nobody_without_the_token_reads_a_page(dated_run: Run) -> None:
    app = create_app([dated_run.path])
    protect(app, "a token")
    client = app.test_client()
    for address in ("/user", "/style.css", "/static/explore.js", "/user?token=another", "/user?token="):
        assert client.get(address).status_code == 403, address
    let_in = client.get("/user?token=a+token&top_k=5")
    assert (let_in.status_code, let_in.location) == (302, "/user?top_k=5")  # the token is not left in the history
    assert {"HttpOnly", "SameSite=Strict"} <= set(let_in.headers["Set-Cookie"].split("; "))
    page = client.get("/user?top_k=5")
    assert page.status_code == 200
    assert "default-src 'self'" in page.headers["Content-Security-Policy"]


def test_a_page_names_the_field_that_is_wrong_and_keeps_the_others(dated_run: Run, pages: Callable[..., Any]) -> None:
    client, user = pages(dated_run.path), dated_run.users["user_id"][0]
    number = dated_run.users["user_id"].dtype != object
    wrong = {
        "top_k=0": "top-k: got 0, expected a whole number from 1 to 200",
        "top_k=999999999999": "top-k: got 999999999999",
        "time=yesterday": "time: got yesterday, expected such as 1998-04-23T18:24:46",
        "min.year=old": "min year old: the model takes a number here",
        "any.genres=Comedie": "Comedie",
        "crowding=x&crowding_by=year": "at most, by year: got x",
        "min.year=nan": "min year: got nan, expected a finite number",
        "col.age=old": "age old: the model takes a number here",
        **({"click=x": "history x: the model takes an integer here", "deny=x": "deny x"} if number else {}),
    }
    for field, message in wrong.items():
        page = client.get("/user", query_string=f"user={user}&col.occupation=artist&{field}")
        text = unescape(page.get_data(as_text=True))
        assert page.status_code == 200, field
        assert 'role="alert"' in text, field
        assert message in text, field
        assert 'name="col.occupation"' not in text or 'value="artist"' in text


NASTY = (
    "--5",
    "9" * 5000,
    "-" + "9" * 30,
    "²",
    "1e999",
    "\x00",
    "😀",
    "%",
    " 5 ",
    str(2**63),
    "[]",
    "../..",
    "9999-12-31T23:59",
)
FIELDS = (
    *("user", "item", "q", "run", "top_k", "time", "click", "drop", "why", "any.genres", "min.year", "crowding"),
    *("crowding_by", "min_score", "allow", "deny", "col.age", "col.nothing"),
)


def test_no_address_breaks_a_page(dated_run: Run, pages: Callable[..., Any]) -> None:
    client = pages(dated_run.path)
    defaults = {"user": str(dated_run.users["user_id"][0]), "crowding": "2", "crowding_by": "genres"}
    for field in FIELDS:
        for text in NASTY:
            for view in ("/user", "/item") if field in ("item", "q", "run") else ("/user",):
                page = client.get(view, query_string={**defaults, field: text})
                assert page.status_code == 200, (view, field, text[:40])


def test_whatever_stands_in_a_table_is_text_in_the_page(tmp_path: Path, pages: Callable[..., Any]) -> None:
    run = make_run(tmp_path, "string", last=5)
    mischief = "<script>alert(1)</script>"
    run.items["title"] = mischief
    run.items.to_parquet(tmp_path / "features" / "catalogue.parquet")
    make_release(run)
    client = pages(tmp_path)
    page = client.get("/user", query_string={"user": run.users["user_id"][0], "q": mischief, "click": mischief})
    assert mischief not in page.get_data(as_text=True)
    assert unescape(page.get_data(as_text=True)).count(mischief) > 10


def test_a_release_that_is_missing_or_damaged_is_said_and_recovers(
    dated_run: Run, tmp_path: Path, pages: Callable[..., Any]
) -> None:
    (tmp_path / "recipe.json").write_text("{}")  # a run
    client, address = pages(tmp_path), "/user"
    assert client.get(address).status_code == 503
    assert "release/manifest.json: missing" in client.get(address).get_data(as_text=True)
    shutil.copytree(dated_run.path / "release", tmp_path / "release")
    assert client.get(address).status_code == 200
    manifest = tmp_path / "release" / "manifest.json"
    whole = manifest.read_text(encoding="utf-8")
    manifest.write_text(whole[:-20], encoding="utf-8")
    assert client.get(address).status_code == 503
    manifest.write_text(whole, encoding="utf-8")
    assert client.get(address).status_code == 200


def test_a_damaged_file_of_the_run_is_named_and_read_again(
    dated_run: Run, tmp_path: Path, pages: Callable[..., Any]
) -> None:
    place = Path(shutil.copytree(dated_run.path, tmp_path / "run"))
    (place / "metrics.json").write_text('{"protocol": "as it was"}')
    client = pages(place)
    for file, view in (("metrics.json", "/quality"), ("features/test/interactions.parquet", "/user")):
        whole = (place / file).read_bytes()
        (place / file).write_bytes(whole[:-20])
        page = client.get(view)
        assert page.status_code == 503, file
        assert str(place / Path(file).parent) in unescape(page.get_data(as_text=True)), file
        (place / file).write_bytes(whole)
        assert client.get(view).status_code == 200, file


def test_a_server_that_does_not_answer_is_said_in_the_page(dated_run: Run, pages: Callable[..., Any]) -> None:
    client = pages(dated_run.path, server=Server("127.0.0.1:1"))
    page = client.get("/user", query_string={"user": dated_run.users["user_id"][0]}).get_data(as_text=True)
    assert 'role="alert" data-retry=' in page
    assert "127.0.0.1:1" in page


def test_the_index_is_measured_again_when_items_change(dated_run: Run, tmp_path: Path) -> None:
    drift = Drift(dated_run.path, tmp_path)

    def measured() -> Quality | str:
        drift.look()
        drift.wait()
        return drift.look()

    before, release = measured(), Release.open(dated_run.path / "release")
    assert isinstance(before, Quality)
    assert (before.changed, before.live) == (0, len(dated_run.items))
    with writing(release, tmp_path) as items:
        publish(items, items.removing([str(item_id) for item_id in dated_run.items["item_id"][:3]]))
    after = measured()
    assert isinstance(after, Quality)
    assert (after.changed, after.live) == (3, before.live - 3)
    drift = Drift(dated_run.path, tmp_path / "none")
    assert "none: no such directory" in str(measured())


def test_a_request_to_copy_is_the_one_that_was_asked(dated_run: Run) -> None:
    explored = Explored(dated_run.path)
    item, user = dated_run.items["item_id"].tolist()[7], dated_run.users["user_id"].tolist()[3]
    query = Query([user], 7, None, True, {"age": [33.0]}, [40], [[(item, 40)]], ['{"ranges":{"year":{"min":1993}}}'])
    expected = tensors(explored.signature, query)
    sent = {entry["name"]: entry for entry in json.loads(over_http(explored.signature, query))["inputs"]}
    assert {name: entry["data"] for name, entry in sent.items()} == {n: a.ravel().tolist() for n, a in expected.items()}
    code = tritonclient(explored.signature, query, "127.0.0.1:8001")
    values: dict[str, Any] = {}
    exec(code[: code.index("inputs = []")].replace("import tritonclient.grpc as grpc", ""), values)
    for name, _, array in values["values"]:
        np.testing.assert_array_equal(array, expected[name], strict=True)


def test_a_click_changes_the_answer_as_the_same_request_does(dated_run: Run, pages: Callable[..., Any]) -> None:
    client, retriever = pages(dated_run.path), Retriever.load(dated_run.path / "release")
    user, item = dated_run.users["user_id"].tolist()[3], dated_run.items["item_id"].tolist()[7]
    signature = Explored(dated_run.path).signature
    page = client.get("/user", query_string={"user": user, "time": "1970-01-01T00:00:40", "click": item})
    query = Query([user], 10, None, False, {}, [40], [[(item, 40)]])
    answer = retriever.answer(retriever.reader.read([tensors(signature, query)]))
    shown = [part.split('"')[0] for part in unescape(page.get_data(as_text=True)).split('data-item="')[1:]]
    assert shown[:10] == [str(item_id) for item_id in answer.item_id[0].tolist()]


def test_why_scores_as_the_release_does_and_sees_what_the_query_hangs_on(dated_run: Run) -> None:
    explored, users = Explored(dated_run.path), dated_run.users["user_id"].tolist()
    row = next(row for row in range(len(users)) if len(explored.past(row).items) > 5)
    query = Query([users[row]], 10, None, True, {}, [40])
    [answer] = InProcess(explored).ask(query)
    best = explored.items.row(answer.item_ids[0])
    explanation = why(explored, query, best, explored.past(row, 40).items)
    assert explanation.score == pytest.approx(answer.scores[0], abs=1e-6)
    reference = dated_run.users.iloc[[row]].assign(timestamp=40)
    without = {
        "age": reference.assign(age=np.nan),
        "occupation": reference.assign(occupation=None),
        "history": reference.assign(timestamp=-1),
    }
    expected = {
        name: explanation.score - float(dated_run.reference(query)[0] @ dated_run.vectors[best])
        for name, query in without.items()
    }
    adds = {part.name: part.adds for part in explanation.parts}
    assert adds.keys() == {"user_id", "age", "occupation", "history"}
    for name, value in expected.items():
        assert adds[name] == pytest.approx(value, abs=1e-5), name
    assert adds["user_id"] != pytest.approx(0, abs=1e-4)
    past = explored.past(row, 40).items
    products = dated_run.vectors[past[past != best]] @ dated_run.vectors[best]
    assert explanation.nearest[0][1] == pytest.approx(products.max(), abs=1e-6)


PARTS = ("inputs", "steps", "outputs")


def test_a_user_whose_features_are_looked_up_is_explained_as_any_other(tmp_path: Path) -> None:
    run, out = make_run(tmp_path), TensorProto.INT64
    table = np.random.default_rng(0).normal(size=(len(run.users) + 3, DIM)).astype(np.float32)
    node = helper.make_node("Gather", ["table/user_id", "user_id"], ["vector"])
    write_tower(tmp_path / "towers" / "query.onnx", [node], {"user_id": out}, {}, {"user_id": table})
    transform = tmp_path / "features" / "query_transform"
    stated = json.loads((transform / "transform.json").read_bytes())
    (transform / "transform.json").write_text(json.dumps({**stated, **{key: stated[key][:1] for key in PARTS}}))
    towers = json.loads((tmp_path / "towers" / "towers.json").read_bytes())
    towers |= {"query_inputs": [{"name": "user_id"}], "pairing": pairing_of(tmp_path / "towers")}
    (tmp_path / "towers" / "towers.json").write_text(json.dumps(towers))
    row_of = {user: row for row, user in enumerate(run.users["user_id"])}
    training = Training(lambda queries: table[[3 + row_of.get(user, -1) for user in queries["user_id"]]], None)
    write_release(Parts.of(tmp_path), training, Settings("synthetic", "0" * 64, Serving(), Index()))
    explored, item = Explored(tmp_path), 7
    explanation = why(explored, Query([explored.user_ids[3]]), item, explored.past(3).items)
    [part] = explanation.parts
    assert part.adds == pytest.approx(float((table[6] - table[2]) @ run.vectors[item]), abs=1e-5)


def test_interactions_without_times_are_shown_without_them(tmp_path: Path, pages: Callable[..., Any]) -> None:
    run = make_run(tmp_path)
    for part in ("train", "valid", "test"):
        path = tmp_path / "features" / part / "interactions.parquet"
        pd.read_parquet(path).assign(timestamp=0).to_parquet(path)
    make_release(run)
    client, explored = pages(tmp_path), Explored(tmp_path)
    explored.finish()
    row = int(explored.counts().argmax())
    views = {
        "/user": {"user": explored.user_ids[row]},
        "/item": {"item": explored.items.ids[explored.past(row).items[0]]},
    }
    for view, asked in views.items():
        page = client.get(view, query_string=asked).get_data(as_text=True)
        assert not re.search("1970|timeline|newest", page), view
        assert "adds an item to the history" not in page


def test_a_title_is_no_tag(run: Run) -> None:
    explored = Explored(run.path)
    assert list(explored.items.tags) == ["genres"]
    assert all("Title" not in explored.items.shown(row).tags for row in range(len(explored.items)))


def test_the_other_run_is_asked_the_same(run: Run, dated_run: Run, pages: Callable[..., Any]) -> None:
    page = pages(run.path, dated_run.path).get("/user?user=17&any.genres=a&any.genres=b").get_data(as_text=True)
    assert '<a href="?user=17&any.genres=a&any.genres=b&run=1"' in unescape(page)


def test_an_item_says_who_is_answered_with_it(dated_run: Run) -> None:
    explored = Explored(dated_run.path)
    counts = explored.exposure.counts()
    item = int(counts.argmax())
    users = explored.exposure.users_of(item)
    assert len(users) == counts[item] > 0
    for row, place in users[:3]:
        user, newest = explored.user_ids[row], explored.past(row).seconds
        [answer] = InProcess(explored).ask(Query([user], 10, timestamps=[int(newest[-1])] if len(newest) else [49]))
        assert answer.item_ids[place - 1] == explored.items.ids[item]


def test_a_port_that_is_taken_is_named(dated_run: Run) -> None:
    first = listen([dated_run.path])
    try:
        with pytest.raises(ServerError, match=f"--port {first.server.effective_port}: Address already in use"):
            listen([dated_run.path], port=first.server.effective_port)
    finally:
        first.close()


def test_items_that_the_run_does_not_have_are_said(dated_run: Run) -> None:
    class Changed(InProcess):
        def ask(self, query: Query) -> list[Recommendations]:
            [answer] = super().ask(query)
            strange: Any = "new" if isinstance(answer.item_ids[0], str) else 17
            return [replace(answer, item_ids=[strange, *answer.item_ids[1:]])]

    explored, user = Explored(dated_run.path), str(dated_run.users["user_id"][0])
    page = user_page(explored, Changed(explored), MultiDict({"user": user}), None)
    assert len(page["columns"][0].items) == 9
    assert page["columns"][0].note.startswith("1 answered items are not of this run")
