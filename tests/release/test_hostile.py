"""Files that would run code, open others, or make a library take what is not there: refused before it sees them."""

from __future__ import annotations

import ast
import json
import pickle
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import ensemble.serving
from ensemble.serving.errors import InvalidRelease
from ensemble.serving.files import npy
from ensemble.serving.files.release import Release, manifest_text, release_id
from ensemble.serving.index.engines import load_index
from ensemble.serving.index.faiss_index import FILE
from ensemble.serving.retriever import Retriever
from tests.hostile import Put, made_right


def header(text: str, body: bytes = b"", version: int = 1, align: int = 64) -> bytes:
    """Return a .npy file with this header."""
    start = 10 if version == 1 else 12
    padded = text + " " * (-(start + len(text) + 1) % align) + "\n"
    size = len(padded).to_bytes(2 if version == 1 else 4, "little")
    return b"\x93NUMPY" + bytes([version, 0]) + size + padded.encode("latin-1") + body


def text(descr: str = "'<i8'", fortran: str = "False", shape: str = "(2,)", more: str = "") -> str:
    """Return the text of a header as `numpy.save` spells it."""
    return f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, {more}}}"


TWO = bytes(16)
HEADERS = {
    "objects": header(text("'|O'"), pickle.dumps([1, 2])),
    "objects by another spelling": header(text("'O'"), pickle.dumps([1, 2])),
    "a pickle and nothing else": pickle.dumps(np.arange(3)),
    "records": header(text("[('a', '<i8')]"), TWO),
    "big endian": header(text("'>i8'"), TWO),
    "unicode": header(text("'<U2'"), TWO),
    "times": header(text("'<M8[s]'"), TWO),
    "half": header(text("'<f2'", shape="(8,)"), TWO),
    "complex": header(text("'<c16'", shape="(1,)"), TWO),
    "Fortran order": header(text(fortran="True"), TWO),
    "more than is there": header(text(shape="(3,)"), TWO),
    "less than is there": header(text(shape="(1,)"), TWO),
    "more than there can be": header(text(shape="(4611686018427387905,)"), TWO),
    "a product that wraps": header(text(shape="(4294967296, 4294967296)"), TWO),
    "below nothing": header(text(shape="(-2,)"), TWO),
    "no dimension": header(text(shape="()"), bytes(8)),
    "three dimensions": header(text(shape="(1, 1, 2)"), TWO),
    "an expression": header(text(shape="(1+1,)"), TWO),
    "a key twice": header(text(more="'shape': (2,), "), TWO),
    "a header of its own length": header(text(), TWO, align=1),
    "version 2": header(text(), TWO, version=2),
    "version 3": header(text(), TWO, version=3),
    "a header without an end": b"\x93NUMPY\x01\x00\xff\xff" + text().encode(),
    "a zip": b"PK\x03\x04" + TWO,
    "nothing": b"",
}


@pytest.mark.parametrize("what", HEADERS)
def test_arrays_with_another_header_than_ours_are_refused_before_numpy_reads_them(what: str, tmp_path: Path) -> None:
    path = tmp_path / "array.npy"
    path.write_bytes(HEADERS[what])
    with pytest.raises(InvalidRelease, match=r"array\.npy"):
        npy.load(path)


def test_truth_values_that_are_neither_true_nor_false_are_refused(tmp_path: Path) -> None:
    """NumPy adds their bytes to learn how much to copy."""
    path = tmp_path / "array.npy"
    path.write_bytes(header(text("'|b1'", shape="(3,)"), b"\x00\x01\x02"))
    with pytest.raises(InvalidRelease, match="neither 0 nor 1"):
        npy.load(path)


@pytest.mark.parametrize("dtype", [str(dtype) for dtype in npy.DTYPES.values()])
@pytest.mark.parametrize("shape", [(0,), (5,), (0, 3), (2, 3)])
def test_what_numpy_saves_is_read_as_it_was(dtype: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    array = (np.arange(np.prod(shape)) % 2).reshape(shape).astype(dtype)
    np.save(tmp_path / "array.npy", array)
    for mapped in (True, False):
        read = npy.load(tmp_path / "array.npy", mapped)
        assert read.dtype == array.dtype
        np.testing.assert_array_equal(read, array)


@pytest.mark.parametrize("place", ["flat"], indirect=True)
@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("history/offsets.npy", np.zeros(61, dtype=np.int32)),
        ("history/item_index.npy", np.full(600, 300, dtype=np.int32)),
        ("history/item_index.npy", np.full(600, -1, dtype=np.int32)),
        ("history/timestamp.npy", np.zeros(599, dtype=np.int64)),
        ("users/age.npy", np.zeros(59)),
        ("users/age.missing.npy", np.zeros(61, dtype=bool)),
        ("users/occupation.offsets.npy", np.arange(61, dtype=np.uint32)),
        ("users/features/00.npy", np.zeros(60, dtype=np.float32)),
        ("users/features/00.npy", np.zeros((60, 2), dtype=np.int64)),
        ("items/vectors.npy", np.zeros((300, 16))),
        ("items/vectors.npy", np.full((300, 16), np.nan, dtype=np.float32)),
        ("items/attributes/0.codes.npy", np.full(500, 9, dtype=np.int32)),
        ("ranking/items.npy", np.zeros((299, 28), dtype=np.float32)),
        ("ranking/items.npy", np.full((300, 28), np.inf, dtype=np.float32)),
    ],
)
def test_arrays_that_do_not_fit_each_other_are_refused_by_name(place: Path, name: str, array: np.ndarray) -> None:
    with Put(place, place / name, b""):
        np.save(place / name, array)
        made_right(place)
        with pytest.raises(InvalidRelease) as caught:
            Retriever.load(place)
    assert name.rsplit("/", 1)[0] in str(caught.value)


def graph(node: Any, initializers: list[Any] = [], functions: list[Any] = []) -> bytes:  # noqa: B006
    """Return an ONNX model of one node from `age` to `vector`."""
    built = helper.make_graph(
        [node],
        "tower",
        [helper.make_tensor_value_info("age", TensorProto.FLOAT, ["n"])],
        [helper.make_tensor_value_info("vector", TensorProto.FLOAT, ["n", 16])],
        initializers,
    )
    domains = [helper.make_opsetid("", 15), helper.make_opsetid("hostile", 1)]
    return bytes(helper.make_model(built, opset_imports=domains, functions=functions).SerializeToString())


def outside() -> Any:
    """Return weights that lie in another file."""
    tensor = onnx.TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1, 16], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="../../../../etc/passwd")
    return tensor


def too_many() -> Any:
    """Return weights that are said to be more than there are."""
    return onnx.TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1 << 40, 16], raw_data=bytes(64))


def node(operator: str, **more: Any) -> Any:
    """Return a node from `age` to `vector`."""
    return helper.make_node(operator, ["age"], ["vector"], **more)


RELU = node("Relu")
FUNCTION = helper.make_function("hostile", "Relu", ["x"], ["y"], [], [helper.make_opsetid("", 15)])
GRAPHS = {
    "weights in another file": (graph(RELU, [outside()]), "field 13"),
    "weights that are not there": (graph(RELU, [too_many()]), "weights of type"),
    "an operator that fills memory": (
        graph(helper.make_node("ConstantOfShape", ["age"], ["vector"])),
        "ConstantOfShape",
    ),
    "an operator of somebody's library": (
        graph(helper.make_node("Relu", ["age"], ["vector"], domain="hostile")),
        "domain",
    ),
    "a function": (graph(RELU, [], [FUNCTION]), "field 25"),
    "a graph within": (graph(node("If")), "operator b'If'"),
    "a pickle": (pickle.dumps(list(range(99))), "no graph of a tower"),
    "a length beyond the end": (b"\x3a\xff\xff\xff\xff\x0f" + bytes(9), "ends before"),
}


@pytest.mark.parametrize("what", GRAPHS)
@pytest.mark.parametrize("place", ["flat"], indirect=True)
def test_towers_with_more_than_a_tower_needs_are_refused_before_onnxruntime_reads_them(
    place: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "InferenceSession", _must_not)
    content, message = GRAPHS[what]
    with Put(place, place / "towers/query.onnx", content):
        made_right(place)
        with pytest.raises(InvalidRelease, match=rf"towers/query\.onnx: .*{message}"):
            Retriever.load(place)


def shorter(table: np.ndarray) -> np.ndarray:
    return table[:-1]


def as_float64(table: np.ndarray) -> np.ndarray:
    return table.astype(np.float64)


@pytest.mark.parametrize("change", [shorter, as_float64, np.ravel, np.asfortranarray])
@pytest.mark.parametrize("place", ["flat"], indirect=True)
def test_a_table_that_the_tower_does_not_take_is_refused_by_its_name(place: Path, change: Any) -> None:
    path = place / "towers/query/user_id.npy"
    table = np.load(path)
    with Put(place, path, b""):
        np.save(path, change(table))
        made_right(place)
        with pytest.raises(InvalidRelease, match=r"towers/query/user_id\.npy: "):
            Retriever.load(place)


@pytest.mark.parametrize("name", ["table/none", "table/../../items/vectors", "table//etc/passwd"])
@pytest.mark.parametrize("place", ["flat"], indirect=True)
def test_a_tower_takes_only_tables_that_are_part_of_the_release(place: Path, name: str) -> None:
    path = place / "towers/query.onnx"
    tower = onnx.load(str(path))
    (table,) = [tensor for tensor in tower.graph.input if tensor.name == "table/user_id"]
    for node in (table, *tower.graph.node):
        if node is table:
            node.name = name
        elif "table/user_id" in node.input:
            node.input[list(node.input).index("table/user_id")] = name
    with Put(place, path, tower.SerializeToString()):
        made_right(place)
        with pytest.raises(InvalidRelease, match=r"towers/query/.*\.npy: missing from the release"):
            Retriever.load(place)


@pytest.mark.parametrize("place", ["ivf_sq8"], indirect=True)
def test_an_index_that_names_another_file_is_refused_before_faiss_reads_it(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FAISS's own lists on disk: the index holds the path of a file, which FAISS opens."""
    index = faiss.read_index(str(place / FILE))
    lists = faiss.OnDiskInvertedLists(index.nlist, index.code_size, str(tmp_path / "elsewhere"))
    lists.merge_from_1(index.invlists)
    index.replace_invlists(lists)
    content = faiss.serialize_index(index).tobytes()
    monkeypatch.setattr(faiss, "read_index", _must_not)
    with Put(place, place / FILE, content):
        made_right(place)
        with pytest.raises(InvalidRelease, match=r"items\.faiss: .*lists 'ilod', expected 'ilar'"):
            load_index(Release.open(place))


def _must_not(*_: object, **__: object) -> None:
    raise AssertionError("the library was asked to read it")


@pytest.mark.parametrize("place", ["flat"], indirect=True)
def test_a_manifest_with_impossible_values_is_refused_by_the_value(place: Path) -> None:
    path = place / "manifest.json"
    impossible = {"dim": 0, "pairing": "x", "counts": {"users": -1}, "id_dtype": {"user_id": "object"}, "files": []}
    for key, value in {**impossible, "serving": {"threads": 10**6}, "derived_from": {"lineage": "../../x"}}.items():
        manifest = json.loads(path.read_text())
        manifest[key] = {**manifest.get(key, {}), **value} if isinstance(value, dict) else value
        manifest["release"] = release_id(manifest)
        with Put(place, path, manifest_text(manifest).encode()), pytest.raises(InvalidRelease, match=rf"{key}"):
            Release.open(place)


def test_no_serving_code_of_ours_names_pickle_or_has_numpy_unpickle() -> None:
    """NumPy imports pickle itself; ours never does, and never asks NumPy, which would only with `allow_pickle`."""
    hostile = {"pickle", "cPickle", "_pickle", "dill", "joblib", "shelve", "marshal", "cloudpickle"}
    for path in Path(ensemble.serving.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = {alias.name.split(".")[0] for alias in node.names} if isinstance(node, ast.Import) else set()
            if isinstance(node, ast.ImportFrom):
                names = {(node.module or "").split(".")[0]}
            assert not names & hostile, path
            called = ast.unparse(node) if isinstance(node, (ast.Name, ast.Attribute)) else ""
            assert called not in {"eval", "exec", "compile", "__import__", "np.load", "numpy.load"}, path
            assert not (isinstance(node, ast.keyword) and node.arg == "allow_pickle"), path
