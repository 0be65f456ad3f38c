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
from ensemble.triton.operators import EncodeQuery, RankCandidates, ReleaseOperator, SearchItems, TransformQuery
from ensemble.triton.repository import write_version
from workflows.errors import ReleaseError
from workflows.files import atomic_directory

_CHAIN = [TransformQuery, EncodeQuery, SearchItems]


class GraphRuntime(Runtime):
    """Runs the graph in process and exports it as Triton models."""

    layout: Layout

    def transform(self, graph: Graph, transformable: Any) -> Any:
        """Run the graph on a frame; optional inputs that the frame lacks count as not sent."""
        if isinstance(transformable, pd.DataFrame):
            absent = [name for name in graph.input_schema.column_names if name not in transformable]
            transformable = transformable.assign(**dict.fromkeys(absent))
        return super().transform(graph, transformable)

    def export(self, ensemble: Ensemble, path: Path, version: int = 1) -> Path:
        """Export a graph as a model repository; the graph is not changed.

        Parameters
        ----------
        ensemble
            The graph, as `build_ensemble` makes it.
        path
            Directory of the repository, which is replaced.
        version
            Version number of the models.

        Returns
        -------
        Path
            The repository.

        Raises
        ------
        ReleaseError
            The graph is not `TransformQuery >> EncodeQuery >> SearchItems` over one release, followed by
            `RankCandidates` if the release ranks.
        """
        release = Release.open(Path(_release_of(ensemble)))
        with atomic_directory(Path(path)) as temporary:
            models = models_of(self.layout, has_ranker(release))
            write_version(release, temporary, models, version)
            self._check(release, temporary, version)
            for name in models:
                shutil.copyfile(temporary / name / str(version) / CONFIG, temporary / name / CONFIG)
        return Path(path)

    def _check(self, release: Release, repository: Path, version: int) -> None:
        """Raise ReleaseError where what was written does not answer as the release does."""


class FusedRuntime(GraphRuntime):
    """Exports the graph as one Triton model that does all three steps."""

    layout = "fused"


class ChainedRuntime(GraphRuntime):
    """Exports the graph as a Triton model for each step, behind a Triton ensemble."""

    layout = "chained"


class BothRuntime(GraphRuntime):
    """Exports the graph in both layouts, side by side in one repository."""

    layout = "both"


class OnnxRuntime(GraphRuntime):
    """Exports the graph as one ONNX model, once it has answered as the release does."""

    layout = "onnx"

    def _check(self, release: Release, repository: Path, version: int) -> None:
        check_graph((repository / ONNX / str(version) / "model.onnx").read_bytes(), release)


_RUNTIMES = {runtime.layout: runtime for runtime in (FusedRuntime, ChainedRuntime, BothRuntime, OnnxRuntime)}


def export_repository(release: Path, path: Path, layout: Layout | None = None, version: int = 1) -> Path:
    """Export a release as a Triton model repository.

    Parameters
    ----------
    release
        Directory of the release.
    path
        Directory of the repository, which is replaced.
    layout
        `fused`, `chained`, `both` or `onnx`; by default the release's own.
    version
        Version number of the models.

    Returns
    -------
    Path
        The repository.

    Raises
    ------
    InvalidRelease
        The release is damaged, or a tensor has a name that is taken.
    """
    from ensemble.triton.operators import build_ensemble

    chosen = layout or Release.open(release).manifest["serving"]["layout"]
    return _RUNTIMES[chosen]().export(build_ensemble(release), path, version)


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
