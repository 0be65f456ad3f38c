"""The exported repository: complete, self-contained, and the graph it came from left alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from merlin.systems.dag import Ensemble

from ensemble.triton.export import GraphRuntime, export_repository
from ensemble.triton.operators import EncodeQuery, SearchItems, TransformQuery, build_ensemble
from tests.synthetic import Run
from workflows.errors import ReleaseError


@pytest.fixture(scope="module")
def repository(release: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The release as a model repository."""
    return export_repository(release, tmp_path_factory.mktemp("triton") / "repository")


def test_the_configuration_says_everything(run: Run, repository: Path) -> None:
    from google.protobuf import text_format
    from tritonclient.grpc.model_config_pb2 import ModelConfig

    config = text_format.Parse((repository / "retrieval/config.pbtxt").read_text(), ModelConfig())
    assert (config.name, config.backend, config.max_batch_size) == ("retrieval", "python", 64)
    assert config.HasField("dynamic_batching")
    optional = {tensor.name: tensor.optional for tensor in config.input}
    assert optional == {"user_id": False, **dict.fromkeys(optional.keys() - {"user_id"}, True)}
    assert [tensor.name for tensor in config.input if tensor.allow_ragged_batch] == ["exclude_item_ids"]
    assert [tensor.name for tensor in config.output] == ["item_id", "score", "count", "user_known", "release"]
    assert config.parameters["top_k"].string_value == "10"
    assert config.instance_group[0].count == 1


def test_the_repository_needs_nothing_of_the_project(repository: Path) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from serving.retriever import Retriever; from pathlib import Path\n"
        "Retriever.load(Path(sys.argv[1]) / 'release')\n"
        "ours = {'workflows', 'models', 'ensemble', 'retrieval', 'merlin', 'tensorflow', 'pandas', 'msgspec'}\n"
        "assert not ours & {name.split('.')[0] for name in sys.modules}, sys.modules.keys()"
    )
    version = repository / "retrieval/1"
    subprocess.run([sys.executable, "-B", "-c", code, version], check=True, cwd=version)
    for file in version.rglob("*"):
        assert file.suffix in {".py", ".json", ".npy", ".onnx", ".faiss", ".parquet", ".pbtxt", ""}, file


def test_export_leaves_the_graph_as_it_is(run: Run, release: Path, tmp_path: Path) -> None:
    graph = build_ensemble(release)
    queries = run.users[["user_id"]].head(5)
    before = graph.transform(queries, GraphRuntime())
    GraphRuntime().export(graph, tmp_path / "one")
    GraphRuntime().export(graph, tmp_path / "two", version=7)
    pd.testing.assert_frame_equal(graph.transform(queries, GraphRuntime()), before)
    assert (tmp_path / "two/retrieval/7/release/manifest.json").is_file()
    assert not (tmp_path / "two/retrieval/1").exists()


def test_the_schemas_are_those_of_the_wire(run: Run, release: Path) -> None:
    graph = build_ensemble(release)
    names = ["user_id", "age", "occupation", "top_k", "exclude_item_ids", "include_seen", "filter"]
    assert sorted(graph.input_schema.column_names) == sorted(names)
    assert graph.output_schema.column_names == ["item_id", "score", "count", "user_known"]
    assert graph.output_schema["score"].is_list


def test_another_graph_is_refused(release: Path, tmp_path: Path) -> None:
    whole = build_ensemble(release)
    part = Ensemble(
        whole.input_schema.column_names >> TransformQuery(release) >> EncodeQuery(release), whole.input_schema
    )
    with pytest.raises(ReleaseError, match="TransformQuery >> EncodeQuery over"):
        GraphRuntime().export(part, tmp_path / "part")
    assert not (tmp_path / "part").exists()


def test_an_operator_pickles_as_its_path_and_nothing_else(release: Path) -> None:
    for kind in (TransformQuery, EncodeQuery, SearchItems):
        operator = kind(release)
        assert operator.retriever is not None
        assert operator.__dict__ == {"release": str(release)}
