"""`report.html`: one run on one self-contained page."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import jinja2
import msgspec
import numpy as np

from retrieval.explore.loaded.explored import Explored
from retrieval.explore.request.answers import InProcess
from retrieval.explore.request.form import Given, written
from retrieval.explore.views.item import item_page
from retrieval.explore.views.map import IN_REPORT, ItemMap
from retrieval.explore.views.quality import quality_page
from retrieval.explore.views.user import user_page
from retrieval.report.card import card
from retrieval.report.charts import Series, line_chart, over_epochs
from retrieval.report.examples import pick_users
from retrieval.report.peers import COLUMNS, rows_for_page
from retrieval.report.tables import CUTOFFS, asked_rows, per_user_rows, tasks_for_page
from retrieval.runs.run import Run
from workflows.files import atomic_write
from workflows.installed import installed_versions

PACKAGES = (
    "merlin-retrieval",
    "nvtabular",
    "merlin-core",
    "merlin-models",
    "merlin-systems",
    "tensorflow-cpu",
    "tensorflow",
    "numpy",
    "pandas",
    "faiss-cpu",
    "onnxruntime",
    "tritonclient",
    "nvidia-pytriton",
)
TABLE_METRICS = (("recall", "recall@{}"), ("ndcg", "ndcg@{}"), ("hit rate", "hit_rate@{}"), ("coverage", "coverage@{}"))
USERS_SHOWN, ITEMS_SHOWN = 4, 4
HISTORY_SHOWN = 10
_SCRIPT = Path(__file__).parents[1] / "explore" / "static" / "map.js"


def write_report(run: Run) -> Path:
    """Write `report.html` from what is in the run, and return its path. A run without `bench.json` gets no latency.
    Raise StageError where a stage has not finished, InvalidRelease where the release is damaged."""
    run.require("train", "evaluate", "release")
    path = run.directory / "report.html"
    atomic_write(path, render(run).encode())
    return path


def render(run: Run) -> str:
    """Return the page: the explorer's views of some users and items, and what was measured. Every text is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("retrieval"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["figure"] = lambda value: "–" if value is None else f"{value:.4f}"
    return environment.get_template("report.html.j2").render(**_views(run), **_measured(run), **_made(run))


def _views(run: Run) -> dict[str, Any]:
    """Return what the explorer shows, of a few users and items."""
    explored = Explored(run.directory)
    explored.finish()
    users = pick_users(run.directory, USERS_SHOWN, run.recipe.seed)
    items = [explored.items.ids[row] for row in np.argsort(-explored.peers.popularity, kind="stable")[:ITEMS_SHOWN]]
    drawn = ItemMap(explored, IN_REPORT)
    return {
        "explored": explored,
        "users": [(user, page) for user in users if not (page := _user(explored, user))["problem"]],
        "everything": item_page(explored, Given({})),
        "items": [item_page(explored, Given({"item": str(item)})) for item in items],
        "quality": quality_page(explored, None),
        "map": {**drawn.about, "points": drawn.points} if drawn.count else None,
        **_script(),
        **_addresses({str(user) for user in users}, {str(item) for item in items}),
    }


def _user(explored: Explored, user: Any) -> dict[str, Any]:
    """Return the view of a user as of the middle of their test rows, with the reasons of the best answer."""
    answers = InProcess(explored)
    asked = {"user": str(user), "time": written(explored.middle_of_test(user))}
    page = user_page(explored, answers, Given(asked), None)
    best = [answered.item.id for column in page["columns"][:1] for answered in column.items[:1]]
    return user_page(explored, answers, Given({**asked, "why": str(best[0])}), None) if best else page


def _addresses(users: set[str], items: set[str]) -> dict[str, Any]:
    """Return where links lead: within the page, or nowhere."""
    return {
        "live": False,
        "points_address": "",
        "history_shown": HISTORY_SHOWN,
        "item_address": lambda item: f"#item-{item}" if str(item) in items else "",
        "user_address": lambda user, about: f"#user-{user}" if str(user) in users else "",
    }


def _script() -> dict[str, str]:
    """Return the map's script, and its hash, by which the page's policy lets it run and no other."""
    script = "\n" + _SCRIPT.read_text(encoding="utf-8")
    return {"script": script, "script_hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}


def _measured(run: Run) -> dict[str, Any]:
    """Return what the stages and `retrieval bench` measured."""
    metrics, history, points = (_json(run.directory / f) for f in ("metrics.json", "towers/history.json", "bench.json"))
    lines = latency_lines(points or [])
    return {
        "metrics": metrics,
        "headlines": headlines(metrics, points or []),
        "metric_rows": metric_rows(metrics),
        "per_user": per_user_rows(metrics),
        "tasks": tasks_for_page(metrics),
        "peer_columns": [*(" ".join(column) for column in COLUMNS), "search, s", "fit, s"],
        "peers": rows_for_page(metrics.get("comparison")),
        "verdict": metrics.get("verdict"),
        "cutoffs": CUTOFFS,
        "rows_asked": asked_rows(metrics),
        "curves": training_curves(history),
        "epochs": len(history),
        "bench": points or [],
        "lines": lines,
        "latency": line_chart(lines, "rows per second", "latency, ms", from_zero=True) if lines else "",
        "index": index_for_page(_json(run.directory / "release" / "index" / "params.json")),
    }


def _made(run: Run) -> dict[str, Any]:
    """Return how the run was made."""
    records = {name: run.record(name) for name in run.stages}
    return {
        "name": run.recipe.name,
        "card": card(run),
        "records": records,
        "finished": max(record.finished for record in records.values() if record)[:16].replace("T", " "),
        "manifest": _json(run.directory / "release" / "manifest.json"),
        "towers": _json(run.directory / "towers" / "towers.json"),
        "recipe": msgspec.json.format(msgspec.json.encode(run.recipe), indent=2).decode(),
        "versions": installed_versions(PACKAGES),
    }


def headlines(metrics: Mapping[str, Any], points: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, str]]:
    """Return (figure, what it is, beside what) for the top of the page."""
    cards = []
    for k in (10, 100):
        ours, popular = metrics["unseen"][f"recall@{k}"], metrics["popularity"]["unseen"][f"recall@{k}"]
        cards.append((f"{ours:.3f}", f"recall@{k}, unseen items", f"popularity: {popular:.3f}"))
    cards.append((f"{metrics['unseen']['coverage@10']:.0%}", "of the catalogue in some top 10", "catalogue coverage"))
    if points:
        quickest = min(points, key=lambda point: float(point["p50_ms"]))
        fastest = max(points, key=lambda point: float(point["rows_per_s"]))
        load = f"{quickest['concurrency']} in flight, p99 {quickest['p99_ms']:.1f} ms"
        cards.append((f"{quickest['p50_ms']:.1f} ms", "median latency", load))
        cards.append((f"{fastest['rows_per_s']:,.0f}/s", "users answered", f"{fastest['concurrency']} in flight"))
    return cards


def metric_rows(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return one row per metric and protocol: ours and popularity's value at each cut-off."""
    popularity = metrics["popularity"]
    return [
        {
            "metric": name,
            "protocol": protocol,
            "ours": [metrics[protocol].get(pattern.format(k)) for k in CUTOFFS],
            "popularity": [popularity[protocol].get(pattern.format(k)) for k in CUTOFFS],
        }
        for protocol in ("all", "unseen")
        for name, pattern in TABLE_METRICS
    ]


def training_curves(history: Sequence[Mapping[str, float]]) -> list[tuple[str, list[Series], str]]:
    """Return (title, lines, svg) for the loss and for each validation figure, over the epochs."""
    charts = [("training loss", ["loss"])]
    charts += [(f"validation {figure}", _keys_of(figure, history)) for figure in ("recall@10", "recall@100")]
    curves = []
    for title, keys in charts:
        lines = [over_epochs(_line_name(key), history, key) for key in keys]
        if lines and all(line.x for line in lines):
            curves.append((title, lines, line_chart(lines, "epoch", title.split()[-1])))
    return curves


def _keys_of(figure: str, history: Sequence[Mapping[str, float]]) -> list[str]:
    return [key for key in (history[0] if history else ()) if key.startswith("valid_") and key.endswith(figure)]


def _line_name(key: str) -> str:
    protocol = key.removeprefix("valid_").split(".")[0]
    return {"all": "all items", "unseen": "unseen items"}.get(protocol, protocol)


def latency_lines(points: Sequence[Mapping[str, Any]]) -> list[Series]:
    """Return latency over throughput, p50 and p99 of each layout and batch size; each point is one concurrency."""

    def group(point: Mapping[str, Any]) -> tuple[str, int]:
        return str(point["layout"]), int(point["batch"])

    lines = []
    for (layout, batch), members in groupby(sorted(points, key=group), key=group):
        ordered = sorted(members, key=lambda point: int(point["concurrency"]))
        name = f"{layout}, {batch} row{'s' if batch > 1 else ''} per request"
        rates = [float(point["rows_per_s"]) for point in ordered]
        labels = [str(point["concurrency"]) for point in ordered]
        lines.append(Series(f"{name}: p50", rates, [float(point["p50_ms"]) for point in ordered], labels))
        lines.append(Series(f"{name}: p99", rates, [float(point["p99_ms"]) for point in ordered]))
    return lines


def index_for_page(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the page shows of a release's `index/params.json`."""
    frontier: Sequence[Mapping[str, Any]] = parameters.get("frontier", [])
    lines = frontier_lines(frontier)
    return {
        "kind": parameters["kind"],
        "exact": parameters["is_exact"],
        "metric": parameters["metric"].replace("_", " "),
        "size": parameters["items"],
        "search": ", ".join(f"{name} {value}" for name, value in parameters.get("search", {}).items()),
        "target": parameters.get("recall_target"),
        "target_met": parameters.get("target_met", True),
        "recall": [parameters.get("measured", {}).get(f"index_recall@{k}") for k in (1, 10, 100)],
        "queries": parameters.get("measured", {}).get("queries", 0),
        "points": [{**point, "chosen": _is_chosen(point, parameters)} for point in frontier],
        "lines": lines,
        "chart": line_chart(lines, "median, microseconds", "recall@100") if lines else "",
    }


def frontier_lines(frontier: Sequence[Mapping[str, Any]]) -> list[Series]:
    """Return recall@100 over the median latency, one line per approximate kind."""
    kinds = dict.fromkeys(point["kind"] for point in frontier if point["kind"] != "flat")
    lines = []
    for kind in kinds:
        points = sorted((point["p50_us"], point["recall@100"]) for point in frontier if point["kind"] == kind)
        lines.append(Series(kind, [x for x, _ in points], [y for _, y in points]))
    return lines


def _is_chosen(point: Mapping[str, Any], parameters: Mapping[str, Any]) -> bool:
    return point["kind"] == parameters["kind"] and point["search"] == parameters["search"]


def _json(path: Path) -> Any:
    return json.loads(path.read_bytes()) if path.exists() else None
