"""Combinations of versions that are known not to work together, each with what goes wrong and what to do."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

Version = tuple[int, ...]


class Finding(NamedTuple):
    """Something that will not work (error), works badly (warning), or is worth knowing (note)."""

    severity: str
    where: str
    what: str
    remedy: str


class Bad(NamedTuple):
    """Versions of a package that are wrong, from `least` on and below `below`."""

    package: str
    least: str
    below: str
    severity: str
    what: str
    remedy: str
    beside: str = ""
    """Only where this one is installed, too."""


_LOCKED = "`pip install --require-hashes -r requirements/lock.txt`, or `make setup`"
_SERVE = "`pip install --require-hashes -r requirements/serve.txt` there"

TRAINING = (
    Bad("numpy", "2", "", "error", "TensorFlow 2.12 and Merlin are built for NumPy 1", _LOCKED),
    Bad(
        "tensorflow", "2.13", "", "error", "merlin-models 23.12 does not import with TensorFlow 2.13 or later", _LOCKED
    ),
    Bad("tensorflow-cpu", "2.13", "", "error", "merlin-models 23.12 does not import with it", _LOCKED),
    Bad("pandas", "2", "", "error", "lists are corrupted in silence: every token becomes an unknown one", _LOCKED),
    Bad("tensorflow-metadata", "1.17.4", "", "error", "imports, then breaks `Dataset.to_parquet`", _LOCKED),
    Bad("protobuf", "5", "", "error", "TensorFlow 2.12 and its metadata want protobuf 4", _LOCKED),
    Bad("protobuf", "", "4", "warning", "onnx 1.17 wants protobuf 4", _LOCKED),
    Bad("dask-cuda", "24.4", "", "error", "needs a package that cannot be downloaded", _LOCKED),
    Bad("pyarrow", "16", "", "warning", "may want NumPy 2", _LOCKED),
    Bad("setuptools", "81", "", "error", "has no pkg_resources, which Merlin's dependencies import", _LOCKED),
    Bad("typing-extensions", "4.6", "", "warning", "outside what TensorFlow 2.12 asks for", _LOCKED, "tensorflow-cpu"),
    Bad(
        "pydantic",
        "2",
        "",
        "warning",
        "cannot live beside TensorFlow 2.12's typing-extensions",
        _LOCKED,
        "tensorflow-cpu",
    ),
    Bad("onnx", "1.18", "", "warning", "tf2onnx 1.17 was not tried with it", _LOCKED, "tf2onnx"),
    Bad("numba", "0.61", "", "warning", "wants a NumPy that is too new for Merlin", _LOCKED),
    Bad("tritonclient", "", "2.51", "error", "lacks calls that the client makes", _LOCKED),
)
SERVING = (
    Bad("numpy", "", "1.22", "error", "too old for the models", _SERVE),
    Bad("onnxruntime", "", "1.16", "error", "too old for the query tower", _SERVE),
    Bad("faiss-cpu", "", "1.7.2", "error", "too old for the indexes", _SERVE),
)
NEEDED = ("nvtabular", "merlin-core", "merlin-models", "merlin-systems", "tf2onnx", "onnx", "pyarrow", "pandas", "dask")
"""What training cannot do without, besides a TensorFlow."""
SAFE_RELEASE = "26.07"
"""The first Triton release without a known hole that matters to us; docs/security.md has the list."""
KEY_HOLDS = "26.05"
"""Before it the restriction of Triton's endpoints can be got round."""


def version_of(text: str) -> Version:
    """Return the numbers that a version begins with: `1.8.0.post1` is (1, 8, 0)."""
    numbers = re.match(r"\d+(?:\.\d+)*", text)
    return tuple(map(int, numbers[0].split("."))) if numbers else ()


def wrong(rules: tuple[Bad, ...], installed: Mapping[str, str], where: str) -> Iterator[Finding]:
    """Yield what is known to be wrong with the packages, by name, of an environment."""
    for rule in rules:
        version = installed.get(rule.package)
        if version is None or (rule.beside and rule.beside not in installed):
            continue
        if version_of(version) >= version_of(rule.least or "0") and (
            not rule.below or version_of(version) < version_of(rule.below)
        ):
            yield Finding(rule.severity, where, f"{rule.package} {version}: {rule.what}", rule.remedy)


def holes(release: str) -> Iterator[Finding]:
    """Yield what is known of a Triton release, such as 25.07."""
    if not version_of(release):
        return
    remedy = f"serve with an image of {SAFE_RELEASE} or later (containers/versions.env); docs/security.md has the list"
    if version_of(release) < version_of(KEY_HOLDS):
        what = (
            f"Triton {release}: anyone who reaches its port gets round the key of its commands (CVE-2026-24207, -47481)"
        )
        yield Finding("warning", "triton", what, f"let nobody else reach it, or {remedy}")
    elif version_of(release) < version_of(SAFE_RELEASE):
        yield Finding("warning", "triton", f"Triton {release}: has known holes", remedy)
