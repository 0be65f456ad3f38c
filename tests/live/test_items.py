"""Items that people hand us: what is refused and how, and what a change leaves behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from ensemble.catalogue.changes import LiveItems
from ensemble.catalogue.derive import derive
from ensemble.catalogue.publish import publish, writing
from ensemble.config import Index
from ensemble.index.drift import measure
from ensemble.serving.errors import InvalidRelease
from ensemble.serving.files.release import Release
from ensemble.serving.retriever import Retriever
from ensemble.serving.search.catalogue import Catalogue
from retrieval.cli import app
from tests.livecatalogue import Items, make_live_run, new_id, write_items
from tests.synthetic import make_release
from workflows.errors import DataError, ReleaseError

ROWS = [
    {"item_id": 7_000_000_000_001, "title": "Új film", "weight": 0.5, "genres": ["drama", "noir"]},
    {"item_id": 7_000_000_000_002, "title": "B, or not", "weight": None, "genres": []},
]


@pytest.fixture(scope="module")
def items(tmp_path_factory: pytest.TempPathFactory) -> Items:
    """A run with a flat release. Do not write to it."""
    items = make_live_run(tmp_path_factory.mktemp("items"), "int64")
    make_release(items.run)
    return items


@pytest.fixture
def live(items: Items) -> LiveItems:
    """The release's items."""
    return LiveItems(Release.open(items.run.path / "release"))


def test_parquet_csv_and_json_lines_are_the_same_items(live: LiveItems, tmp_path: Path) -> None:
    frame = pd.DataFrame(ROWS)
    frame.to_parquet(tmp_path / "items.parquet")
    csv = frame.assign(genres=["drama| noir", ""])
    csv.to_csv(tmp_path / "items.csv", index=False)
    changes = [live.adding(write_items(tmp_path / "items.jsonl", ROWS))]
    changes += [live.adding(tmp_path / name) for name in ("items.parquet", "items.csv")]
    for change in changes:
        assert change.table is not None
        assert change.ids.tolist() == [row["item_id"] for row in ROWS]
        assert change.table["genres"].tolist() == [["drama", "noir"], []]
        assert change.table["title"].tolist() == [row["title"] for row in ROWS]
        np.testing.assert_array_equal(change.table["weight"].to_numpy(dtype=float), [0.5, np.nan])
        np.testing.assert_array_equal(change.vectors, changes[0].vectors)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{**ROWS[0], "weight": "heavy"}], ["column 'weight'", "row 0", "'heavy'", "a finite number"]),
        ([{**ROWS[0], "weight": float("inf")}], ["column 'weight'", "row 0", "'inf'", "a finite number"]),
        ([{**ROWS[0], "weight": 10**400}], ["column 'weight'", "row 0", "'1000", "a finite number"]),
        ([ROWS[0], {**ROWS[1], "genres": "drama"}], ["column 'genres'", "row 1", "'drama'", "a list"]),
        ([ROWS[0], {**ROWS[1], "genres": ["a", 5]}], ["column 'genres'", "row 1", "each entry text"]),
        ([{**ROWS[0], "title": 7}], ["column 'title'", "row 0", "'7'", "text"]),
        ([{**ROWS[0], "item_id": "x"}], ["column 'item_id'", "row 0", "'x'", "an integer of 64 bits"]),
        ([{**ROWS[0], "item_id": 2**63}], ["column 'item_id'", "row 0", "an integer of 64 bits"]),
        ([{**ROWS[0], "item_id": -(2**63)}], ["column 'item_id'", "row 0"]),
        ([ROWS[0], {**ROWS[1], "item_id": None}], ["column 'item_id'", "row 1", "null"]),
        ([ROWS[0], ROWS[1], ROWS[0]], ["column 'item_id'", "row 2", "twice"]),
        ([{"item_id": 1, "title": "no weight"}], ["column 'weight' is missing", "item_id, weight"]),
        ([{**ROWS[0], "colour": "red"}], ["column 'colour' is unknown", "genres"]),
        ([{**ROWS[0], "weight": 1e300}], ["column 'weight': row 0: got 1e+300", "finite float32"]),
        ([{**ROWS[0], "weight": 3e38}], ["no finite vector"]),
    ],
)
def test_a_wrong_item_is_refused_with_file_column_and_row(
    live: LiveItems, tmp_path: Path, rows: list[dict[str, Any]], words: list[str]
) -> None:
    path = write_items(tmp_path / "items.jsonl", rows)
    with pytest.raises(DataError) as caught:
        live.adding(path)
    assert [word for word in [str(path), *words] if word not in str(caught.value)] == []


def test_an_item_is_added_once_and_only_what_is_there_changes_or_goes(
    items: Items, live: LiveItems, tmp_path: Path
) -> None:
    known = int(items.run.items["item_id"].iloc[4])
    path = write_items(tmp_path / "items.jsonl", [ROWS[0], {**ROWS[1], "item_id": known}])
    with pytest.raises(DataError, match=rf"row 1: item {known} is in the catalogue already; use `items update`"):
        live.adding(path)
    with pytest.raises(DataError, match=r"row 0: item 7000000000001 is not in the catalogue; use `items add`"):
        live.updating(path)
    for what in ([str(path)], [str(known), "7000000000001"]):
        with pytest.raises(DataError, match=r"item 7000000000001 is not in the catalogue"):
            live.removing(what)
    with pytest.raises(DataError, match=r"row 0: got '5x'"):
        live.removing(["5x"])


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("items.txt", "x", ".parquet, .csv, .jsonl"),
        ("items.jsonl", '{"item_id": 1}\n{"item_id"', "line 2: not JSON"),
        ("items.jsonl", "[1]", "line 1: expected an object"),
        ("items.csv", "item_id,item_id\n1,2\n", "'item_id.1' is unknown|twice|missing"),
        ("items.csv", "item_id\n", "has no rows"),
        ("items.parquet", "x", "not readable as .parquet"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(live: LiveItems, tmp_path: Path, name: str, text: str, words: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=words) as caught:
        live.adding(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)
    with pytest.raises(DataError, match="no such file"):
        live.adding(tmp_path / "none.csv")


def test_a_derived_release_says_where_it_comes_from_and_is_as_closed_as_its_parent(
    live: LiveItems, tmp_path: Path
) -> None:
    change = live.adding(write_items(tmp_path / "items.jsonl", ROWS))
    derived = derive(live.release, change, tmp_path / "derived").release
    parent = live.release.manifest
    assert derived.manifest["release"] != parent["release"]
    assert derived.manifest["derived_from"]["release"] == parent["release"]
    assert derived.manifest["derived_from"]["pairing"] == parent["pairing"] != derived.manifest["pairing"]
    assert derived.manifest["derived_from"]["changes"] == {"add": 2, "update": 0, "remove": 0}
    assert derived.manifest["counts"]["items"] == parent["counts"]["items"] + 2
    vectors = np.load(derived.path / "items/vectors.npy")
    np.save(derived.path / "items/vectors.npy", vectors[::-1])
    with pytest.raises(InvalidRelease, match=r"vectors\.npy"):
        Release.open(derived.path)
    np.save(derived.path / "items/vectors.npy", vectors)
    (derived.path / "towers/item.onnx").write_bytes(b"another tower")
    with pytest.raises(InvalidRelease, match=r"item\.onnx"):
        Release.open(derived.path)


def test_a_derived_release_gets_a_new_index_when_the_old_one_is_no_longer_good(tmp_path: Path) -> None:
    items = make_live_run(tmp_path, "int64")
    release = Release.open(make_release(items.run, index=Index(kind="ivf_flat", nlist=4, nprobe=4)))
    rows = [{**ROWS[0], "item_id": new_id(0, number), "weight": number / 40} for number in range(90)]
    few = derive(release, LiveItems(release).adding(write_items(tmp_path / "few.jsonl", rows[:2])), tmp_path / "a")
    assert not few.rebuilt
    assert few.release.json("index/params.json")["items"] == 300
    many = LiveItems(few.release).adding(write_items(tmp_path / "many.jsonl", rows[2:]))
    rebuilt = derive(few.release, many, tmp_path / "b")
    assert rebuilt.rebuilt
    assert rebuilt.release.json("index/params.json")["items"] == 390
    quality = measure(LiveItems(rebuilt.release))
    assert (quality.live, quality.changed, quality.due) == (390, 0, False)
    gone = derive(rebuilt.release, LiveItems(rebuilt.release).removing(["7000000000003"]), tmp_path / "c")
    quality = measure(LiveItems(gone.release))
    assert (quality.live, quality.changed, gone.rebuilt) == (389, 1, False)


WRITER = """
import sys
from pathlib import Path
from ensemble.catalogue.publish import publish, writing
from ensemble.serving.files.release import Release

release, log, folder = Release.open(Path(sys.argv[1])), Path(sys.argv[2]), Path(sys.argv[3])
for number in range(int(sys.argv[4]), 10**6):
    path = folder / "items.jsonl"
    path.write_text('{"item_id": %d, "title": "x", "weight": 1.0, "genres": []}' % (8_000_000_000_000 + number))
    with writing(release, log) as items:
        print(publish(items, items.adding(path)).manifest["sequence"], flush=True)
"""


def test_a_writer_that_is_killed_leaves_whole_packages_and_nothing_in_the_way(items: Items, tmp_path: Path) -> None:
    release, log = items.run.path / "release", tmp_path / "delta"
    log.mkdir()
    published = 0
    for kill_after in (1, 2, 3):
        arguments = [release, log, tmp_path, str(published + 1000 * kill_after)]
        writer = subprocess.Popen([sys.executable, "-c", WRITER, *arguments], stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        with writer.stdout as lines:
            for _ in range(kill_after):
                published = int(next(lines))
            os.kill(writer.pid, signal.SIGKILL)
            published = max([published, *(int(line) for line in lines)])
        writer.wait()
        served = Retriever.load(release, log)
        applied = int(served.name.partition("+")[2])
        assert applied in (published, published + 1)  # named before it could say so
        assert served.catalogue.rows.live.sum() == 300 + applied
    with writing(Release.open(release), log) as live:
        last = publish(live, live.removing([str(items.run.items["item_id"].iloc[0])]))
    left = {path.name for path in last.path.parent.iterdir()}
    assert left == {".lock", *(f"{number:08d}" for number in range(1, int(last.path.name) + 1))}


def test_a_server_that_starts_with_a_damaged_package_does_not_serve(items: Items, tmp_path: Path) -> None:
    release, log, ids = Release.open(items.run.path / "release"), tmp_path / "delta", items.run.items["item_id"]
    log.mkdir()
    running = Retriever.load(release.path, log)
    with writing(release, log) as live:
        package = publish(live, live.adding(write_items(tmp_path / "items.jsonl", ROWS)))
        publish(live, live.removing([str(ids.iloc[0])]))
    vectors = package.path / "items/vectors.npy"
    whole = vectors.read_bytes()
    vectors.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(InvalidRelease, match=r"vectors\.npy: the content is not what was released"):
        Retriever.load(release.path, log)
    with pytest.raises(InvalidRelease, match=r"vectors\.npy"):
        running.refresh()
    assert running.name == release.manifest["release"]
    assert not running.refresh(), "it is looked at again once something else is in its place"
    vectors.write_bytes(whole)
    package.path.rename(log / "aside")
    (log / "aside").rename(package.path)
    os.utime(package.path)
    assert running.refresh()
    assert running.name == f"{release.manifest['release']}+2"


def test_two_catalogues_may_follow_one(items: Items, tmp_path: Path) -> None:
    first = Catalogue.load(Release.open(items.run.path / "release"))
    catalogues = []
    for weight in (1.0, -1.0):
        log = tmp_path / str(weight)
        log.mkdir()
        with writing(Release.open(items.run.path / "release"), log) as live:
            path = write_items(tmp_path / "items.jsonl", [{**ROWS[0], "weight": weight}])
            catalogues.append(first.with_delta(publish(live, live.adding(path))))
            catalogues[-1] = catalogues[-1].with_delta(publish(live, live.updating(path)))
    for weight, catalogue in zip((1.0, -1.0), catalogues, strict=True):
        expected = items.vectors({ROWS[0]["item_id"]: {"weight": weight}})
        np.testing.assert_allclose(catalogue.rows.vectors[300:], expected.repeat(2, axis=0), atol=1e-6)
        assert catalogue.rows.live[300:].tolist() == [False, True]
    assert first.rows.live.all()


def run(capfd: pytest.CaptureFixture[str], *arguments: Any) -> Any:
    """Run a command and return what it prints as JSON."""
    done = CliRunner().invoke(app, ["items", *map(str, arguments), "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(capfd.readouterr().out)


def test_the_commands_derive_change_measure_and_compact(
    items: Items, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    release, delta = items.run.path / "release", tmp_path / "delta"
    delta.mkdir()
    new = write_items(tmp_path / "new.jsonl", ROWS)
    derived = run(capfd, "add", release, new, "--out", tmp_path / "derived")
    assert (derived["items"], derived["changed"]) == (302, 2)
    assert Path(derived["repository"], "retrieval/config.pbtxt").is_file()
    again = run(capfd, "remove", tmp_path / "derived", "7000000000002", "--out", tmp_path / "again")
    assert again["items"] == 301
    assert run(capfd, "add", release, new, "--delta", delta)["sequence"] == 1
    update = write_items(tmp_path / "update.jsonl", [{"item_id": 7_000_000_000_002, "weight": 2.0}])
    assert run(capfd, "update", release, update, "--delta", delta)["sequence"] == 2
    removed = tmp_path / "removed.csv"
    removed.write_text("item_id,why\n7000000000001,recalled\n")
    assert run(capfd, "remove", release, removed, "--delta", delta)["sequence"] == 3
    quality = run(capfd, "status", release, "--delta", delta)
    assert (quality["live"], quality["changed"], quality["rebuild_due"]) == (301, 2, False)
    assert set(quality["recall"].values()) == {1.0}
    assert run(capfd, "compact", release, "--delta", delta, "--if-due") == quality
    compacted = run(capfd, "compact", release, "--delta", delta, "--out", tmp_path / "compacted")
    assert compacted["items"] == 301
    assert run(capfd, "status", tmp_path / "compacted", "--delta", delta)["changed"] == 0
    assert run(capfd, "remove", tmp_path / "compacted", "7000000000002", "--delta", delta)["sequence"] == 4


def test_a_directory_that_no_server_can_watch_is_no_place_for_a_change(items: Items, tmp_path: Path) -> None:
    release = Release.open(items.run.path / "release")
    with pytest.raises(ReleaseError, match=r"dleta: no such directory"), writing(release, tmp_path / "dleta"):
        pass


def test_where_a_change_goes_must_be_clear(items: Items) -> None:
    arguments = ["items", "remove", str(items.run.path / "release"), "1", "--out", "a", "--delta", "b"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 2
    assert "--out and --delta exclude each other" in done.output
