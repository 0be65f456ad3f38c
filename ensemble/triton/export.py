"""Exports the merlin-systems graph as a Triton model repository that needs neither this project nor Merlin."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pandas as pd
from merlin.dag import Graph, postorder_iter_nodes
from merlin.dag.runtime import Runtime
from merlin.systems.dag import Ensemble

from ensemble.layouts import CONFIG, ONNX, Layout, models_of
from ensemble.onnx_graph.export import check_graph
from ensemble.serving.files.release import Release
from ensemble.serving.search.candidates import has_ranker
from ensemble.triton.operators import (
    EncodeQuery,
    RankCandidates,
    ReleaseOperator,
    SearchItems,
    TransformQuery,
    build_ensemble,
)
from ensemble.triton.repository import write_version
from workflows.errors import ReleaseError
from workflows.files import atomic_directory

_CHAIN = [TransformQuery, EncodeQuery, SearchItems]


class GraphRuntime(Runtime):
    """Runs the graph in process and exports it as the Triton models of a layout."""

    def __init__(self, layout: Layout = "fused") -> None:
        """Take the layout of what is exported."""
        super().__init__()
        self.layout: Layout = layout

    def transform(self, graph: Graph, transformable: Any) -> Any:
        """Run the graph on a frame; optional inputs that the frame lacks count as not sent."""
        if isinstance(transformable, pd.DataFrame):
            absent = [name for name in graph.input_schema.column_names if name not in transformable]
            transformable = transformable.assign(**dict.fromkeys(absent))
        return super().transform(graph, transformable)

    def export(self, ensemble: Ensemble, path: Path, version: int = 1) -> Path:
        """Export a graph, as `build_ensemble` makes it, as a model repository, which is replaced; return its path.

        The graph is not changed. Raise ReleaseError unless it is `TransformQuery >> EncodeQuery >> SearchItems` over
        one release, followed by `RankCandidates` if the release ranks, and an ONNX graph answers as the release does.
        """
        release = Release.open(Path(_release_of(ensemble)))
        with atomic_directory(Path(path)) as temporary:
            models = models_of(self.layout, has_ranker(release))
            write_version(release, temporary, models, version)
            if ONNX in models:
                check_graph((temporary / ONNX / str(version) / "model.onnx").read_bytes(), release)
            for name in models:
                shutil.copyfile(temporary / name / str(version) / CONFIG, temporary / name / CONFIG)
        return Path(path)


def export_repository(release: Path, path: Path, layout: Layout | None = None, version: int = 1) -> Path:
    """Export a release as a Triton model repository, which is replaced, in the release's own layout or another one.

    Return its path; raise InvalidRelease if the release is damaged, or a tensor has a name that is taken.
    """
    chosen = layout or Release.open(release).manifest["serving"]["layout"]
    return GraphRuntime(chosen).export(build_ensemble(release), path, version)


def _release_of(graph: Ensemble) -> str:
    operators = [
        node.op for node in postorder_iter_nodes(graph.graph.output_node) if isinstance(node.op, ReleaseOperator)
    ]
    releases, steps = {operator.release for operator in operators}, [type(operator) for operator in operators]
    ranks = len(releases) == 1 and operators[0].retriever.ranker is not None
    if len(releases) != 1 or steps != [*_CHAIN, *([RankCandidates] if ranks else [])]:
        expected = f"TransformQuery >> EncodeQuery >> SearchItems{' >> RankCandidates' if ranks else ''}"
        raise ReleaseError(
            f"a repository takes {expected} over one release, got "
            f"{' >> '.join(step.__name__ for step in steps) or 'none of ours'} over {len(releases)}; build the graph "
            "with `build_ensemble`"
        )
    return releases.pop()
