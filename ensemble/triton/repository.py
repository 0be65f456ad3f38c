"""Writes versions of the models into a Triton model repository: code, release and configuration."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import ensemble.serving
from ensemble.layouts import CHAINED, CONFIG, FUSED, ONNX, RANK, SEARCH, TOWER, TRANSFORM
from ensemble.onnx_graph.tower import whole_tower
from ensemble.serving.files.onnx_file import check_file
from ensemble.serving.files.release import PAIRED, Release
from ensemble.triton.model_config import model_configs
from ensemble.triton.onnx_config import graph_of, onnx_config

ENTRY = "model.py"
_CLASSES = {
    FUSED: "model.FusedModel",
    TRANSFORM: "model_steps.TransformModel",
    TOWER: "model_steps.TowerModel",
    SEARCH: "model_steps.SearchModel",
    RANK: "model_rank.RankModel",
}
_ENTRY = '''"""The entry that Triton looks for; the code is in `serving/`, the data in `release/`."""

from .serving.triton.{module} import {name} as TritonPythonModel

__all__ = ["TritonPythonModel"]
'''


def write_version(release: Release, repository: Path, models: Sequence[str], version: int) -> None:
    """Write one version of each of the models: code, release and configuration.

    The release is stored once; the models share its files by hard links where the file system has them.
    """
    source = release.path
    for name, files in files_of(release, models, version).items():
        directory = repository / name / str(version)
        for path, content in files.items():
            (directory / path).parent.mkdir(parents=True, exist_ok=True)
            (directory / path).write_bytes(content)
        if ENTRY not in files and name != ONNX:  # whose release is read by nobody but `verify`
            continue
        # Copied from outside, for what happens to the run must not happen to the server; linked from there on.
        inside = repository in source.parents
        shutil.copytree(source, directory / "release", copy_function=_link_or_copy if inside else _copy)
        source = directory / "release"


def files_of(release: Release, models: Sequence[str], version: int) -> dict[str, dict[str, bytes]]:
    """Return the files of one version beside the release: content by path, for each of the models."""
    files = {}
    if ONNX in models:
        graph = graph_of(release)
        files[ONNX] = {CONFIG: onnx_config(release, graph, version).encode(), "model.onnx": graph.SerializeToString()}
    for name, config in model_configs(release, [name for name in models if name != ONNX], version).items():
        files[name] = {CONFIG: config.encode()}
        if name != CHAINED and 'backend: "python"' in config:
            files[name].update(_code(name))
        elif name == TOWER:
            files[name]["model.onnx"] = tower = whole_tower(release).SerializeToString()
            check_file(release.path / PAIRED[0], tower)  # Triton reads it, not our code
    return files


def _code(model: str) -> dict[str, bytes]:
    module, name = _CLASSES[model].split(".")
    root = Path(ensemble.serving.__file__).parent
    return {
        **{f"serving/{path.relative_to(root)}": path.read_bytes() for path in sorted(root.rglob("*.py"))},
        ENTRY: _ENTRY.format(module=module, name=name).encode(),
    }


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without links
        _copy(source, target)


def _copy(source: str, target: str) -> None:
    shutil.copyfile(source, target)
