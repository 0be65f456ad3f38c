"""Whether environments of different versions give the same answers, bit for bit: `make test-versions`.

versions.py write RELEASES     # one release of every kind of index, by this environment
versions.py answer RELEASES OUT.npz
versions.py compare FOLDER     # of what `answer` wrote: READER-WRITER.npz
"""

from __future__ import annotations

import importlib.metadata
import platform
import sys
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
KINDS = ("flat", "ivf_flat", "ivf_sq8", "ivf_pq", "hnsw")
PACKAGES = ("numpy", "onnxruntime", "onnxruntime-gpu", "faiss-cpu", "msgspec", "tritonclient")
_Array = np.ndarray[Any, Any]
ITEMS, USERS, BATCH = 3000, 200, 32


def write(releases: Path) -> None:
    """Write a release of every kind of index."""
    from ensemble.config import Index
    from tests.synthetic import make_release, make_run

    for kind in KINDS:
        run = make_run(releases / kind, "int64", users=USERS, items=ITEMS)
        make_release(run, Index(kind=kind))


def answer(releases: Path, out: Path) -> None:
    """Ask every release for all of its users, one by one and in batches, and write what it answers."""
    from ensemble.serving.files.arrays import read_values
    from ensemble.serving.retriever import Retriever

    made: dict[str, _Array] = {}
    for kind in KINDS:
        retriever = Retriever.load(releases / kind / "release")
        users = np.sort(read_values(retriever.release, "users/user_id", "int64"))[:, None]
        for size in (1, BATCH):
            answers = [_asked(retriever, users[start : start + size]) for start in range(0, len(users), size)]
            for place, name in enumerate(("ids", "scores")):
                made[f"{kind} {size} {name}"] = np.concatenate([one[place] for one in answers])
    np.savez(out, versions=np.array(_versions()), **made)


def _asked(retriever: object, users: _Array) -> tuple[_Array, _Array]:
    found = retriever.answer(retriever.reader.read([{"user_id": users}]))  # type: ignore[attr-defined]
    return found.item_id, found.score


def _versions() -> str:
    found = [f"Python {platform.python_version()}"]
    for name in PACKAGES:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return ", ".join(found)


def compare(folder: Path) -> int:
    """Print what differs between readers of one writer's releases; return how much does."""
    held: dict[str, dict[str, _Array]] = {}
    for path in sorted(folder.glob("*.npz")):
        with np.load(path, allow_pickle=False) as content:
            held[path.stem] = {name: content[name] for name in content.files}
    differ = 0
    for writer in sorted({name.split("-of-")[1] for name in held}):
        readers = [name for name in held if name.endswith(f"-of-{writer}")]
        first = held[readers[0]]
        for reader in readers:
            lines = [
                _difference(name, first[name], found) for name, found in held[reader].items() if name != "versions"
            ]
            differ += len(wrong := list(filter(None, lines)))
            sys.stdout.write(f"{reader} ({held[reader]['versions']}): {'; '.join(wrong) or 'the same, bit for bit'}\n")
    return differ


def _difference(name: str, first: _Array, found: _Array) -> str:
    if first.shape == found.shape and first.tobytes() == found.tobytes():
        return ""
    if first.shape != found.shape:
        return f"{name}: {found.shape}, expected {first.shape}"
    if first.dtype.kind != "f":
        return f"{name}: {np.count_nonzero(first != found)} of {first.size} differ"
    return f"{name}: {np.count_nonzero(first != found)} of {first.size} differ, by {np.abs(first - found).max():.2g}"


def main(action: str, *places: str) -> int:
    """Do what the command line says."""
    paths = [Path(one) for one in places]
    if action == "write":
        write(*paths)
    elif action == "answer":
        answer(*paths)
    else:
        return int(bool(compare(*paths)))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
