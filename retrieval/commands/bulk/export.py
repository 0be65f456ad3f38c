"""`retrieval export`: a run as SavedModels, for what serves TensorFlow, or as one ONNX graph."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from retrieval.console import Terminal, command
from retrieval.options import RunPath

if TYPE_CHECKING:
    from ensemble.savedmodel.export import Source
    from retrieval.runs.run import Run


@command
def export(
    out: Terminal,
    run: RunPath,
    out_path: Annotated[
        Path, typer.Option("--out", help="A new directory, or that of an earlier export; of onnx a file, NAME.onnx.")
    ],
    format_: Annotated[str, typer.Option("--format", help="savedmodel or onnx.")] = "savedmodel",
    top_k: Annotated[
        int | None, typer.Option("--top-k", min=1, help="How many items are answered (default: [serving] top_k).")
    ] = None,
) -> None:
    """Write a run as SavedModels that plain TensorFlow loads, or as one ONNX graph that plain onnxruntime runs.

    query_tower/1 makes vectors, recommend/1 answers with the ids of the best items by exact search, with or without
    items to leave out, from features or from raw columns. The ONNX graph answers from raw columns and a history, which
    it leaves out. Both are compared with the release before they are kept.

    \b
    retrieval export runs/movielens-100k --out exported
    retrieval export runs/movielens-100k --out exported --top-k 100 --json
    retrieval export runs/movielens-100k --format onnx --out recommend.onnx
    """
    from retrieval.runs.run import Run
    from workflows.errors import RecipeError

    if format_ not in ("savedmodel", "onnx"):
        raise RecipeError(f"--format {format_}: expected savedmodel or onnx")
    opened = Run.open(run)
    opened.require("release")
    write = _onnx if format_ == "onnx" else _saved_models
    write(out, opened, out_path, top_k or opened.recipe.serving.top_k)


def _onnx(out: Terminal, run: Run, path: Path, top_k: int) -> None:
    from ensemble.onnx_graph.export import write_onnx
    from ensemble.serving.files.release import Release

    written = write_onnx(Release.open(run.release), top_k, path, out.step)
    if not out.as_json:
        out.say(f"answers {written.users:,} users as the release does, {written.swapped:,} of them with ties swapped")
    facts = {**written._asdict(), "path": str(written.path)}
    out.result(facts, f"{written.path}: {written.bytes / 1e6:.1f} MB")


def _saved_models(out: Terminal, run: Run, path: Path, top_k: int) -> None:
    from ensemble.savedmodel.export import RECOMMEND, TOWER, write_saved_models

    manifest = write_saved_models(source_of(run), top_k, path, out.step)
    if manifest["raw_left_out"]:
        out.say(f"without signatures for raw columns: {manifest['raw_left_out']}")
    out.result({"path": str(path), **manifest}, *(str(path / name) for name in (TOWER, RECOMMEND)))


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
