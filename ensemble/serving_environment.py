"""What the interpreter that runs the models has."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

_ASK = """
import importlib.metadata as m, json, sys
names = ("numpy", "onnxruntime", "onnxruntime-gpu", "faiss-cpu", "faiss-gpu", "faiss-gpu-cu12")
found = {}
for name in names:
    try:
        found[name] = m.version(name)
    except m.PackageNotFoundError:
        pass
print(json.dumps({"python": "%d.%d.%d" % sys.version_info[:3], "packages": found}))
"""


def serving_packages(python: Path) -> tuple[str, dict[str, str]]:
    """Return version and packages of an interpreter; both empty where it does not run."""
    try:
        asked = subprocess.run([python, "-c", _ASK], capture_output=True, text=True, timeout=60, check=True)
        found = json.loads(asked.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return "", {}
    return found["python"], found["packages"]
