"""Every field of every JSON file, and every array, changed with all hashes right: refused by name, or harmless.

A few of them on each run; `RETRIEVAL_FUZZ=1` tries all, which takes some minutes.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
from typer.testing import CliRunner

from ensemble.config import Promotion, Serving
from ensemble.release.examination import examine
from ensemble.release.sign import new_keys, sign
from ensemble.serving.errors import InvalidRelease
from ensemble.serving.files.parameters import Fields
from ensemble.serving.files.release import Release
from ensemble.serving.files.schema import PROMOTION, SERVING, Schema
from models.ranking.config import RankingTraining
from retrieval.cli import app
from tests.hostile import NOT_READ, Put, answers, files_in, made_right
from workflows.errors import ReleaseError

FEW = None if os.environ.get("RETRIEVAL_FUZZ") else 25
"""Changes that are tried of each release and kind."""
_MADE_RIGHT = ("files", "bytes", "release", "vocabulary_sha256", "pairing")
"""What `made_right` writes."""
_HOW_MANY = "ranking/params.json", ("candidates",)
"""A release that ranks other numbers of candidates is in order, and answers otherwise."""
Array = npt.NDArray[Any]
Place = tuple[Any, ...]


class Mutation(NamedTuple):
    """A change of one place in a JSON file."""

    file: str
    at: Place
    kind: str

    def __str__(self) -> str:
        return f"{self.file} {'.'.join(map(str, self.at))} {self.kind}"

    def content(self, place: Path) -> bytes:
        """Return the file of a release with this change."""
        document = json.loads((place / self.file).read_bytes())
        inner, last = document, self.at[-1]
        for key in self.at[:-1]:
            inner = inner[key]
        if self.kind == "missing":
            del inner[last]
        else:
            inner[last] = VALUES[self.kind](inner[last])
        return json.dumps(document).encode()


VALUES: dict[str, Callable[[Any], Any]] = {
    "null": lambda _: None,
    "true": lambda _: True,
    "negative": lambda _: -1,
    "large": lambda _: 65_536,
    "huge": lambda _: 2**70,
    "a huge fraction": lambda _: 1e308,
    "no text": lambda _: "\ud800",
    "two lines": lambda _: "a\nb",
    "empty text": lambda _: "",
    "a path": lambda _: "../../outside",
    "a list": lambda _: [],
    "an object": lambda _: {},
    "in a list": lambda value: [value],
    "doubled": lambda value: value * 2 if isinstance(value, (list, str)) else [value, value],
    "reordered": lambda value: value[::-1] if isinstance(value, (list, str)) else {**value, "extra": 0},
}


def places(value: Any, at: Place = ()) -> Iterator[tuple[Place, Any]]:
    """Yield every place in a document but the inside of long lists."""
    if at and at[-1] in _MADE_RIGHT:
        return
    if at:
        yield at, value
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys if len(keys) < 30 else [*keys][:2]:
        yield from places(value[key], (*at, key))


def mutations(place: Path) -> list[Mutation]:
    """Return every change of every JSON file of a release."""
    changes = []
    for path in (file for file in files_in(place) if file.suffix == ".json"):
        name, document = path.relative_to(place).as_posix(), json.loads(path.read_bytes())
        for at, value in places(document):
            changes.append(Mutation(name, at, "missing"))
            for kind in VALUES:
                if kind == "reordered" and not isinstance(value, (list, str, dict)):
                    continue
                if kind == "no text" and name == "manifest.json":  # which is written as it is read
                    continue
                changes.append(Mutation(name, at, kind))
    return changes


def some(cases: list[Any], of: Path) -> list[Any]:
    return cases if FEW is None else random.Random(of.name).sample(cases, FEW)


@pytest.fixture(scope="module")
def right(place: Path) -> list[Any]:
    """What the release answers before anything is done to it."""
    return answers(place)


def tried(place: Path) -> str:
    """Return why a changed release is refused, "" where it is not and answers as before."""
    made_right(place)
    try:
        examine(Release.open(place))
    except InvalidRelease as error:
        return str(error)
    return ""


def test_a_field_of_another_value_is_refused_by_file_and_name_or_changes_nothing(place: Path, right: list[Any]) -> None:
    for change in some(mutations(place), place.parent):
        with Put(place, place / change.file, change.content(place)):
            reason = tried(place)
            if not reason:
                assert answers(place) == right or (change.file, change.at) == _HOW_MANY, change
                continue
        if "self-test failed" in reason:  # a value of the right kind, and another one
            continue
        assert str(place) in reason, change
        if change.file not in reason:  # it contradicts another file, which is named
            assert ".json" in reason or ".npy" in reason or "/users" in reason, (str(change), reason)
            continue
        named = [key for key in change.at if isinstance(key, str)]
        assert any(key in reason for key in named) or "unknown field" in reason, (str(change), reason)


def wrong_arrays(array: Array) -> Iterator[tuple[str, Array]]:
    """Yield what may be done to an array so that it is another one."""
    info: Any = np.iinfo(array.dtype) if array.dtype.kind in "iu" else None
    ends = [info.min, info.max] if info else [np.nan, np.inf, -np.inf] if array.dtype.kind == "f" else []
    for value in ends:
        for row in (0, -1):
            if array.size:
                changed = array.copy()
                changed.reshape(-1)[row] = value
                yield f"{value} in row {row}", changed
    if array.size:
        yield "all equal", np.full_like(array, array.reshape(-1)[0])
        yield "reversed", np.ascontiguousarray(array[::-1])
        yield "shorter", array[:-1]
        yield "longer", np.concatenate([array, array[-1:]])
    yield "empty", array[:0]
    yield "another type", np.zeros(array.shape, np.int32 if array.dtype != np.int32 else np.int64)
    yield "another shape", np.ascontiguousarray(array.reshape(-1, 1) if array.ndim == 1 else array.reshape(-1))


def test_an_array_of_other_numbers_is_refused_by_name_or_raises_nothing(place: Path) -> None:
    paths = [path for path in files_in(place) if path.suffix == ".npy"]
    assert {path.relative_to(place).parts[0] for path in paths} >= {"items", "users", "history", "query"}
    cases = [(path, what, array) for path in paths for what, array in wrong_arrays(np.load(path))]
    for path, what, array in some(cases, place.parent):
        with Put(place, path, b""):
            np.save(path, array, allow_pickle=False)
            reason = tried(place)
        name = path.relative_to(place).as_posix()
        if reason and "self-test" not in reason and not name.startswith(NOT_READ):
            # A vocabulary that is too short shows in the codes of users, one that is too long in the tower.
            contradicted = ["users/features", "towers/query"] if name.startswith("query/vocabulary") else []
            places = [name.split("/")[0], *contradicted]
            named = any(str(place / part) in reason for part in places) or "manifest.json" in reason
            assert named, (name, what, reason)


def changed_json(name: str, change: Callable[[Any], Any]) -> Callable[[Path], None]:
    """Return what changes a JSON file of a release in place."""

    def write(place: Path) -> None:
        document = json.loads((place / name).read_bytes())
        change(document)
        (place / name).write_text(json.dumps(document))

    return write


def changed_array(name: str, change: Callable[[Array], Array]) -> Callable[[Path], None]:
    """Return what changes an array of a release in place."""
    return lambda place: np.save(place / name, change(np.load(place / name)), allow_pickle=False)


def _put(*at: Any) -> Callable[[Any], Any]:
    *keys, last, value = at

    def change(document: Any) -> None:
        for key in keys:
            document = document[key]
        document[last] = value

    return change


TRANSFORM, MANIFEST, INDEX = "query/transform.json", "manifest.json", "index/params.json"
KNOWN: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "an input name that is no text": (TRANSFORM, changed_json(TRANSFORM, _put("inputs", 1, "name", "\ud800")), "name"),
    "an input of two lines": (TRANSFORM, changed_json(TRANSFORM, _put("inputs", 1, "name", "a\nb")), "name|input"),
    "an input twice": (
        TRANSFORM,
        changed_json(TRANSFORM, lambda document: document["inputs"].append(document["inputs"][1])),
        "inputs",
    ),
    "a vocabulary elsewhere": (
        TRANSFORM,
        changed_json(TRANSFORM, _put("steps", 0, "vocabulary", "../../outside")),
        "vocabulary must be a name",
    ),
    "promotion null": (MANIFEST, changed_json(MANIFEST, _put("promotion", None)), "promotion"),
    "promotion of other keys": (MANIFEST, changed_json(MANIFEST, _put("promotion", {"x": 1})), "promotion"),
    "a share of text": (MANIFEST, changed_json(MANIFEST, _put("promotion", "min_overlap", "0.3")), "min_overlap"),
    "no metric": (INDEX, changed_json(INDEX, lambda document: document.pop("metric")), "metric"),
    "threads": (MANIFEST, changed_json(MANIFEST, _put("serving", "threads", 65_536)), "threads"),
    "instances": (MANIFEST, changed_json(MANIFEST, _put("serving", "instances", 65_536)), "instances"),
    "items all equal": ("items/ids.npy", changed_array("items/ids.npy", lambda array: array * 0 + 7), "twice"),
    "users all equal": ("users/user_id.npy", changed_array("users/user_id.npy", lambda array: array * 0 + 7), "twice"),
    "codes beyond the vocabulary": (
        "users/features/00.npy",
        changed_array("users/features/00.npy", lambda array: array + 10**6),
        "codes",
    ),
    "codes below zero": (
        "users/features/00.npy",
        changed_array("users/features/00.npy", lambda array: -array - 1),
        "codes",
    ),
    "times that go back": (
        "history/timestamp.npy",
        changed_array("history/timestamp.npy", lambda array: array[::-1].copy()),
        "order",
    ),
}


@pytest.mark.parametrize("place", ["hnsw"], indirect=True)
@pytest.mark.parametrize("what", KNOWN)
def test_what_is_wrong_with_every_hash_right_is_refused_by_every_command(
    place: Path, what: str, tmp_path: Path
) -> None:
    file, change, field = KNOWN[what]
    new_keys(tmp_path / "key.pem", tmp_path / "key.pub.pem")
    with Put(place, place / file, (place / file).read_bytes()):
        change(place)
        made_right(place)
        with pytest.raises(InvalidRelease, match=f"{file}.*(?:{field})"):
            examine(Release.open(place))
        with pytest.raises((ReleaseError, InvalidRelease)):
            examine(sign(place, tmp_path / "key.pem"))
        commands = ["promote", place, tmp_path / "releases"], ["items", "status", place], ["diff", place, place]
        for command in (*commands, ["verify", place, "--key", tmp_path / "key.pub.pem"]):
            done = CliRunner().invoke(app, [str(part) for part in command])
            assert (done.exit_code, done.exception.__class__) == (2, SystemExit), (command[0], done.output)
        (place / "manifest.sig").unlink(missing_ok=True)


@pytest.mark.parametrize(("config", "schema"), [(Serving, SERVING), (Promotion, PROMOTION)])
def test_a_recipe_and_a_release_have_the_same_fields_and_bounds(config: Any, schema: Schema) -> None:
    assert set(schema) == set(config.__struct_fields__)
    own = msgspec.to_builtins(config())
    for name, check in schema.items():
        for value in (None, -1, 0, 1, 2, 5, 0.5, 256, 257, 1 << 16, 1 << 20, (1 << 20) + 1, 1 << 40, "python", "both"):
            assert _takes(config, own, name, value) == _reads(check, name, value), (name, value)


def test_a_recipe_asks_for_no_more_candidates_than_a_release_may_have() -> None:
    with pytest.raises(msgspec.ValidationError, match="65536"):
        msgspec.convert({"candidates": 65_537}, RankingTraining)
    assert msgspec.convert({"candidates": 65_536}, RankingTraining).candidates == 65_536


def _takes(config: Any, own: dict[str, Any], name: str, value: Any) -> bool:
    # What goes together is another matter: the rest is such that it goes with any value of this field.
    loose = {"top_k": 1, "max_top_k": 1 << 20, "max_queue_rows": 0, "max_batch_size": 1, "threads": 1}
    rest = {**own, **{key: bound for key, bound in loose.items() if key in own}, "tower_platform": "onnxruntime"}
    try:
        msgspec.convert({**{key: known for key, known in rest.items() if key in own}, name: value}, config)
    except msgspec.ValidationError:
        return False
    return True


def _reads(check: Callable[[Fields, str], Any], name: str, value: Any) -> bool:
    try:
        check(Fields({name: value}, "manifest.json"), name)
    except InvalidRelease:
        return False
    return True
