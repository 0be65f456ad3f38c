"""Versions of the models in a Triton model repository: code, release and configuration, nothing of this project."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import ensemble.serving
from ensemble.layouts import CHAINED, CONFIG, FUSED, SEARCH, TOWER, TRANSFORM
from ensemble.model_config import model_configs
from ensemble.serving.release import Release

_CLASSES = {
    FUSED: "model.FusedModel",
    TRANSFORM: "model_steps.TransformModel",
    TOWER: "model_steps.TowerModel",
    SEARCH: "model_steps.SearchModel",
}
_ENTRY = '''"""The entry that Triton looks for; the code is in `serving/`, the data in `release/`."""

from .serving.{module} import {name} as TritonPythonModel

__all__ = ["TritonPythonModel"]
'''


def write_version(release: Release, repository: Path, models: Iterable[str], version: int) -> None:
    """Write a version of each of the models: code, release and the configuration with which it is served.

    The bytes of the release are there once: each model's are hard links to them where the file system has links.
    """
    configs = model_configs(release, models, version)
    source = release.path
    for name, config in configs.items():
        directory = repository / name / str(version)
        directory.mkdir(parents=True)
        (directory / CONFIG).write_text(config, encoding="utf-8")
        if name == CHAINED or 'backend: "python"' not in config:
            if name == TOWER:
                shutil.copyfile(release.path / "towers/query.onnx", directory / "model.onnx")
            continue
        # Copied from outside, for what happens to the run must not happen to the server; linked from there on.
        inside = repository in source.parents
        shutil.copytree(source, directory / "release", copy_function=_link_or_copy if inside else _copy)
        source = directory / "release"
        _write_code(name, directory)


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without links
        _copy(source, target)


def _copy(source: str, target: str) -> None:
    shutil.copyfile(source, target)


def _write_code(model: str, directory: Path) -> None:
    code = directory / "serving"
    code.mkdir()
    for source in sorted(Path(ensemble.serving.__file__).parent.glob("*.py")):
        shutil.copyfile(source, code / source.name)
    module, name = _CLASSES[model].split(".")
    (directory / "model.py").write_text(_ENTRY.format(module=module, name=name), encoding="utf-8")
