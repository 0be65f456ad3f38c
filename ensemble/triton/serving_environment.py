"""Python and package versions of the interpreter that runs the models."""

from __future__ import annotations

from pathlib import Path

from ensemble.triton.find import ask_python
from workflows.errors import ServerError

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
    """Return the version and the packages of an interpreter; both empty if it does not run."""
    try:
        answer = ask_python(python.absolute(), _ASK)
    except ServerError:
        return "", {}
    return answer["python"], answer["packages"]
