"""The pages: they build without a broken link, and what they tell people to type is what the program takes."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from tools import ROOT, tool
from typer.main import get_command

from retrieval.cli import app

DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", flags=re.MULTILINE | re.DOTALL)


def commands(page: Path) -> list[str]:
    """Return the command lines of a page's blocks, continued lines joined, comments and redirections left out."""
    found = []
    for language, text in BLOCK.findall(page.read_text(encoding="utf-8")):
        if language in ("", "bash", "console"):
            lines = text.replace("\\\n", " ").splitlines()
            found += [re.sub(r"\s#\s.*|\s[<>|&]+\s.*", "", line).strip() for line in lines]
    return [line for line in found if line]


def test_the_site_builds_and_no_link_is_broken(tmp_path: Path) -> None:
    done = tool("mkdocs", "build", "--strict", "--quiet", "--site-dir", tmp_path / "site", cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "site" / "index.html").is_file()


@pytest.mark.parametrize("page", PAGES, ids=lambda one: one.name)
def test_the_program_takes_what_the_page_tells_to_type(page: Path) -> None:
    group = get_command(app)
    for line in commands(page):
        if line.startswith("retrieval "):
            words = shlex.split(line)[1:]
            try:
                parsed = group.make_context("retrieval", words)
                while hasattr(parsed.command, "resolve_command"):
                    name, command, rest = parsed.command.resolve_command(
                        parsed, [*parsed._protected_args, *parsed.args]
                    )
                    parsed = command.make_context(name, rest, parent=parsed)
            except Exception as error:
                pytest.fail(f"{page.name}: `{line}`: {error}")


@pytest.mark.parametrize("page", PAGES, ids=lambda one: one.name)
def test_make_has_the_targets_that_the_page_names(page: Path) -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    named = re.findall(r"(?:^|`)make ([\w-]+)", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert set(named) <= targets
