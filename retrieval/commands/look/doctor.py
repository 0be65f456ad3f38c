"""`retrieval doctor`: what this machine has to train and serve with, what will not work, and the remedy."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from importlib.metadata import distributions
from pathlib import Path

import typer
from rich.table import Column, Table
from rich.text import Text

from retrieval.console import Terminal, command
from retrieval.options import Python, Triton
from retrieval.runs.version_rules import NEEDED, SERVING, TRAINING, Finding, holes, wrong
from workflows.errors import RetrievalError

_STYLES = {"error": "bold red", "warning": "yellow", "note": "dim"}
_SHOWN = (
    "numpy", "pandas", "pyarrow", "protobuf", "dask", "nvtabular", "merlin-models", "merlin-systems", "tensorflow",
    "tensorflow-cpu", "onnx", "tf2onnx", "tritonclient", "nvidia-pytriton",
)  # fmt: skip
_LEAST_SHM, _LEAST_DISK, _LEAST_FILES = 256 << 20, 2 << 30, 1024
_WHEEL_RELEASE = {"0.7.0": "24.10"}
"""Triton's release in each version of the nvidia-pytriton wheel."""

Facts = dict[str, dict[str, str]]
"""Name and value of what was found, by area."""


@command
def doctor(out: Terminal, triton: Triton = None, python: Python = None) -> None:
    """Look at this machine's environments, GPU and Triton, and say what will not work and what to do.

    Exit code 2 where an error was found: something will fail, or answer wrongly. Warnings and notes leave it 0.

    \b
    retrieval doctor
    retrieval doctor --python .venv-serve/bin/python --triton /opt/tritonserver --json
    """
    facts, findings = examine(triton, python)
    counts = Counter(finding.severity for finding in findings)
    listed = [findings_table(findings)] if findings else []
    summary = ", ".join(f"{counts[severity]} {severity}{'s' * (counts[severity] != 1)}" for severity in _STYLES)
    result = {"facts": facts, "findings": [finding._asdict() for finding in findings], "counts": counts}
    out.result(result, facts_table(facts), *listed, summary)
    if counts["error"]:
        raise typer.Exit(RetrievalError.exit_code)


def examine(triton: Path | None = None, python: Path | None = None) -> tuple[Facts, list[Finding]]:
    """Return what there is, and what is to be said of it, the worst first."""
    facts: Facts = {area: {} for area in ("machine", "training", "serving", "gpu")}
    findings = [
        *_machine(facts["machine"]),
        *_training(facts["training"]),
        *_serving(facts["serving"], triton, python),
        *_gpu(facts["gpu"]),
    ]
    return facts, sorted(findings, key=lambda finding: list(_STYLES).index(finding.severity))


def _machine(figures: dict[str, str]) -> Iterator[Finding]:
    import resource

    import psutil

    from ensemble.triton.find import cache_directory

    figures["system"] = f"{platform.system()} {platform.release()}, {platform.machine()}"
    figures["cores"] = str(len(os.sched_getaffinity(0)))
    figures["memory"] = f"{psutil.virtual_memory().total / 1e9:.1f} GB"
    cache = cache_directory()
    place = next(path for path in (cache, *cache.parents) if path.exists())
    figures["cache"] = f"{cache}, {shutil.disk_usage(place).free / 1e9:.1f} GB free"
    if not os.access(place, os.W_OK):
        yield Finding("error", "machine", f"{cache}: cannot be written", "set RETRIEVAL_CACHE to a directory of yours")
    elif shutil.disk_usage(place).free < _LEAST_DISK:
        yield Finding("warning", "machine", f"{place}: little space", "make room, or set RETRIEVAL_CACHE elsewhere")
    shared = Path("/dev/shm")
    if shared.is_dir():
        free = shutil.disk_usage(shared).free
        figures["/dev/shm"] = f"{free / 1e6:.0f} MB free"
        if free < _LEAST_SHM:
            what = f"/dev/shm: {free / 1e6:.0f} MB, through which Triton and its models pass requests and answers"
            yield Finding("warning", "machine", what, "docker run --shm-size=1g, or a larger tmpfs")
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if 0 <= files < _LEAST_FILES:
        yield Finding("warning", "machine", f"{files} open files at most; each connection is one", "ulimit -n 65536")


def _training(figures: dict[str, str]) -> Iterator[Finding]:
    installed = _installed()
    figures["python"] = f"{platform.python_version()}, {sys.executable}"
    figures["packages"] = ", ".join(f"{name} {installed[name]}" for name in _SHOWN if name in installed)
    missing = [name for name in NEEDED if name not in installed]
    if not {"tensorflow", "tensorflow-cpu"} & installed.keys():
        missing.append("tensorflow")
    if missing:
        what = f"no {', '.join(missing)}: this environment can ask and serve, and not train"
        yield Finding("note", "training", what, "`make setup`, or the image of containers/train.Dockerfile")
    elif sys.version_info >= (3, 12):
        what = f"Python {platform.python_version()}: Merlin 23 and TensorFlow 2.12 end with 3.11"
        yield Finding("error", "training", what, "train with Python 3.10 or 3.11")
    yield from wrong(TRAINING, installed, "training")


def _installed() -> dict[str, str]:
    return {str(package.metadata["Name"]).lower().replace("_", "-"): package.version for package in distributions()}


def _serving(figures: dict[str, str], triton: Path | None, python: Path | None) -> Iterator[Finding]:
    from ensemble.server.endpoints import admin_key
    from ensemble.triton.find import default_python, find_triton, inspect_python, serving_packages
    from workflows.errors import ServerError

    executable = python or default_python()
    version, packages = serving_packages(executable)
    figures["python"] = f"{version or 'does not run'}, {executable}"
    figures["packages"] = ", ".join(f"{name} {version}" for name, version in packages.items())
    yield from wrong(SERVING, packages, "serving")
    try:
        admin_key()
        located = find_triton(triton, inspect_python(executable))
    except ServerError as error:
        what, _, remedy = str(error).rpartition("; ")
        yield Finding("error", "serving", what or remedy, remedy if what else "see docs/serving.md")
        return
    release = _release_of(located.server, located.from_wheel)
    figures["triton"] = f"{release or 'of an unknown release'}, {located.server}"
    yield from holes(release)
    if located.from_wheel:
        what = "Triton of the nvidia-pytriton wheel: has no backend but python's, and no updates"
        yield Finding("note", "serving", what, "for development; serve others from an image (containers/)")
    if "onnxruntime-gpu" in packages and "onnxruntime" in packages:
        what = "onnxruntime and onnxruntime-gpu are one package's files twice: which one is imported is chance"
        yield Finding("error", "serving", what, f"{executable} -m pip uninstall onnxruntime")


def _release_of(server: Path, from_wheel: bool) -> str:
    """Return Triton's release, such as 25.07; empty where nothing tells it."""
    if from_wheel:
        from importlib.metadata import version

        return _WHEEL_RELEASE.get(version("nvidia-pytriton"), "")
    inside = Path("/opt/tritonserver") in server.parents
    return os.environ.get("NVIDIA_TRITON_SERVER_VERSION", "") if inside else ""


def _gpu(figures: dict[str, str]) -> Iterator[Finding]:
    from ensemble.server.environment import child_environment, on_path

    tool = on_path("nvidia-smi")
    if tool is None:
        figures["gpus"] = "none"
        return
    query = "--query-gpu=name,memory.total,driver_version"
    try:
        listed = subprocess.run(
            [tool, query, "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
            cwd="/",
            env=child_environment(),
        )
    except (OSError, subprocess.SubprocessError) as error:
        figures["gpus"] = "none"
        yield Finding("warning", "gpu", f"nvidia-smi is there and fails: {error}", "look at the driver")
        return
    figures["gpus"] = "; ".join(listed.stdout.strip().splitlines())
    if "tensorflow-cpu" in _installed():
        remedy = "train in the image of containers/train.Dockerfile"
        yield Finding("note", "gpu", "TensorFlow here is the one without GPU support", remedy)


def facts_table(facts: Facts) -> Table:
    """Return what there is."""
    table = Table(Column(no_wrap=True), Column(no_wrap=True), Column(overflow="fold"), show_header=False)
    for area, area_facts in facts.items():
        table.add_section()
        for row, (name, value) in enumerate(area_facts.items()):
            table.add_row("" if row else area, name, value)
    return table


def findings_table(findings: list[Finding]) -> Table:
    """Return what is to be said, the worst first."""
    table = Table("", "where", "what, and what to do", show_lines=True)
    for finding in findings:
        what = Text(f"{finding.what}\n")
        what.append(f"→ {finding.remedy}", style="italic")
        table.add_row(Text(finding.severity, style=_STYLES[finding.severity]), finding.where, what)
    return table
