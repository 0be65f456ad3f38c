"""What can be known of the images where no container engine runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ensemble.server.endpoints import Addresses, server_arguments
from ensemble.server.ports import free_ports
from ensemble.server.processes import serving_environment
from ensemble.triton.find import default_python, find_triton, inspect_python
from ensemble.triton.staging import Staging
from tests.containers.tools import CONTAINERS, ROOT, documents, tool, versions
from tests.served import Served

IMAGE = re.compile(r"(?:nvcr\.io/[\w./-]+|envoyproxy/envoy|merlin-retrieval-(?:train|serve)):[\w.-]+")


@pytest.mark.parametrize("name", ["train", "serve"])
def test_the_linter_has_nothing_against_a_dockerfile(name: str) -> None:
    done = tool("hadolint", "--config", CONTAINERS / "hadolint.yaml", CONTAINERS / f"{name}.Dockerfile")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", ["compose.yaml", "compose.gpu.yaml"])
def test_compose_files_are_of_the_compose_specification(name: str) -> None:
    done = tool("check-jsonschema", "--builtin-schema", "vendor.compose-spec", CONTAINERS / name)
    assert done.returncode == 0, done.stdout + done.stderr


def test_images_are_named_in_one_place() -> None:
    known = versions()
    images = {known[name] for name in ("TRAIN_IMAGE", "SERVE_IMAGE", "SDK_IMAGE", "GATEWAY_IMAGE")}
    images |= {f"merlin-retrieval-{image}:{known['VERSION']}" for image in ("train", "serve")}
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *CONTAINERS.rglob("*")]
    for page in pages:
        if page.is_file():
            assert set(IMAGE.findall(page.read_text(encoding="utf-8"))) <= images, page
    for kustomization in (CONTAINERS / "kubernetes").rglob("kustomization.yaml"):
        (content,) = documents(kustomization.read_text(encoding="utf-8"))
        ours = [image for image in content.get("images", []) if image["name"].startswith("merlin-retrieval-")]
        assert all(image["newTag"] == known["VERSION"] for image in ours), kustomization


@pytest.mark.parametrize(
    ("requirements", "python", "options"),
    [
        ("train.in", "3.10", ["--constraint", CONTAINERS / "ngc.txt"]),
        ("serve.txt", "3.12", ["--require-hashes", "--no-deps"]),
    ],
)
def test_what_pip_is_asked_for_is_there(requirements: str, python: str, options: list[object], tmp_path: Path) -> None:
    platform = ["--python-version", python, "--python-platform", "x86_64-manylinux_2_34", "--target", tmp_path]
    command = [sys.executable, "-m", "uv", "pip", "install", "--dry-run", "--only-binary", ":all:", *platform]
    done = subprocess.run(
        [*map(str, [*command, *options]), "-r", str(CONTAINERS / requirements)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_start_gives_triton_the_options_of_retrieval_serve() -> None:
    text = (CONTAINERS / "serve.sh").read_text(encoding="utf-8")
    options = {flag.replace("'*'", "*") for flag in re.findall(r"^    (--[^$]*?)(?: \\)?$", text, flags=re.MULTILINE)}
    place = Addresses("0.0.0.0", 8001, 8000, 8002)
    expected = set(server_arguments(Path("/models"), place, "KEY", exit_timeout_seconds=15))
    guarded = {flag for flag in expected if "KEY" in flag or "/models" in flag}
    # HTTP is for probes from inside alone.
    assert options == expected - guarded - {"--http-address=0.0.0.0"} | {"--http-address=127.0.0.1"}
    (protocols,) = {flag.split("=", 1)[1].replace("KEY", "") for flag in guarded if "KEY" in flag}
    assert f'guarded="{protocols.split(":")[0]}"' in text


@pytest.mark.parametrize("models", ["/data/a b", "models", "/l'été", "/a;b"])
def test_the_start_refuses_a_path_that_triton_would_hand_to_a_shell(models: str) -> None:
    done = subprocess.run(
        [CONTAINERS / "serve.sh"], env={"MODELS": models}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert f"MODELS={models}: expected an absolute path" in done.stderr


@pytest.mark.server
def test_the_start_serves_and_the_probe_tells(served: Served, tmp_path: Path) -> None:
    if served.id_type == "BYTES":
        pytest.skip("once is enough")
    python = inspect_python(default_python())
    triton = find_triton(None, python)
    ports = free_ports("127.0.0.1", 3)
    (tmp_path / "empty").mkdir()
    staging = Staging(served.server.repository, triton, python)
    environment = serving_environment(staging.python, staging.library, 1)
    environment |= {"MODELS": str(staging.models), "EMPTY": str(tmp_path / "empty")}
    environment |= {"RETRIEVAL_METRICS": f"127.0.0.1:{ports[2]}"}
    environment["PATH"] = f"{triton.server.parent}{os.pathsep}{environment['PATH']}"
    options = [f"--{name}-port={port}" for name, port in zip(("grpc", "http", "metrics"), ports, strict=True)]
    start = [CONTAINERS / "serve.sh", *options, f"--backend-directory={staging.backends}"]
    probe = [python.executable, ROOT / "ensemble/serving/triton/canary.py", "--url", f"http://127.0.0.1:{ports[1]}"]
    with subprocess.Popen(start, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        try:
            while (probed := subprocess.run(probe, capture_output=True, text=True)).returncode:
                assert process.poll() is None, process.stdout and process.stdout.read()
            assert "healthy" in probed.stderr
        finally:
            process.terminate()
            process.communicate(timeout=30)
            staging.remove()
    assert subprocess.run(probe, capture_output=True).returncode == 1, "healthy without a server"
