"""The page of docs/onnx-web in Chromium: an exported release answers there as it does here."""

from __future__ import annotations

import functools
import shutil
import threading
from collections.abc import Callable
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from ensemble.client.tensors import Query
from ensemble.onnx_graph.export import write_onnx
from retrieval.explore.loaded.explored import Explored
from retrieval.explore.request.answers import InProcess
from tests.synthetic import Run

PAGE = Path(__file__).parents[2] / "docs" / "onnx-web"


@pytest.mark.parametrize("ids", ["int64", "string"])
def test_an_exported_release_answers_in_the_browser(
    chromium: Any, runs: Callable[..., Run], ids: str, tmp_path: Path
) -> None:
    if not (PAGE / "node_modules").is_dir():
        pytest.skip("onnxruntime-web is not installed; npm ci --ignore-scripts --prefix docs/onnx-web")
    run = runs(ids, last=5)
    explored = Explored(run.path)
    place = Path(shutil.copytree(PAGE, tmp_path / "page", ignore=shutil.ignore_patterns("node_modules")))
    (place / "node_modules").symlink_to(PAGE / "node_modules")
    write_onnx(explored.retriever.release, 10, place / "recommend.onnx", str)
    row = next(row for row in range(len(run.users)) if len(explored.past(row).items) > 5)
    [expected] = InProcess(explored).ask(Query([run.users["user_id"].tolist()[row]], 10, timestamps=[49]))
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(place)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    page = chromium.new_page()
    page.goto(f"http://127.0.0.1:{server.server_port}/")
    page.get_by_text("ready").wait_for()
    for name, text in fields(explored, run, row).items():
        page.get_by_label(name, exact=True).fill(text)
    page.get_by_role("button").click()
    page.get_by_text("items in").wait_for()
    shown = [line.rpartition(": ") for line in page.locator("#answer li").all_inner_texts()]
    assert [item for item, _, _ in shown] == [str(item_id) for item_id in expected.item_ids]
    assert [float(score) for _, _, score in shown] == pytest.approx(expected.scores, abs=1e-4)
    page.close()
    server.shutdown()
    server.server_close()


def fields(explored: Explored, run: Run, row: int) -> dict[str, str]:
    """Return what the page's form takes of a user."""
    past, user = explored.past(row), explored.attributes(row)
    return {
        "user_id": str(run.users["user_id"].tolist()[row]),
        "age": "" if user["age"] is None else str(user["age"]),
        "occupation": user["occupation"] or "",
        "timestamp": "49",
        "history_item_ids": ",".join(str(explored.items.ids[item]) for item in past.items.tolist()),
        "history_timestamps": ",".join(map(str, past.seconds.tolist())),
    }


class Quiet(SimpleHTTPRequestHandler):
    """Serves files without a line for each."""

    def log_message(self, *values: object) -> None:
        """Say nothing."""
