"""`retrieval classify`: the classes of items that have none yet, by the vectors of a release."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Column, Table

from retrieval.console import Terminal, command
from retrieval.options import Delta, ReleasePath

if TYPE_CHECKING:
    from ensemble.catalogue.labelling import Labelled

FIGURES = {
    "precision@1": "first class right",
    "accuracy": "first class right, items of a single class",
    "map": "mean average precision over classes",
    "ranking_precision": "mean average precision over items",
}


@command
def classify(
    out: Terminal,
    source: ReleasePath,
    items: Annotated[Path, typer.Argument(metavar="ITEMS", help="Items: .parquet, .csv or .jsonl.")],
    attribute: Annotated[str, typer.Option("--attribute", help="What is asked: tags of the release.")] = "genres",
    top: Annotated[int, typer.Option("--top", min=1, help="Classes shown of each item.")] = 3,
    neighbours: Annotated[
        int | None, typer.Option("--neighbours", min=1, help="Ask so many nearest items instead of the prototypes.")
    ] = None,
    delta: Delta = None,
) -> None:
    """Label items by class prototypes: the mean vector of the catalogue's items of a class is that class's weights.

    ITEMS has the raw item columns, as for `retrieval items add`; nothing is added. Where it has the attribute, too,
    what is found is compared with it. An item tower that reads the attribute gets none: see docs/models.md.

    \b
    retrieval classify runs/movielens-100k new.jsonl
    retrieval classify runs/movielens-100k new.csv --attribute genres --top 1 --json
    """
    from ensemble.catalogue.changes import LiveItems
    from ensemble.catalogue.labelling import label
    from ensemble.serving.files.release import Release
    from retrieval.runs.places import release_of

    release = Release.open(release_of(source))
    labelled = label(LiveItems(release, delta), items, attribute, neighbours)
    if labelled.blanked:
        out.say(
            f"warning: the item tower reads '{attribute}'; it was left empty, of the catalogue's items as well. "
            "Towers that are trained without it label better (docs/models.md)"
        )
    facts = {"release": release.manifest["release"], "attribute": attribute, "neighbours": neighbours}
    quality = labelled.quality or {}
    figures = (f"{text}: {quality[key]:.3f}" for key, text in FIGURES.items() if key in quality)
    out.result({**facts, **as_json(labelled, top)}, _table(labelled, attribute, top), *figures)


def as_json(labelled: Labelled, top: int) -> dict[str, Any]:
    """Return everything, ready for JSON, with the `top` classes of each item and their probabilities, best first."""
    counts = zip(labelled.classes, labelled.counts.tolist(), strict=True)
    return {
        "left_empty": labelled.blanked,
        "classes": [{"class": name, "items": count} for name, count in counts],
        "items": [
            {"item_id": item, "classes": [{"class": name, "score": score} for name, score in best]}
            for item, best in zip(labelled.ids, _best(labelled, top), strict=True)
        ],
        "quality": labelled.quality,
    }


def _best(labelled: Labelled, top: int) -> list[list[tuple[str, float]]]:
    order = (-labelled.scores).argsort(axis=1, kind="stable")[:, :top]
    rows = zip(order.tolist(), labelled.scores.tolist(), strict=True)
    return [[(labelled.classes[place], round(scores[place], 6)) for place in best] for best, scores in rows]


def _table(labelled: Labelled, attribute: str, top: int) -> Table:
    headings = ("item", attribute, *(["as the file says"] if labelled.truth is not None else []))
    table = Table(*(Column(heading, overflow="fold") for heading in headings))
    for row, best in enumerate(_best(labelled, top)):
        cells = [str(labelled.ids[row]), ", ".join(f"{name} {score:.2f}" for name, score in best)]
        if labelled.truth is not None:
            truth = zip(labelled.classes, labelled.truth[row], strict=True)
            cells.append(", ".join(name for name, true in truth if true))
        table.add_row(*cells)
    return table
