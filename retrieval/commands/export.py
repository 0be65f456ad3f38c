"""`retrieval export`: a run as SavedModels, for what serves TensorFlow."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from retrieval.console import Terminal, command
from retrieval.options import AsJson, RunPath

if TYPE_CHECKING:
    from ensemble.savedmodel.export import Source
    from retrieval.runs.run import Run


@command
def export(
    out: Terminal,
    run: RunPath,
    out_path: Annotated[Path, typer.Option("--out", help="A new directory, or that of an earlier export.")],
    top_k: Annotated[
        int | None, typer.Option("--top-k", min=1, help="How many items are answered (default: [serving] top_k).")
    ] = None,
    json: AsJson = False,
) -> None:
    """Write the query tower, and the query tower with all items, as SavedModels that plain TensorFlow loads.

    query_tower/1 makes vectors, recommend/1 answers with the ids of the best items by exact search, with or without
    items to leave out, from features or from raw columns. They are compared with the release before they are kept.

    \b
    retrieval export runs/movielens-100k --out exported
    retrieval export runs/movielens-100k --out exported --top-k 100 --json
    """
    from ensemble.savedmodel.export import RECOMMEND, TOWER, write_saved_models
    from retrieval.runs.run import Run
    from retrieval.runs.stages import STAGES

    opened = Run.open(run, STAGES)
    opened.require("release")
    manifest = write_saved_models(source_of(opened), top_k or opened.recipe.serving.top_k, out_path, out.step)
    if manifest["raw_left_out"]:
        out.say(f"without signatures for raw columns: {manifest['raw_left_out']}")
    if json:
        out.json({"path": str(out_path), **manifest})
    else:
        for name in (TOWER, RECOMMEND):
            out.results.print(str(out_path / name), soft_wrap=True)


def source_of(run: Run) -> Source:
    """Return what is exported of a finished run."""
    from ensemble.savedmodel.export import Source
    from ensemble.serving.files.release import Release
    from retrieval.runs.reference import trained_model
    from workflows.features import stage as features

    place = run.directory
    model: Any = trained_model(run.recipe, place / "features", place / "towers")
    data = features.load(place / "features")
    return Source(Release.open(place / "release"), model, data.query_specs, place / "features")
