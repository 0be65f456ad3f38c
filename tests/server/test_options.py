"""The server options of the recipe, in a real Triton."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import psutil
import pytest
import tritonclient.grpc as grpc
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import DataType, ModelConfig, ModelInstanceGroup

from ensemble.client import RetrievalClient
from ensemble.layouts import CHAINED, CONFIG, FUSED, ONNX, RANK, SEARCH, TOWER, TRANSFORM, models_in
from ensemble.onnx_graph.export import build, check
from ensemble.release.sign import new_keys, sign
from ensemble.release.verify import check_repository
from ensemble.server.ports import free_ports
from ensemble.server.server import TritonServer
from ensemble.serving.files.release import Release
from ensemble.serving.query.tower import Tower
from ensemble.serving.retriever import Retriever
from ensemble.triton.export import export_repository
from ensemble.triton.model_config import model_configs
from models.towers.onnx import run_tower
from tests.served import int32, tensor
from tests.synthetic import make_release, make_run
from workflows.errors import ReleaseError, ServerError

ROWS, REQUESTS, WAITING = 64, 200, 128


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release with its options set."""
    place = tmp_path_factory.mktemp("options")
    release = make_release(
        make_run(place, items=2000),
        layout="both",
        max_queue_rows=WAITING,
        max_queue_delay_microseconds=100,
        search_instances=2,
        top_k=7,
        max_top_k=400,
    )
    return export_repository(release, place / "triton")


@pytest.mark.server
def test_what_is_too_much_is_refused_and_what_is_taken_is_answered(repository: Path) -> None:
    grpc_port, metrics_port = free_ports("127.0.0.1", 2)
    with (
        TritonServer(repository, grpc_port=grpc_port, metrics_port=metrics_port) as server,
        grpc.InferenceServerClient(server.addresses.grpc) as channel,
        RetrievalClient(server.addresses.grpc) as client,
    ):
        stubs = [stub for stub in psutil.Process(server.process_id).children(recursive=True) if "stub" in stub.name()]
        assert len(stubs) == 1 + 1 + 1 + 2
        assert_each_loads_its_part(stubs)
        for model in (FUSED, CHAINED):
            outcomes = Counter(outcome(future) for future in asked_at_once(channel, model))
            assert set(outcomes) == {"answered", "StatusCode.UNAVAILABLE"}, outcomes
        assert len(client.recommend([-1])[0].item_ids) == 7


def assert_each_loads_its_part(stubs: list[psutil.Process]) -> None:
    for stub in stubs:
        mapped = " ".join(place.path for place in stub.memory_maps())
        model = next(name for name in (TRANSFORM, TOWER, SEARCH, FUSED) if f"/{name}/1/" in " ".join(stub.cmdline()))
        assert ("onnxruntime" in mapped) == (model in (TOWER, FUSED)), model
        assert "faiss" not in mapped or model in (SEARCH, FUSED), model


def asked_at_once(channel: Any, model: str) -> list[Future[Any]]:
    """Send more full batches than the queue holds, and wait for all."""
    users = tensor("user_id", "INT64", np.full((ROWS, 1), -1))
    wide = tensor("top_k", *int32(*[400] * ROWS))
    waiting: list[Future[Any]] = [Future() for _ in range(REQUESTS)]
    for future in waiting:
        channel.async_infer(model, [users, wide], lambda result, error, own=future: own.set_result((result, error)))
    for future in waiting:
        future.result(timeout=60)
    return waiting


def outcome(done: Future[Any]) -> str:
    result, error = done.result()
    if error is not None:
        return str(error.status())
    assert result.as_numpy("count").ravel().tolist() == [400] * ROWS
    return "answered"


def test_the_options_are_in_the_configuration(repository: Path) -> None:
    for model in (FUSED, TRANSFORM, TOWER, SEARCH):
        config = text_format.Parse((repository / model / CONFIG).read_text(), ModelConfig())
        assert config.dynamic_batching.max_queue_delay_microseconds == 100
        assert not config.dynamic_batching.HasField("default_queue_policy"), "Triton's own limit stalls"
        assert config.max_batch_size == ROWS
        assert [group.count for group in config.instance_group] == [2 if model == SEARCH else 1]


def test_a_time_out_is_tritons(tmp_path: Path) -> None:
    """It alone knows how long a request has waited; with its policy Triton 2.51 leaves requests waiting for longer."""
    release = make_release(make_run(tmp_path), default_timeout_microseconds=30_000_000)
    text = model_configs(Release.open(release), [FUSED], 1)[FUSED]
    queue = text_format.Parse(text, ModelConfig()).dynamic_batching.default_queue_policy
    assert (queue.max_queue_size, queue.default_timeout_microseconds) == (1024, 30_000_000)
    assert queue.timeout_action == queue.REJECT
    assert queue.allow_timeout_override


def test_the_chained_models_hold_one_release_and_its_bytes_once(repository: Path) -> None:
    for name in ("items/vectors.npy", "towers/query.onnx", "manifest.json"):
        copies = [repository / model / "1/release" / name for model in (FUSED, TRANSFORM, TOWER, SEARCH)]
        assert len({copy.stat().st_ino for copy in copies}) == 1
    steps = text_format.Parse((repository / CHAINED / CONFIG).read_text(), ModelConfig()).ensemble_scheduling.step
    assert [(step.model_name, step.model_version) for step in steps] == [(TRANSFORM, 1), (TOWER, 1), (SEARCH, 1)]


def test_a_tower_on_onnxruntime_takes_the_features_by_name(tmp_path: Path) -> None:
    options = {"layout": "chained", "tower_platform": "onnxruntime", "tower_device": "gpu"}
    release = make_release(make_run(tmp_path, last=5), ranks=True, **options)
    repository = export_repository(release, tmp_path / "triton")
    tower = text_format.Parse((repository / TOWER / CONFIG).read_text(), ModelConfig())
    assert tower.platform == "onnxruntime_onnx"
    assert tower.instance_group[0].kind == ModelInstanceGroup.KIND_GPU
    scalars, lists = {"user_id": (1,), "age": (1,), "occupation": (1,)}, {"history": (5,), "history_age": (5,)}
    assert {entry.name: tuple(entry.dims) for entry in tower.input} == {**scalars, **lists}  # all that the graph takes
    for entry in tower.input:
        assert entry.HasField("reshape") == (entry.name in scalars)  # the graph takes [rows]
        assert not entry.reshape.shape
    whole, beside = repository / TOWER / "1/model.onnx", Tower(Release.open(release))
    codes = {
        name: np.ones((2, 5) if name == "history" else 2, np.int64) for name in ("user_id", "occupation", "history")
    }
    features = {**codes, "age": np.ones(2, np.float32), "history_age": np.ones((2, 5), np.float32)}
    np.testing.assert_array_equal(run_tower(whole, features), beside.encode(features))
    transform = text_format.Parse((repository / TRANSFORM / CONFIG).read_text(), ModelConfig())
    assert {entry.name for entry in transform.output} == {*scalars, *lists, "user_row"}
    ranker = text_format.Parse((repository / RANK / CONFIG).read_text(), ModelConfig())
    assert {entry.name for entry in ranker.input} == {"occupation", "vector", "candidates", "least_score", "top_k"}
    assert set(model_configs(Release.open(release), [CHAINED], 3)) == {CHAINED}


def test_the_layout_onnx_is_one_graph_that_its_configuration_describes(tmp_path: Path) -> None:
    run = make_run(tmp_path, last=5)
    release = Release.open(make_release(run, layout="onnx", top_k=7))
    new_keys(tmp_path / "key.pem", tmp_path / "key.pub.pem")
    sign(release.path, tmp_path / "key.pem")
    repository = export_repository(release.path, tmp_path / "triton")
    check_repository(repository, tmp_path / "key.pub.pem")
    assert models_in(repository) == [ONNX]
    config = text_format.Parse((repository / ONNX / CONFIG).read_text(), ModelConfig())
    session = ort.InferenceSession(repository / ONNX / "1/model.onnx")
    assert check(session, Retriever(release), 7)[0] == len(run.users), "answered as the release answers them"
    assert (config.platform, config.max_batch_size) == ("onnxruntime_onnx", 64)
    names = {
        "tensor(int64)": "INT64",
        "tensor(int32)": "INT32",
        "tensor(float)": "FP32",
        "tensor(double)": "FP64",
        "tensor(string)": "STRING",
    }
    for stated, nodes in ((config.input, session.get_inputs()), (config.output, session.get_outputs())):
        assert [entry.name for entry in stated] == [node.name for node in nodes]
        for entry, own in zip(stated, nodes, strict=True):
            assert DataType.Name(entry.data_type) == f"TYPE_{names[own.type]}"
            row = [size if isinstance(size, int) else -1 for size in own.shape[1:]]
            assert (list(entry.dims), entry.HasField("reshape")) == ((row, False) if row else ([1], True))
    with pytest.raises(ServerError, match="the layout onnx needs Triton's onnxruntime backend"):
        TritonServer(repository).start()


def test_the_graph_that_is_written_is_the_one_that_is_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    release = make_release(make_run(tmp_path, last=5), layout="onnx")
    monkeypatch.setattr("ensemble.triton.onnx_config.build", lambda retriever, top_k: build(retriever, top_k - 1))
    with pytest.raises(ReleaseError, match="no graph was kept: it answers user"):
        export_repository(release, tmp_path / "triton")
    assert not (tmp_path / "triton").exists()


def test_the_layout_onnx_is_refused_by_name_and_leaves_no_repository(tmp_path: Path) -> None:
    release = make_release(make_run(tmp_path, last=5), ranks=True, layout="onnx")
    with pytest.raises(ReleaseError, match="the release ranks, which one graph cannot express"):
        export_repository(release, tmp_path / "triton")
    assert not (tmp_path / "triton").exists()
