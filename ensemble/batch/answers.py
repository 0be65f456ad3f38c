"""Answers for many users at once, as a directory of Parquet parts; on Dask or in this process, resumable.

`answers.json` identifies what the parts answer: a fingerprint of the release and of everything that was asked. A part
appears under its name when it is complete, and is kept by a later run with the same fingerprint.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ensemble.batch.everybody import Asking, Everybody, batches
from ensemble.serving.retriever import Answer
from workflows.errors import DataError, StageError
from workflows.files import atomic_file, atomic_write, json_bytes, locked
from workflows.progress import Progress, regularly

if TYPE_CHECKING:
    from distributed import Client

FORMAT = 1
FILE = "answers.json"
USERS_PER_PART = 8192


class State(msgspec.Struct, frozen=True, kw_only=True):
    """The content of `answers.json`."""

    format: int = FORMAT
    fingerprint: str
    release: str
    """The release and, after a +, the number of changes of its catalogue."""
    asking: dict[str, Any]
    """The question, with its time fixed."""
    users: int
    users_per_part: int
    finished: bool = False


@dataclass(frozen=True)
class Task:
    """What a worker needs to answer a part."""

    release: Path
    delta: Path | None
    name: str
    """Id of the release and its changes: a worker that sees others must not answer."""
    asking: Asking
    out: Path


@dataclass(frozen=True)
class Done:
    """The result of a call."""

    out: str
    release: str
    users: int
    unknown_users: int
    """They were answered from the columns alone, as the server does."""
    parts: int
    kept: int
    """Parts that an earlier call had finished."""
    answered: int
    """Users answered by this call."""
    seconds: float
    rows_per_s: float | None
    time: int | str | None
    """The time of the question; None if time means nothing to the release."""


def answer_all(
    task: Task,
    everybody: Everybody,
    user_ids: np.ndarray,
    client: Client | None,
    progress: Progress,
    *,
    now: bool = False,
    force: bool = False,
    users_per_part: int = USERS_PER_PART,
) -> Done:
    """Answer every user, part by part; `client` is a Dask cluster, whose workers read and write under the same paths.

    Finished parts with the same question are kept. With `now` it is asked as of the time of the first call, which a
    resumed call takes over; `force` replaces what the directory holds.

    Raises
    ------
    DataError
        The directory holds answers to something else, or a request is wrong.
    StageError
        Another process writes to the directory, or the release changed meanwhile.
    """
    started = time.monotonic()
    task.out.mkdir(parents=True, exist_ok=True)
    refusal = StageError(f"{task.out}: another process answers into it; wait for it or stop it")
    with locked(task.out / ".lock", refusal):
        state = _opened(task, everybody, user_ids, users_per_part, now=now, force=force)
        task = replace(task, name=state.release, asking=Asking(**state.asking))
        everybody.answer(user_ids[:1], task.asking)  # what is wrong with a question is told before work is shared out
        parts = list(enumerate(batches(user_ids, users_per_part)))
        due = [(number, ids) for number, ids in parts if not part_path(task.out, number).exists()]
        answered = _answered(task, due, everybody, client, progress)
        atomic_write(task.out / FILE, json_bytes(msgspec.structs.replace(state, finished=True)))
    seconds = time.monotonic() - started
    return Done(
        str(task.out),
        state.release,
        len(user_ids),
        int((everybody.retriever.users.rows_of(user_ids) < 0).sum()),
        len(parts),
        len(parts) - len(due),
        answered,
        round(seconds, 2),
        round(answered / seconds, 1) if answered else None,
        task.asking.time if everybody.dated else None,
    )


def part_path(out: Path, number: int) -> Path:
    """Return the path of a part."""
    return out / f"part-{number:06d}.parquet"


def _answered(
    task: Task, due: list[tuple[int, np.ndarray]], everybody: Everybody, client: Client | None, progress: Progress
) -> int:
    told, total, answered = "{:,} of {:,} users answered", sum(len(ids) for _, ids in due), 0
    report = regularly(progress, told, total)
    for rows in _in_process(task, due, everybody) if client is None else _on_cluster(task, due, client):
        answered += rows
        report(answered)
    if due:
        progress(told.format(answered, total))
    return answered


def _in_process(task: Task, due: Iterable[tuple[int, np.ndarray]], everybody: Everybody) -> Iterator[int]:
    for number, ids in due:
        yield write_part(everybody, task, number, ids)


def _on_cluster(task: Task, due: list[tuple[int, np.ndarray]], client: Client) -> Iterator[int]:
    from distributed import as_completed

    absolute = replace(
        task, release=task.release.absolute(), delta=task.delta and task.delta.absolute(), out=task.out.absolute()
    )
    futures = [client.submit(_answer_part, absolute, number, ids, pure=False) for number, ids in due]
    for future in as_completed(futures):
        yield future.result()
        future.release()


def _answer_part(task: Task, number: int, ids: np.ndarray) -> int:
    """Answer a part in a worker, which loads the release once."""
    everybody = _loaded(task.release, task.delta, task.name)
    return write_part(everybody, task, number, ids)


@lru_cache(maxsize=1)
def _loaded(release: Path, delta: Path | None, name: str) -> Everybody:
    everybody = Everybody.load(release, delta)
    if everybody.retriever.name != name:
        raise StageError(
            f"{release}: was {name} at the start and is {everybody.retriever.name} for a worker; "
            "let nothing change it meanwhile (`retrieval items compact` makes a release of a delta directory)"
        )
    return everybody


def write_part(everybody: Everybody, task: Task, number: int, ids: np.ndarray) -> int:
    """Answer users, write `part-<number>.parquet` atomically and return the number of users.

    Columns: `user_id`; `item_ids` and `scores` (float32), lists, best first; `count` int32, their length; `user_known`.
    """
    manifest = everybody.retriever.release.manifest
    kinds = [pa.string() if manifest["id_dtype"][name] == "string" else pa.int64() for name in ("user_id", "item_id")]
    schema = pa.schema(
        [
            ("user_id", kinds[0]),
            ("item_ids", pa.list_(kinds[1])),
            ("scores", pa.list_(pa.float32())),
            ("count", pa.int32()),
            ("user_known", pa.bool_()),
        ]
    )
    with atomic_file(part_path(task.out, number)) as temporary, pq.ParquetWriter(temporary, schema) as writer:
        for batch in batches(ids):
            writer.write_batch(_record(batch, everybody.answer(batch, task.asking), schema))
    return len(ids)


def _record(ids: np.ndarray, answer: Answer, schema: pa.Schema) -> pa.RecordBatch:
    width = answer.score.shape[1]
    real = np.arange(width)[None, :] < answer.count[:, None]
    bounds = pa.array(np.concatenate([[0], np.cumsum(answer.count)]).astype(np.int32))
    items = pa.array(answer.item_id[real], schema.field("item_ids").type.value_type)
    return pa.record_batch(
        [
            pa.array(ids, schema.field("user_id").type),
            pa.ListArray.from_arrays(bounds, items),
            pa.ListArray.from_arrays(bounds, pa.array(answer.score[real], pa.float32())),
            pa.array(answer.count, pa.int32()),
            pa.array(answer.user_known),
        ],
        schema=schema,
    )


def _opened(
    task: Task, everybody: Everybody, user_ids: np.ndarray, users_per_part: int, *, now: bool, force: bool
) -> State:
    """Return the state of the directory, a new one if there is none; remove half-written parts."""
    asking: dict[str, Any] = asdict(task.asking)
    asked = {**asking, "time": ("now" if now else asking["time"]) if everybody.dated else None}
    facts = {
        "format": FORMAT,
        "release": everybody.retriever.name,
        "asking": asked,
        "users": _hash(user_ids),
        "users_per_part": users_per_part,
    }
    fingerprint = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    for leftover in task.out.glob(".part-*"):
        leftover.unlink()
    kept = _read(task.out / FILE)
    if kept is not None and kept.fingerprint == fingerprint and not force:
        return kept
    old = sorted(task.out.glob("part-*.parquet"))
    if (kept is not None or old) and not force:
        raise DataError(
            f"{task.out}: holds answers of another release or to other questions; choose another directory, or replace "
            "them with --force"
        )
    for part in old:
        part.unlink()
    state = State(
        fingerprint=fingerprint,
        release=everybody.retriever.name,
        asking=asking,
        users=len(user_ids),
        users_per_part=users_per_part,
    )
    atomic_write(task.out / FILE, json_bytes(state))
    return state


def _read(path: Path) -> State | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=State)
    except FileNotFoundError:
        return None
    except msgspec.MsgspecError as error:
        raise DataError(f"{path}: not what `retrieval recommend` wrote ({error}); choose another directory") from None


def _hash(ids: np.ndarray) -> str:
    content = "\0".join(ids).encode() if ids.dtype == object else np.ascontiguousarray(ids).tobytes()
    return hashlib.sha256(content).hexdigest()
