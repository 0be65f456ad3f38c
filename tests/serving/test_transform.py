"""A damaged or hostile transform is refused by name; a wrong column is told, never guessed at. NumPy only."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ensemble.serving.errors import InvalidRelease, InvalidRequest
from ensemble.serving.query.transform import Column, QueryTransform

DOCUMENT: dict[str, Any] = {
    "format": 1,
    "inputs": [
        {"name": "user", "dtype": "int64", "list": False},
        {"name": "word", "dtype": "string", "list": False},
        {"name": "age", "dtype": "float64", "list": False},
        {"name": "tags", "dtype": "string", "list": True},
    ],
    "steps": [
        {"op": "categorical", "input": "user", "output": "user", "vocabulary": "00_user"},
        {"op": "text", "input": "word", "output": "word", "vocabulary": "01_word", "max_length": 2, "ngrams": 1},
        {"op": "continuous", "input": "age", "output": "age", "fill": 0.0, "mean": 30.0, "std": 10.0},
        {"op": "bucketized", "input": "age", "output": "bucket", "edges": [10.0, 20.0]},
        {"op": "multi_hot", "input": "tags", "output": "tags", "vocabulary": "01_word", "max_length": 3},
    ],
    "outputs": [
        {"name": "user", "dtype": "int64", "list": False, "max_length": 0},
        {"name": "word", "dtype": "int64", "list": True, "max_length": 2},
        {"name": "age", "dtype": "float32", "list": False, "max_length": 0},
        {"name": "bucket", "dtype": "int64", "list": False, "max_length": 0},
        {"name": "tags", "dtype": "int64", "list": True, "max_length": 3},
    ],
}


def write(directory: Path, document: Any) -> Path:
    (directory / "vocabulary").mkdir(parents=True, exist_ok=True)
    (directory / "transform.json").write_text(json.dumps(document), encoding="utf-8")
    np.save(directory / "vocabulary" / "00_user.npy", np.array([7, -(2**63)], dtype=np.int64))
    np.save(directory / "vocabulary" / "01_word.utf8.npy", np.frombuffer("zółty".encode(), dtype=np.uint8))
    np.save(directory / "vocabulary" / "01_word.offsets.npy", np.array([0, 1, 7], dtype=np.int64))
    return directory


def text(*values: str | None) -> np.ndarray:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def columns() -> dict[str, Column]:
    return {
        "user": Column(np.array([7, 8], dtype=np.int64), np.array([False, True])),
        "word": Column(text("Z ółty z", None)),
        "age": Column(np.array([20.0, np.nan])),
        "tags": Column(text("z", "?", None, "ółty", "z"), None, np.array([0, 5, 5])),
    }


@pytest.fixture
def transform(tmp_path: Path) -> QueryTransform:
    return QueryTransform.load(write(tmp_path, DOCUMENT))


def test_each_operator_does_what_it_says(transform: QueryTransform) -> None:
    features = {name: values.tolist() for name, values in transform.compute(columns()).items()}
    assert features == {
        "user": [3, 1],
        "word": [[3, 4], [0, 0]],
        "age": [-1.0, -3.0],
        "bucket": [5, 1],
        "tags": [[3, 2, 4], [0, 0, 0]],
    }


def test_inputs_are_not_written_to(transform: QueryTransform) -> None:
    inputs = columns()
    for column in inputs.values():
        for array in column:
            if array is not None:
                array.flags.writeable = False
    transform.compute(inputs)


@pytest.mark.parametrize("size", [1, 32, 33, 500])
def test_few_and_many_integers_find_the_same_codes(transform: QueryTransform, size: int) -> None:
    extremes = np.array([7, -(2**63), 2**63 - 1, -(2**63) + 1, 0], dtype=np.int64)
    values = np.resize(extremes, size)
    inputs = {
        "user": Column(values),
        "word": Column(text(*["z"] * size)),
        "age": Column(np.zeros(size)),
        "tags": Column(text(), None, np.zeros(size + 1, dtype=np.int64)),
    }
    assert transform.compute(inputs)["user"].tolist() == np.resize([3, 4, 2, 2, 2], size).tolist()


@pytest.mark.parametrize(
    ("name", "column", "message"),
    [
        ("user", None, "column 'user' is missing"),
        ("user", Column(np.array([7.0, 8.0])), "column 'user': got float64"),
        ("user", Column(np.array([7, 8], dtype=np.int32)), "column 'user': got int32"),
        ("user", Column(np.array([[7], [8]])), r"column 'user': got int64 with shape \[2, 1\]"),
        ("user", Column(np.array([7, 8]), np.array([1, 0])), "null marks"),
        ("user", Column(np.array([7, 8]), np.array([True])), "null marks"),
        ("age", Column(np.zeros(3)), "column 'age' has 3 rows where the columns before it have 2"),
        ("word", Column(text("a", b"z")), "column 'word': .*expected a string"),
        ("tags", Column(text("a", "b")), "column 'tags': expected lists"),
        ("tags", Column(text("a"), None, np.array([0, 2, 1])), "column 'tags': expected lists"),
        ("tags", Column(text("a"), None, np.array([-1, 0, 1])), "column 'tags': expected lists"),
        ("tags", Column(text(b"a"), None, np.array([0, 1, 1])), "column 'tags': .*expected a string"),
        ("age", Column(np.zeros(2), None, np.array([0, 1, 2])), "column 'age': expected single values"),
    ],
)
def test_a_wrong_column_is_told_by_name(transform: QueryTransform, name: str, column: Any, message: str) -> None:
    inputs = {**columns(), name: column}
    with pytest.raises(InvalidRequest, match=message):
        transform.compute({key: value for key, value in inputs.items() if value is not None})


def edit(*path: Any, value: Any) -> Callable[[Any], None]:
    def change(document: Any) -> None:
        for key in path[:-1]:
            document = document[key]
        document[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (edit("format", value=2), "format is not 1"),
        (edit("format", value=True), "format must be an integer"),
        (edit("extra", value=1), "unknown field 'extra'"),
        (edit("inputs", value={}), "inputs must be a list"),
        (edit("inputs", 0, value="user"), r"inputs\[0\]: expected an object"),
        (edit("inputs", 0, "dtype", value="object"), "dtype must be one of int64, float64, string"),
        (edit("inputs", 1, "name", value="user"), "is not from inputs|have a name twice"),
        (edit("steps", 0, "op", value="os.system"), r"steps\[0\]: op must be one of categorical"),
        (edit("steps", 0, "module", value="os"), "unknown field 'module'"),
        (edit("steps", 0, "input", value="nosuch"), "is not from inputs to outputs"),
        (edit("steps", 0, "input", value="age"), "categorical cannot take the inputs age"),
        (edit("steps", 0, "output", value="age"), "does not make the output"),
        (edit("steps", 0, "vocabulary", value="../00_user"), "vocabulary must be a name"),
        (edit("steps", 0, "vocabulary", value="/etc/passwd"), "vocabulary must be a name"),
        (edit("steps", 0, "vocabulary", value="absent"), "absent.npy: missing"),
        (edit("steps", 1, "ngrams", value=4), "ngrams must be an integer from 1 to 3"),
        (edit("steps", 1, "max_length", value=3), "max_length is not that of the output"),
        (edit("steps", 2, "std", value=0.0), "std must be above 0"),
        (edit("steps", 2, "mean", value=float("nan")), "transform.json: .*NaN is not a finite number"),
        (edit("steps", 2, "mean", value=float("inf")), "Infinity is not a finite number"),
        (edit("steps", 2, "mean", value=10**400), "mean must be a finite number"),
        (edit("steps", 2, "fill", value="0"), "fill must be a finite number"),
        (edit("steps", 3, "edges", value=[2.0, 2.0]), "edges must rise strictly"),
        (edit("steps", 3, "edges", value=[]), "edges must rise strictly"),
        (edit("outputs", 1, "max_length", value=0), "max_length must be an integer from 1"),
        (edit("outputs", 1, "max_length", value=10**9), "max_length must be an integer from 1"),
        (edit("steps", value=DOCUMENT["steps"][:-1]), "the steps do not make the outputs"),
    ],
)
def test_a_wrong_parameter_is_refused_by_file_and_place(change: Any, message: str, tmp_path: Path) -> None:
    document = copy.deepcopy(DOCUMENT)
    change(document)
    with pytest.raises(InvalidRelease, match=message) as caught:
        QueryTransform.load(write(tmp_path, document))
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff", b"[" * 100_000, b'{"format": 1e999}'])
def test_what_is_not_a_transform_is_refused(content: bytes, tmp_path: Path) -> None:
    (write(tmp_path, DOCUMENT) / "transform.json").write_bytes(content)
    with pytest.raises(InvalidRelease, match=r"transform\.json"):
        QueryTransform.load(tmp_path)


@pytest.mark.parametrize(
    ("file", "array", "message"),
    [
        ("00_user", np.array([7, 7]), "a value is there twice"),
        ("00_user", np.array([7.0]), "expected int64 of 1 dimensions"),
        ("00_user", np.array([[7]]), "expected int64 of 1 dimensions"),
        ("00_user", np.array([7, None], dtype=object), "not a .npy file of plain numbers"),
        ("01_word.offsets", np.array([0, 7, 1]), "offsets do not fit"),
        ("01_word.offsets", np.array([0, 9, 7]), "offsets do not fit"),
        ("01_word.offsets", np.array([], dtype=np.int64), "offsets do not fit"),
        ("01_word.offsets", np.array([0, 2, 7]), "not UTF-8"),
        ("01_word.offsets", np.array([0, 0, 0, 7]), "a value is there twice"),
        ("01_word.utf8", np.array([255], dtype=np.uint8), "offsets do not fit"),
    ],
)
def test_a_damaged_vocabulary_is_refused_by_file(file: str, array: np.ndarray, message: str, tmp_path: Path) -> None:
    write(tmp_path, DOCUMENT)
    np.save(tmp_path / "vocabulary" / f"{file}.npy", array, allow_pickle=True)
    with pytest.raises(InvalidRelease, match=message) as caught:
        QueryTransform.load(tmp_path)
    assert file.split(".")[0] in str(caught.value)


def test_a_vocabulary_that_leads_out_of_the_release_is_refused(tmp_path: Path) -> None:
    directory = write(tmp_path / "release", DOCUMENT)
    inside, outside = directory / "vocabulary" / "00_user.npy", tmp_path / "outside.npy"
    inside.rename(outside)
    inside.symlink_to(outside)
    with pytest.raises(InvalidRelease, match="leads out of the release"):
        QueryTransform.load(directory)
    inside.unlink()
    inside.write_bytes(outside.read_bytes()[:-3])
    with pytest.raises(InvalidRelease, match="bytes, expected"):
        QueryTransform.load(directory)
