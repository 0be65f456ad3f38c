"""The README's one table: what is measured, and against what; benchmarks/pages/readme.py puts it there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.harness import RESULTS
from benchmarks.pages.model_tables import spread, table
from retrieval.report.tables import read_json

Entry = Mapping[str, Any]
UNSEEN = "unseen.recall@10"
OURS = {
    "recipes/movielens-100k.toml": "history, as in `make demo`",
    "recipes/movielens-100k-best.toml": "history and time, taught by earlier towers, EASE and ALS",
    "recipes/movielens-100k-user.toml": "user id and attributes alone, taught by EASE and ALS",
}
FEATURE_ROWS = 20_000_000
ROWS, IN_FLIGHT = 1, 16
"""Rows of a request and requests in flight, for which the table tells the server's speed."""
BROKEN = {
    "kill-stub": "the model process killed under load, {kills} times: back in {back_s_median} s, at most {back_s_max}",
    "stop": "the server stopped under load, {stops} times: what was in flight is answered, what comes later refused",
    "hot-swap": "another release goes live under load, {swaps} times",
    "soak": "{minutes:g} minutes at 80 % of capacity, a tenth of the requests wrong",
    "fuzz": "fuzzed requests, both layouts",
}
"""The scenarios of benchmarks/faults that docs/results.md shows one by one, in words."""
DATA = {
    "instruments": "recall@10",
    "grocery": "recall@10",
    "lastfm": "recall@20",
    "citeulike": "recall@20",
    "gowalla": "recall@20",
}
"""Public data sets, and the figure that is usual there."""


def results(quality: Mapping[str, Entry], peers: Entry) -> str:
    """Return the table: each kind of figure in one row, with what it is compared with."""
    rows = [
        *_recall(quality, peers),
        *_data(read_json(RESULTS / "datasets.json")),
        _server(read_json(RESULTS / "layouts.json")),
        _index(read_json(RESULTS / "index.json")),
        _features(read_json(RESULTS / "features.json")),
        _faults(read_json(RESULTS / "faults.json")),
    ]
    facts = quality[next(iter(OURS))]
    lead = (
        f"Films: {facts['rows']:,} held-out ratings of {facts['items']:,} films, mean and standard deviation of "
        f"{len(facts['seeds'])} seeds; with history, the two-tower uses the query's time and what the user did before "
        "it, while the peers know which films the user rated. Other data: the recipe of `retrieval init`, unedited; "
        "per user, of unseen items."
    )
    return f"{lead}\n\n" + table(["measured", "ours", "against", "more"], rows)


def _recall(quality: Mapping[str, Entry], peers: Entry) -> list[list[str]]:
    """Return recall with what the user did before, and by the user alone, each beside the same peers."""
    models = [model for model in peers["models"] if model["name"] != "two-tower"]
    against = ", ".join(f"{model['name']} {model['unseen']['recall@10']:.3f}" for model in models)
    return [
        [
            f"recall@10 of unseen films: {what}",
            f"**{spread(quality[recipe]['metrics'][UNSEEN])}**",
            against if place == 0 else "the same peers",
            "[quality](docs/quality.md)",
        ]
        for place, (recipe, what) in enumerate(OURS.items())
    ]


def _data(entries: Sequence[Entry]) -> list[list[str]]:
    """Return the default recipe's figure on each data set, beside all that was measured or published on its rows."""
    rows = []
    for data, figure in DATA.items():
        own = sorted((entry for entry in entries if entry["data"] == data), key=lambda entry: -entry[figure])
        (ours,) = (entry for entry in own if entry["model"] == "default")
        others = ", ".join(
            f"{entry['model'].removeprefix('published: ')} {entry[figure]:.3f}" for entry in own if entry is not ours
        )
        seeds = f"{len(ours['seeds'])} seed{'s' * (len(ours['seeds']) > 1)}"
        rows.append([f"{figure}, {data}, {seeds}", f"**{ours[figure]:.3f}**", others, "[results](docs/results.md)"])
    return rows


def _server(points: Sequence[Entry]) -> list[str]:
    rate = {
        point["layout"]: f"{point['rows_per_s']:,.0f} (p50 {point['p50_ms']:.2f} ms)"
        for point in points
        if (point["batch"], point["concurrency"]) == (ROWS, IN_FLIGHT)
    }
    return [
        f"requests/s of {ROWS} row, {IN_FLIGHT} in flight, the same towers and items",
        f"**{rate['fused']}**",
        f"stock merlin-systems {rate['stock']}; a python model that does nothing {rate['noop']}",
        "[serving](docs/serving.md)",
    ]


def _index(points: Sequence[Entry]) -> list[str]:
    def told(point: Entry) -> str:
        return f"{point['p50_us'] / 1000:.2f} ms (recall@100 {point['recall@100']:.3f})"

    auto, scann = (next(entry for entry in points if entry["kind"] == kind) for kind in ("auto", "scann"))
    flat = next(entry for entry in points if entry["kind"] == "flat")
    return [
        f"p50 of one query over {auto['items']:,} items, for recall {auto['recall_target']:g}",
        f"**{told(auto)}**",
        f"exact search {told(flat)}; ScaNN {told(scann)}",
        "[item index](docs/item-index.md)",
    ]


def _features(points: Sequence[Entry]) -> list[str]:
    rate = {point["engine"]: f"{point['rows_per_s']:,.0f}" for point in points if point["rows"] == FEATURE_ROWS}
    return [
        f"feature engineering of {FEATURE_ROWS:,} rows, rows/s",
        f"**{rate['retrieval']}**",
        f"stock NVTabular {rate['nvtabular']}; Polars {rate['polars']}",
        "[scale](docs/scale.md)",
    ]


def _faults(results: Mapping[str, Entry]) -> list[str]:
    counted = [results[name]["requests"] for name in BROKEN]
    sent, refused, lost = (sum(requests[name] for requests in counted) for name in ("sent", "refused", "lost"))
    return [
        "requests lost while a server is killed, stopped, given another release, loaded to 80 % or sent wrong requests",
        f"**{lost:,}** of {sent:,} ({refused:,} refused: UNAVAILABLE or INVALID_ARGUMENT)",
        "nothing",
        "[faults](docs/faults.md)",
    ]
