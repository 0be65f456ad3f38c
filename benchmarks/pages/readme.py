"""Fill the figures of the README and of docs/ from files: a finished run (its answers and peers) and
`benchmarks/results/`. A page has them between `<!-- FIGURES:BEGIN name -->` and `<!-- FIGURES:END -->`.

    .venv/bin/retrieval demo recipes/movielens-100k.toml
    .venv/bin/python -m benchmarks.quality.recipes recipes/movielens-100k.toml
    .venv/bin/python -m benchmarks.pages.readme

What the run contributes is kept in `benchmarks/results/demo.json`. `--check` writes nothing and names the pages that do
not quote what the results hold.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.harness import RESULTS, ROOT, write
from benchmarks.pages import dataset_tables, model_tables, summary
from benchmarks.pages.model_tables import table
from retrieval.report.examples import examples, from_release
from retrieval.report.tables import read_json
from workflows.files import atomic_write

KEPT = RESULTS / "demo.json"
FIGURES = re.compile(r"(<!-- FIGURES:BEGIN (\w+) -->\n).*?(<!-- FIGURES:END -->)", re.DOTALL)
SHOWN_USER = 757
SHOWN_POINTS = {(1, 1), (1, 16), (32, 16)}
"""Rows of a request and requests in flight, whose speed docs/results.md shows."""
OTHER_SPLITS = {
    "recipes/movielens-100k-temporal.toml": "the last tenth of time",
    "recipes/movielens-100k-last.toml": "each user's last film, without time (the ten films before)",
    "recipes/movielens-100k-last-time.toml": "each user's last film, with time and history",
}


def main() -> None:
    """Gather the run's figures and write them into the pages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=ROOT / "runs" / "movielens-100k")
    parser.add_argument("--kept", action="store_true", help="leave the run alone: quote what demo.json keeps of it")
    parser.add_argument("--check", action="store_true", help="as --kept, and write nothing; exit status 1 if it would")
    options = parser.parse_args()
    if options.check:
        pages = [page.name for page, text in filled(read_json(KEPT)) if page.read_text("utf-8") != text]
        sys.exit(
            f"{', '.join(pages)}: not what the results say; run `benchmarks/pages/readme.py --kept`" if pages else 0
        )
    if not options.kept:
        write(KEPT, gather(options.run))
    for page, text in filled(read_json(KEPT)):
        atomic_write(page, text.encode())


def filled(demo: dict[str, Any]) -> Iterator[tuple[Path, str]]:
    """Yield every page and its text with the figures of the results."""
    figures = rendered(demo)
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        text = page.read_text(encoding="utf-8")
        yield page, FIGURES.sub(lambda match: f"{match[1]}\n{figures[match[2]]}\n\n{match[3]}", text)


def gather(run: Path) -> dict[str, Any]:
    """Collect what the pages quote of a run."""
    (example,) = examples(run, from_release(run / "release"), [SHOWN_USER])
    return {"example": msgspec.to_builtins(example), "peers": read_json(run / "metrics.json")["comparison"]}


def rendered(demo: dict[str, Any]) -> dict[str, str]:
    """Return every set of figures as Markdown, by the name that the pages' marks give."""
    quality = {entry["recipe"]: entry for entry in read_json(RESULTS / "recipes.json")}
    serving, index = read_json(RESULTS / "layouts.json"), read_json(RESULTS / "index.json")
    return {
        "results": summary.results(quality, demo["peers"]),
        "datasets": dataset_tables.rendered(),
        "answers": _answers(demo["example"]),
        "quality": _quality(quality, demo["peers"]),
        "splits": _other_splits(quality),
        "cold_start": _cold_start(read_json(RESULTS / "cold_start.json")),
        "layouts": _layouts(serving),
        "layouts_short": _layouts(
            [entry for entry in serving if (entry["batch"], entry["concurrency"]) in SHOWN_POINTS]
        ),
        "index": _index(index),
        "index_short": _index([entry for entry in index if entry["kind"] in ("auto", "scann", "flat")]),
        "filters": _filters(read_json(RESULTS / "filters.json")),
        "features": _features(read_json(RESULTS / "features.json")),
        "faults": _faults(read_json(RESULTS / "faults.json")),
        "explorer": _explorer(read_json(RESULTS / "explorer.json")),
        "onnx_graph": _onnx_graph(read_json(RESULTS / "onnx_graph.json")),
        "layout": _layout(read_json(RESULTS / "layout.json")),
        **model_tables.rendered(),
    }


def _explorer(medians: dict[str, Any]) -> str:
    named = {"the release's answer": "release_us", "the explorer's answer": "explorer_us", "the whole page": "page_us"}
    return table(["", "ms"], [[what, f"{medians[key] / 1000:.2f}"] for what, key in named.items()])


def _onnx_graph(points: list[dict[str, Any]]) -> str:
    rows = [
        [f"{point['rows']}", f"{point['onnx_us'] / 1000:.2f}", f"{point['release_us'] / 1000:.2f}"] for point in points
    ]
    return table(["rows", "the graph, ms", "the release, ms"], rows)


def _layout(layout: dict[str, Any]) -> str:
    rows = [
        [
            f"`{row['folder']}`",
            str(row["files"]),
            f"{row['lines']:,}",
            f"`{row['longest']}`: {row['longest_lines']}" if row["longest"] else "",
        ]
        for row in layout["folders"]
    ]
    lines = [[f"`{name}`", f"{row['before']:,}", f"{row['after']:,}"] for name, row in layout["lines"].items()]
    touched = [
        [name, str(len(files)), ", ".join(f"`{path}`" for path in files)] for name, files in layout["touched"].items()
    ]
    fullest = "`{folder}` with {files} files".format(**layout["fullest"])
    return "\n\n".join(
        [
            table(["folder", "files", "lines", "longest function, lines"], rows),
            f"The fullest folder, those of `benchmarks` and `tests` included, is {fullest}.",
            table(["to add", "files", "which"], touched),
            table(["lines of Python", "before the layout of today", "now"], lines),
        ]
    )


def _answers(example: dict[str, Any]) -> str:
    rows = [
        [
            str(rank),
            served["title"] + (" ✓" if served["held_out"] else ""),
            served["genres"],
            f"{served['score']:.3f}",
            liked["title"] if liked else "",
        ]
        for rank, (served, liked) in enumerate(zip_longest(example["served"], example["liked"]), start=1)
    ]
    hits = sum(served["held_out"] for served in example["served"])
    lead = (
        f"MovieLens-100K, user {example['user']} ({example['facts']}), as the release that `make demo` makes answers. "
        f"✓: one of {hits} films here that the user did rate, in rows the model never saw."
    )
    return f"{lead}\n\n" + table(["", "recommended", "genres", "score", "liked before"], rows)


def _quality(quality: dict[str, Any], peers: dict[str, Any]) -> str:
    names = ["unseen.recall@10", "unseen.recall@100", "all.recall@10", "all.recall@100"]
    rows = [
        [f"`{recipe}`: {what}", *_ours(quality[recipe], names)]
        for recipe, what in summary.OURS.items()
        if recipe in quality
    ]
    for model in peers["models"]:
        if model["name"] != "two-tower" and "all" in model:
            rows.append([model["name"], *(f"{model[side][key]:.3f}" for side, key in (n.split(".") for n in names))])
    facts = quality[next(iter(summary.OURS))]
    lead = (
        f"{facts['rows']:,} held-out ratings (random split), {facts['items']:,} films; ours with the mean and standard "
        f"deviation of {len(facts['seeds'])} seeds. With history, the two-tower uses the query's time and what the "
        "user did before it; the peers know which films the user rated. Peers are fitted on the same rows, their "
        "settings chosen on validation."
    )
    headings = ["", "recall@10, unseen", "recall@100, unseen", "recall@10, all items", "recall@100, all items"]
    return f"{lead}\n\n" + table(headings, rows)


def _other_splits(quality: dict[str, Any]) -> str:
    names = ["unseen.recall@10", "unseen.recall@100"]
    rows = []
    for entry, what in ((quality[recipe], what) for recipe, what in OTHER_SPLITS.items() if recipe in quality):
        rows.append([f"{what}, {entry['rows']:,} rows: `{entry['recipe']}`", *_ours(entry, names)])
        rows += [
            [peer, *(f"{recalls[name]:.3f}" for name in names)] for peer, recalls in entry.get("peers", {}).items()
        ]
    lead = "Other splits, rows whose user and film are known by then, films that the user has not seen yet:"
    return f"{lead}\n\n" + table(["", "recall@10", "recall@100"], rows)


def _ours(entry: dict[str, Any], names: list[str]) -> list[str]:
    return [f"**{entry['metrics'][name]['mean']:.3f}** ± {entry['metrics'][name]['sd']:.3f}" for name in names]


def _cold_start(results: dict[str, Any]) -> str:
    rates = results["rates"]
    rows = [
        [name, f"{rates[0]['groups'][name]['rows']:,}"]
        + [" / ".join(f"{rate['groups'][name][f'recall@{k}']['mean']:.3f}" for k in (10, 100)) for rate in rates]
        for name in rates[0]["groups"]
    ]
    lead = (
        "A tenth of the films and a tenth of the users held out of training entirely, by `unseen_rate`, the share of "
        "ids that training replaces with the code of an unknown one: recall@10 / recall@100 of unseen films "
        f"({results['epochs']} epochs, {len(results['seeds'])} seeds)."
    )
    return f"{lead}\n\n" + table(["", "rows", *(f"{rate['unseen_rate']:g}" for rate in rates)], rows)


def _layouts(points: list[dict[str, Any]]) -> str:
    lead = (
        "The same towers and items in each layout, beside stock merlin-systems and a python model that does nothing, "
        "asked in turns in one run (`benchmarks/serving/layouts.py`): rows/s; p50 in ms; server CPU in ms per row."
    )
    points = sorted(points, key=lambda point: (point["batch"], point["concurrency"]))  # layouts stay in their order
    shown = "{rows_per_s:,.0f}; {p50_ms:.2f}; {server_cpu_ms_per_row:.3f}"
    return f"{lead}\n\n" + _by_side(points, "rows x in flight", "{batch} x {concurrency}", "layout", shown)


def _by_side(points: list[dict[str, Any]], heading: str, place: str, side: str, shown: str) -> str:
    """Return a table with a row for each place and a column for each side; `place` and `shown` are formats."""
    sides = list(dict.fromkeys(point[side] for point in points))
    cells = {(place.format(**point), point[side]): shown.format(**point) for point in points}
    rows = [
        [name, *(cells.get((name, side), "") for side in sides)] for name in dict.fromkeys(name for name, _ in cells)
    ]
    return table([heading, *sides], rows)


def _index(points: list[dict[str, Any]]) -> str:
    rows = [
        [
            point["kind"] + (f" ({point['chosen']})" if "chosen" in point else ""),
            f"{point['recall_target']:g}",
            f"{point['recall@100']:.3f}",
            f"{point['p50_us'] / 1000:.2f}",
            f"{point['build_s']:.0f}",
            f"{point['memory_mb']:.0f}",
        ]
        for point in points
    ]
    lead = (
        f"{points[0]['items']:,} items of 64 dimensions, one query at a time on one thread, all in turns "
        "(`benchmarks/search/index.py`):"
    )
    return f"{lead}\n\n" + table(["index", "target", "recall@100", "p50, ms", "build, s", "memory, MB"], rows)


def _filters(points: list[dict[str, Any]]) -> str:
    rows = [
        [
            f"{point['selectivity']:g}",
            "whole clusters" if point["clustered"] else "scattered",
            f"{point['recall@100']:.3f}",
            f"{point['index_alone_recall@100']:.3f}",
            f"{point['p50_us'] / 1000:.2f}",
        ]
        for point in points
    ]
    first = points[0]
    lead = f"Filters over {first['items']:,} items, `{first['kind']}` for recall {first['recall_target']:g}:"
    headings = ["share allowed", "which", "recall@100", "the index alone, told what to skip", "p50, ms"]
    return f"{lead}\n\n" + table(headings, rows)


def _features(points: list[dict[str, Any]]) -> str:
    lead = (
        "Feature engineering on two cores (`benchmarks/scale/features.py`): rows/s; peak memory in MB, all processes."
    )
    shown = "{rows_per_s:,.0f}; {peak_rss_mb:,.0f}"
    return f"{lead}\n\n" + _by_side(points, "rows", "{rows:,}", "engine", shown)


def _faults(results: dict[str, Any]) -> str:
    counts = ("sent", "answered", "refused", "lost")
    rows = [
        [what.format(**results[name]), *(f"{results[name]['requests'][count]:,}" for count in counts)]
        for name, what in summary.BROKEN.items()
        if name in results
    ]
    lead = "Requests to a server that is being broken (`benchmarks/faults`); refused: INVALID_ARGUMENT, UNAVAILABLE."
    return f"{lead}\n\n" + table(["", *counts], rows)


if __name__ == "__main__":
    main()
