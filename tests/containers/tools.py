"""The tools that check containers, manifests and pages; `make setup` makes `.venv-tools` of requirements/tools.txt."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
CONTAINERS = ROOT / "containers"
TOOLS = ROOT / ".venv-tools" / "bin"


def tool(name: str, *arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a tool of `.venv-tools`; the caller looks at the exit code."""
    assert (TOOLS / name).exists(), f"{TOOLS / name} is missing; run `make setup`"
    return subprocess.run([TOOLS / name, *map(str, arguments)], capture_output=True, text=True, check=False, **options)


def versions() -> dict[str, str]:
    """Return what containers/versions.env says."""
    lines = (CONTAINERS / "versions.env").read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def documents(text: str) -> list[dict[str, Any]]:
    """Return the objects of a YAML stream."""
    return [one for one in yaml.safe_load_all(text) if one]
