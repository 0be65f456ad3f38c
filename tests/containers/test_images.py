"""What can be known of the images where no container engine runs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from tools import CONTAINERS, ROOT, documents, tool, versions

IMAGE = re.compile(r"nvcr\.io/[\w./-]+:[\w.-]+|merlin-retrieval-(?:train|serve):[\w.-]+")


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
    images = {known[name] for name in ("TRAIN_IMAGE", "SERVE_IMAGE", "SDK_IMAGE")}
    images |= {f"merlin-retrieval-{one}:{known['VERSION']}" for one in ("train", "serve")}
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *CONTAINERS.rglob("*")]
    for page in pages:
        if page.is_file():
            assert set(IMAGE.findall(page.read_text(encoding="utf-8"))) <= images, page
    for kustomization in (CONTAINERS / "kubernetes").rglob("kustomization.yaml"):
        (content,) = documents(kustomization.read_text(encoding="utf-8"))
        ours = [one for one in content.get("images", []) if one["name"].startswith("merlin-retrieval-")]
        assert all(one["newTag"] == known["VERSION"] for one in ours), kustomization


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
