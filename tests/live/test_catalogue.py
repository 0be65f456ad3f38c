"""Any sequence of changes is as good as a catalogue made from scratch: in a running server's terms and in a release."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble.catalogue.changes import LiveItems
from ensemble.catalogue.derive import compact, derive
from ensemble.catalogue.publish import publish, writing
from ensemble.config import Index
from ensemble.serving.files.release import Release
from ensemble.serving.retriever import Answer, Retriever
from tests.livecatalogue import GENRES, Items, brute_force, make_live_run, new_id, seen_by, write_items
from tests.synthetic import make_release

State = dict[Any, dict[str, Any]]
Step = tuple[str, list[int], int]


@pytest.fixture(scope="module", params=[("int64", "ivf_flat"), ("string", "flat")], ids=str)
def items(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Items:
    """A run and its release."""
    ids, kind = request.param
    items = make_live_run(tmp_path_factory.mktemp("live"), ids)
    make_release(items.run, index=Index(kind=kind) if kind == "flat" else Index(kind=kind, nlist=4, nprobe=4))
    return items


steps = st.lists(
    st.tuples(
        st.sampled_from(["add", "update", "remove"]),
        st.lists(st.integers(0, 10**6), min_size=1, max_size=4),
        st.integers(0, 10**6),
    ),
    min_size=1,
    max_size=6,
)


def change(live: LiveItems, state: State, step: Step, folder: Path) -> Any:
    """Make a step both ways: to the dictionary, and as a change of the release's items; None: nothing to do."""
    operation, numbers, seed = step
    rng, like = np.random.default_rng(seed), next(iter(live.catalogue.rows.ids))
    gone = [item for item in live.table["item_id"] if item not in state]
    present = list(state)
    if operation == "add":  # what was removed comes back sometimes
        pool = [new_id(like, number % 50) for number in numbers] + gone[: numbers[0] % 3]
        chosen = [item for item in dict.fromkeys(pool) if item not in state]
    else:
        chosen = list(dict.fromkeys(present[number % len(present)] for number in numbers if present))
    if not chosen:
        return None
    if operation == "remove":
        for item in chosen:
            del state[item]
        return live.removing([str(item) for item in chosen])
    rows = [{"item_id": item, **_features(rng)} for item in chosen]
    if operation == "update":  # the file has one column only
        rows = [{"item_id": row["item_id"], "weight": row["weight"]} for row in rows]
    for row in rows:
        state[row["item_id"]] = {**state.get(row["item_id"], {}), **row}
    path = write_items(folder / "items.jsonl", rows)
    return live.adding(path) if operation == "add" else live.updating(path)


def _features(rng: np.random.Generator) -> dict[str, Any]:
    genres = [str(genre) for genre in rng.choice([*GENRES, "új műfaj"], rng.integers(0, 3), replace=False)]
    return {"title": f"Title {rng.integers(10**6)}", "weight": round(float(rng.normal()), 3), "genres": genres}


def ask(retriever: Retriever, users: list[Any], **inputs: Any) -> Answer:
    """Ask for everything."""
    wire = [[user.encode()] if isinstance(user, str) else [user] for user in users]
    sent = {"user_id": np.array(wire, dtype=object if isinstance(users[0], str) else np.int64)}
    sent["top_k"] = np.full((len(users), 1), 400, dtype=np.int32)
    return retriever.answer(retriever.reader.read([{**sent, **inputs}]))


def check(items: Items, state: State, retriever: Retriever) -> None:
    """Compare answers, with seen items left out, with exclusions and with filters, with a catalogue from scratch."""
    users = items.run.users["user_id"].tolist()[:3]
    queries = items.run.reference(items.run.users.iloc[:3])
    named = [*list(state)[-3:], *list(items.run.items["item_id"])[:2]]
    exclude = np.array([[item.encode() if isinstance(item, str) else item for item in named]] * 3)
    tests: list[tuple[dict[str, Any], Any]] = [
        ({}, lambda row: True),
        ({"exclude_item_ids": exclude}, lambda row: row["item_id"] not in named),
        (_filter({"tags": {"genres": {"any": ["comedy"]}}}), lambda row: "comedy" in row["genres"]),
        (_filter({"tags": {"genres": {"none": ["noir"]}}}), lambda row: "noir" not in row["genres"]),
        (_filter({"ranges": {"weight": {"min": 0.25}}}), lambda row: row["weight"] >= 0.25),
        (_filter({"allow": _plain(named)}), lambda row: row["item_id"] in named),
    ]
    for inputs, allowed in tests:
        answer = ask(retriever, users, **inputs)
        left = {item: row for item, row in state.items() if allowed({"item_id": item, **row})}
        for row, seen in enumerate(seen_by(items.run, user) for user in users):
            expected = [pair for pair in brute_force(items, left, queries[row]) if pair[0] not in seen]
            count = int(answer.count[row])
            assert answer.item_id[row, :count].tolist() == [item for item, _ in expected]
            np.testing.assert_allclose(answer.score[row, :count], [score for _, score in expected], atol=1e-5)


def _filter(document: Any) -> dict[str, np.ndarray]:
    return {"filter": np.array([[json.dumps(document).encode()]] * 3, dtype=object)}


def _plain(ids: list[Any]) -> list[Any]:
    return [item if isinstance(item, str) else int(item) for item in ids]


@settings(max_examples=5, deadline=None)
@given(script=steps, cut=st.integers(0, 6))
def test_any_sequence_of_changes_equals_a_catalogue_from_scratch(items: Items, script: list[Step], cut: int) -> None:
    release, state = Release.open(items.run.path / "release"), items.rows()
    with TemporaryDirectory() as name:
        folder, log = Path(name), Path(name) / "delta"
        log.mkdir()
        running = Retriever.load(release.path, log)
        for number, step in enumerate(script):
            with writing(release, log) as live:
                changed = change(live, state, step, folder)
                if changed is not None:
                    publish(live, changed)
            running.refresh()
            if number == cut:  # a server that starts from a compacted release follows the rest of the changes
                compacted = compact(LiveItems(release, log), folder / "compacted")
                assert compacted.manifest["counts"]["items"] == len(state)
                later = Retriever.load(compacted.path, log)
        check(items, state, running)
        check(items, state, Retriever.load(release.path, log))
        if cut < len(script):
            later.refresh()
            check(items, state, later)


@settings(max_examples=3, deadline=None)
@given(script=steps)
def test_releases_derived_from_releases_equal_a_catalogue_from_scratch(items: Items, script: list[Step]) -> None:
    release, state = Release.open(items.run.path / "release"), items.rows()
    with TemporaryDirectory() as name:
        for number, step in enumerate(script[:4]):
            changed = change(LiveItems(release), state, step, Path(name))
            if changed is not None:
                release = derive(release, changed, Path(name) / f"derived-{number}").release
        assert release.manifest["counts"]["items"] == len(state)
        check(items, state, Retriever.load(release.path))
        check(items, state, Retriever.load(compact(LiveItems(release), Path(name) / "compacted").path))
