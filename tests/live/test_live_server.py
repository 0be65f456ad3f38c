"""A real Triton, fused and chained with two instances each, whose catalogue changes while it answers."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpc

from ensemble.catalogue.changes import LiveItems
from ensemble.catalogue.derive import derive
from ensemble.catalogue.in_force import check_in_force
from ensemble.catalogue.publish import publish, writing
from ensemble.server.ports import free_ports
from ensemble.server.server import TritonServer
from ensemble.serving.files.release import Release
from ensemble.triton.export import export_repository
from tests.livecatalogue import Items, make_live_run, new_id, write_items
from tests.synthetic import make_release
from workflows.errors import ReleaseError, ServerError

pytestmark = pytest.mark.server
MODELS = ("retrieval", "retrieval_chained")
_numbers = count()


@dataclass(frozen=True)
class Live:
    """A server and the directory that it watches."""

    items: Items
    release: Path
    delta: Path
    server: TritonServer
    log: list[str]
    folder: Path

    @property
    def address(self) -> str:
        """Return host:port of gRPC."""
        return self.server.addresses.grpc

    def row(self, **features: Any) -> dict[str, Any]:
        """Return an item that is not there yet."""
        item = new_id(self.items.run.items["item_id"].iloc[0], next(_numbers))
        return {"item_id": item, "title": "new", "genres": ["drama"], "weight": 0.0, **features}

    def change(self, doing: str, what: Any) -> tuple[Path, str]:
        """Write a change, wait until the server answers with it, and return the package and the server's release."""
        release = Release.open(self.release)
        with writing(release, self.delta) as items:
            package = publish(items, getattr(items, doing)(what))
        return package.path, check_in_force(self.address, int(package.path.name), release)

    def add(self, *rows: dict[str, Any]) -> tuple[Path, str]:
        """Add items."""
        return self.change("adding", write_items(self.folder / "items.jsonl", list(rows)))

    @property
    def user(self) -> Any:
        """Return a user whom the release does not know."""
        return "nobody" if self.items.run.users["user_id"].dtype == object else -1


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Serve a release in both layouts, two processes for each model, with a delta directory."""
    folder = tmp_path_factory.mktemp("live")
    items = make_live_run(folder / "run", "string")
    release = make_release(items.run, layout="both", instances=2)
    repository, delta = export_repository(release, folder / "triton"), folder / "delta"
    delta.mkdir()
    grpc_port, http_port, metrics_port = free_ports("127.0.0.1", 3)
    log: list[str] = []
    ports = {"grpc_port": grpc_port, "http_port": http_port, "metrics_port": metrics_port}
    with TritonServer(repository, delta=delta, on_log=log.append, **ports) as server:
        yield Live(items, release, delta, server, log, folder)


def answers(channel: Any, model: str, live: Live) -> tuple[list[Any], str]:
    """Return all that a stranger may be answered with, and the release that answered."""
    text = live.items.run.users["user_id"].dtype == object
    user = grpc.InferInput("user_id", [1, 1], "BYTES" if text else "INT64")
    user.set_data_from_numpy(np.array([[live.user]], dtype=object if text else np.int64))
    k = grpc.InferInput("top_k", [1, 1], "INT32")
    k.set_data_from_numpy(np.array([[400]], dtype=np.int32))
    outputs = [grpc.InferRequestedOutput(name) for name in ("item_id", "count", "release")]
    result = channel.infer(model, [user, k], outputs=outputs)
    ids = result.as_numpy("item_id")[0, : result.as_numpy("count")[0, 0]].tolist()
    return [item.decode() if text else item for item in ids], result.as_numpy("release")[0, 0].decode()


def test_new_items_are_answered_with_by_their_features(live: Live) -> None:
    heavy, light = live.row(weight=9.5), live.row(weight=-9.5)
    package, server = live.add(heavy, light)
    assert server.endswith(f"+{int(package.name)}")
    for model in MODELS * 2:
        with grpc.InferenceServerClient(live.address) as channel:
            ids, release = answers(channel, model, live)
        assert release == server
        assert {ids[0], ids[-1]} == {heavy["item_id"], light["item_id"]}


def test_an_updated_item_is_answered_with_once_and_in_its_new_place(live: Live) -> None:
    row = live.row(weight=9.9)
    live.add(row)
    path = write_items(live.folder / "items.jsonl", [{"item_id": row["item_id"], "weight": -9.9}])
    with grpc.InferenceServerClient(live.address) as channel:
        before = [answers(channel, model, live)[0] for model in MODELS]
        live.change("updating", path)
        after = [answers(channel, model, live)[0] for model in MODELS]
    place = {row["item_id"]: 0}
    for old, new in zip(before, after, strict=True):
        assert sorted(map(str, old)) == sorted(map(str, new))
        place[row["item_id"]] = old.index(row["item_id"]) + new.index(row["item_id"])
        assert place[row["item_id"]] >= len(old) - 5  # from one end to the other
        assert new.count(row["item_id"]) == 1


def test_a_server_of_another_release_is_not_taken_for_one_that_answers_with_a_change(live: Live) -> None:
    items = LiveItems(Release.open(live.release))
    derived = derive(items.release, items.removing([str(items.catalogue.rows.ids[0])]), live.folder / "other").release
    with pytest.raises(ServerError, match=f"serves release .*, not {derived.manifest['release']}"):
        check_in_force(live.address, 0, derived)


@pytest.mark.parametrize("model", MODELS)
def test_no_request_sent_after_a_removal_returned_is_answered_with_what_was_removed(live: Live, model: str) -> None:
    rows = [live.row(weight=float(weight)) for weight in range(-8, 8)]
    live.add(*rows)
    gone: set[Any] = set()
    stop = Event()

    def keep_asking() -> tuple[int, int]:
        sent = wrong = 0
        with grpc.InferenceServerClient(live.address) as channel:
            while not stop.is_set():
                removed = frozenset(gone)  # before the request is sent
                ids, _ = answers(channel, model, live)
                sent, wrong = sent + 1, wrong + bool(removed & set(ids))
        return sent, wrong

    with ThreadPoolExecutor(4) as threads:
        asking = [threads.submit(keep_asking) for _ in range(4)]
        try:
            for row in rows:
                with writing(Release.open(live.release), live.delta) as items:
                    publish(items, items.removing([str(row["item_id"])]))
                gone.add(row["item_id"])  # nobody was asked whether it is in force
        finally:
            stop.set()
        counts = [future.result() for future in asking]
    assert all(sent > 0 for sent, _ in counts)
    assert [wrong for _, wrong in counts] == [0, 0, 0, 0]


def test_a_damaged_package_is_refused_and_named_and_what_was_there_goes_on(live: Live) -> None:
    row = live.row(weight=7.7)
    last, server = live.add(row)
    broken = last.with_name(f"{int(last.name) + 1:08d}")
    shutil.copytree(last, broken)  # of another number than it says
    with grpc.InferenceServerClient(live.address) as channel:
        for model in MODELS * 4:
            ids, release = answers(channel, model, live)
            assert release == server
            assert row["item_id"] in ids
    with pytest.raises(ServerError, match="refused a package"):
        check_in_force(live.address, int(broken.name), Release.open(live.release), timeout_s=0.3)
    refused = [line for line in live.log if "a change of the catalogue was refused" in line]
    assert 0 < len(refused) <= 4, "each process says it once"
    assert all(f"sequence is {int(last.name)}, expected {int(broken.name)}" in line for line in refused)
    with pytest.raises(ReleaseError, match="restore that package"), writing(Release.open(live.release), live.delta):
        pass
    shutil.rmtree(broken)
    assert live.change("removing", [str(row["item_id"])])[0] == broken
    with grpc.InferenceServerClient(live.address) as channel:
        assert all(row["item_id"] not in answers(channel, model, live)[0] for model in MODELS * 2)
