"""The merlin-systems graph as a Triton model repository that needs nothing of this project, nor of Merlin."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pandas as pd
from merlin.dag import Graph, postorder_iter_nodes
from merlin.dag.runtime import Runtime
from merlin.systems.dag import Ensemble

import ensemble.serving
from ensemble.operators import EncodeQuery, ReleaseOperator, SearchItems, TransformQuery, retriever_of
from ensemble.server import MODEL
from ensemble.serving.retriever import Retriever
from ensemble.serving.tensors import Tensor
from workflows.diagnostics import ReleaseError
from workflows.files import atomic_directory

_CHAIN = [TransformQuery, EncodeQuery, SearchItems]
_ENTRY = '''"""The entry that Triton looks for; the code is in `serving/`, the data in `release/`."""

from .serving.model import TritonPythonModel

__all__ = ["TritonPythonModel"]
'''


class FusedRuntime(Runtime):
    """Runs the graph in process, and exports it as one Triton model that does all three steps."""

    def transform(self, graph: Graph, transformable: Any) -> Any:
        """Run the graph; optional inputs that a frame does not have are taken as not sent."""
        if isinstance(transformable, pd.DataFrame):
            absent = [name for name in graph.input_schema.column_names if name not in transformable]
            transformable = transformable.assign(**dict.fromkeys(absent))
        return super().transform(graph, transformable)

    def export(self, ensemble: Ensemble, path: Path, version: int = 1) -> Path:
        """Write the model repository to `path`, which it replaces, and return it. The graph stays as it is.

        Raises
        ------
        ReleaseError
            The graph is not `TransformQuery >> EncodeQuery >> SearchItems` over one release.
        """
        release = _release_of(ensemble)
        retriever = retriever_of(release)
        with atomic_directory(Path(path)) as temporary:
            directory = temporary / MODEL / str(version)
            directory.mkdir(parents=True)
            shutil.copytree(release, directory / "release")
            _copy_code(directory / "serving")
            (directory / "model.py").write_text(_ENTRY, encoding="utf-8")
            (temporary / MODEL / "config.pbtxt").write_text(model_config(retriever), encoding="utf-8")
        return Path(path)


def export_repository(release: Path, path: Path) -> Path:
    """Export the release at `release` in the fused layout to `path` and return it."""
    from ensemble.operators import build_ensemble

    return FusedRuntime().export(build_ensemble(release), path)


def model_config(retriever: Retriever) -> str:
    """Return the whole `config.pbtxt`, so that Triton need not ask the model to complete it.

    The schema is Triton's `model_config.proto` (https://github.com/triton-inference-server/common).
    """
    serving = retriever.serving
    parameters = {
        "release": retriever.release.manifest["release"],
        "layout": "fused",
        **{name: serving[name] for name in ("top_k", "max_top_k", "max_exclude_item_ids")},
    }
    parts = [
        f'name: "{MODEL}"\nbackend: "python"\nmax_batch_size: {serving["max_batch_size"]}',
        *(_tensor("input", one) for one in retriever.inputs),
        *(_tensor("output", one) for one in retriever.outputs),
        f"dynamic_batching {{ max_queue_delay_microseconds: {serving['max_queue_delay_microseconds']} }}",
        f"instance_group [ {{ count: {serving['instances']} kind: KIND_CPU }} ]",
        *(f'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }}' for key, value in parameters.items()),
    ]
    return "\n".join(parts) + "\n"


def _tensor(direction: str, tensor: Tensor) -> str:
    # Ragged: requests whose lists differ in length still share a batch.
    options = (" optional: true" if tensor.optional else "") + (" allow_ragged_batch: true" if tensor.ragged else "")
    kind = "TYPE_STRING" if tensor.dtype == "BYTES" else f"TYPE_{tensor.dtype}"
    return f'{direction} {{ name: "{tensor.name}" data_type: {kind} dims: [ {tensor.dims} ]{options} }}'


def _release_of(graph: Ensemble) -> str:
    operators = [
        node.op for node in postorder_iter_nodes(graph.graph.output_node) if isinstance(node.op, ReleaseOperator)
    ]
    releases = {one.release for one in operators}
    if [type(one) for one in operators] != _CHAIN or len(releases) != 1:
        found = " >> ".join(type(one).__name__ for one in operators) or "none of ours"
        raise ReleaseError(
            f"the fused layout takes TransformQuery >> EncodeQuery >> SearchItems over one release, got {found} over "
            f"{len(releases)}; build the graph with `build_ensemble`"
        )
    return releases.pop()


def _copy_code(target: Path) -> None:
    target.mkdir()
    for source in sorted(Path(ensemble.serving.__file__).parent.glob("*.py")):
        shutil.copyfile(source, target / source.name)
