"""The pages: they build without a broken link, and what they tell people to type is what the program takes and does."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.main import get_command

from ensemble.server.ports import free_ports
from retrieval.cli import app
from tests.containers.tools import ROOT, tool

DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", flags=re.MULTILINE | re.DOTALL)
ADDRESS = "127.0.0.1:8001"
TROUBLE = re.compile(r"<!-- (run|ask|in): (.*?) -->\n```text\n(.*?)\n```", flags=re.DOTALL)
"""What provokes an error (`run`; `ask`: of a running server) or which files have its words (`in`), and the error."""


def blocks(page: Path, *languages: str) -> list[str]:
    """Return the blocks of a page in these languages."""
    return [text for language, text in BLOCK.findall(page.read_text(encoding="utf-8")) if language in languages]


def commands(page: Path, *languages: str) -> list[str]:
    """Return the lines of a page's blocks, continued lines joined, comments and redirections left out."""
    lines = [line for text in blocks(page, *languages) for line in text.replace("\\\n", " ").splitlines()]
    return [line for line in (re.sub(r"\s#\s.*", "", raw).strip().removeprefix("$ ") for raw in lines) if line]


def refused(line: str) -> str:
    """Return what the program has against a command line; empty where it takes it. Nothing is run."""
    words = shlex.split(re.sub(r"\s[<>|&]+\s.*", "", line))[1:]
    try:
        parsed = get_command(app).make_context("retrieval", words)
        while hasattr(parsed.command, "resolve_command"):
            left = [*parsed._protected_args, *parsed.args]
            name, command, rest = parsed.command.resolve_command(parsed, left)
            parsed = command.make_context(name, rest, parent=parsed)
    except Exception as error:
        return str(error)
    return ""


def test_the_site_builds_and_no_link_is_broken(tmp_path: Path) -> None:
    done = tool("mkdocs", "build", "--strict", "--quiet", "--site-dir", tmp_path / "site", cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "site" / "index.html").is_file()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_program_takes_what_the_page_tells_to_type(page: Path) -> None:
    lines = [line for line in commands(page, "", "bash", "console") if line.startswith("retrieval ")]
    assert [f"{line}: {what}" for line in lines if (what := refused(line))] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_make_has_the_targets_that_the_page_names(page: Path) -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    named = re.findall(r"(?:^|`)make ([\w-]+)", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert set(named) <= targets


def troubles(kind: str) -> list[tuple[str, str]]:
    """Return the entries of a kind: what provokes the error, and the error."""
    entries = TROUBLE.findall((DOCS / "troubleshooting.md").read_text(encoding="utf-8"))
    assert entries
    return [(what, error) for label, what, error in entries if label == kind]


def told(error: str, text: str) -> bool:
    """Return whether a text has an error's words, however its lines are broken; "..." stands for anything."""
    parts = [re.escape(" ".join(part.split())).replace(r"\ ", r"[\s│]+") for part in error.split("...")]
    return re.search(".*?".join(parts), text, flags=re.DOTALL) is not None


class Shell:
    """Runs the lines of a page in a directory; one process for all `retrieval` commands."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.log = directory, directory / "session.log"
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "160"}
        command = [sys.executable, Path(__file__).with_name("session.py")]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        with self.log.open("w") as log:
            self._process = subprocess.Popen(command, cwd=directory, env=environment, stderr=log, text=True, **pipes)

    def run(self, line: str, *more: str, code: int = 0) -> str:
        """Run a line, its `retrieval` commands with `more` options, and return what they printed."""
        before = self.log.stat().st_size
        for part in re.split(r"; (?=retrieval )", line):
            words = shlex.split(part)
            if words[0] != "retrieval":
                subprocess.run(part, shell=True, cwd=self.directory, check=True)
                continue
            self._process.stdin.write(json.dumps([*words[1:], *more]) + "\n")
            self._process.stdin.flush()
            assert int(self._process.stdout.readline()) == code, f"{line}\n{self.log.read_text()[-3000:]}"
        return self.log.read_bytes()[before:].decode()

    def close(self) -> None:
        self._process.communicate(timeout=60)


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """A directory like a checkout with the example shop, in which the tutorial's first part has been done."""
    directory = tmp_path_factory.mktemp("shop")
    (directory / "recipes").mkdir()
    shutil.copytree(ROOT / "recipes" / "shop", directory / "recipes" / "shop")
    shell = Shell(directory)
    for line in before_serving():
        shell.run(line)
        if line.startswith("retrieval init"):  # an epoch or two are enough
            recipe = (directory / "shop.toml").read_text(encoding="utf-8")
            (directory / "shop.toml").write_text(recipe.replace("epochs = 30", "epochs = 2"), encoding="utf-8")
    yield shell
    shell.close()


def before_serving() -> list[str]:
    lines = commands(DOCS / "tutorial.md", "bash")
    return lines[: lines.index("retrieval serve releases")]


def after_serving() -> tuple[list[str], list[str]]:
    """Return the tutorial's commands that ask the server, and those that come later."""
    lines = commands(DOCS / "tutorial.md", "bash")[len(before_serving()) + 1 :]
    asking = [line for line in lines if shlex.split(line)[1] in ("query", "health", "status")]
    return asking, [line for line in lines if line not in asking]


@contextmanager
def serving(words: list[str], directory: Path) -> Iterator[str]:
    """Run `retrieval serve` on free ports inside the block, and yield its address."""
    grpc_port, metrics_port = free_ports("127.0.0.1", 2)
    ports = ["--grpc-port", str(grpc_port), "--metrics-port", str(metrics_port)]
    command = [sys.executable, "-m", "retrieval", *words, *ports]
    with (
        (directory / "serve.log").open("w") as log,
        subprocess.Popen(command, cwd=directory, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        try:
            while str(grpc_port) not in (line := process.stdout.readline()):
                assert line, (directory / "serve.log").read_text()
            yield f"127.0.0.1:{grpc_port}"
        finally:
            process.terminate()
            process.communicate(timeout=60)


@pytest.fixture(scope="module")
def address(shell: Shell) -> Iterator[str]:
    """Where the tutorial's server listens in its second part."""
    with serving(["serve", "releases"], shell.directory) as address:
        yield address


@pytest.mark.server
def test_the_tutorial_asks_its_server(shell: Shell, address: str, capsys: pytest.CaptureFixture[str]) -> None:
    for line in after_serving()[0]:
        # `status releases` finds the server by itself.
        shell.run(line, *([] if line.startswith("retrieval status") else ["--address", address]))
    (python,) = blocks(DOCS / "tutorial.md", "python")
    exec(compile(python.replace(ADDRESS, address), "docs/tutorial.md", "exec"), {})
    assert "SKU-" in capsys.readouterr().out


@pytest.mark.server
def test_servers_answer_what_is_wrong_as_told(shell: Shell, address: str) -> None:
    for line, error in troubles("ask"):
        printed = shell.run(line, "--address", address, code=2)
        assert told(error, printed), f"{error}\n{printed}"


def test_errors_are_as_told(shell: Shell) -> None:
    for line, error in troubles("run"):
        printed = shell.run(line, code=2)
        assert told(error, printed), f"{error}\n{printed}"


def test_errors_that_are_not_provoked_are_in_the_code() -> None:
    for files, error in troubles("in"):
        code = "".join((ROOT / file).read_text(encoding="utf-8") for file in files.split())
        assert told(error, re.sub(r'"\s*\n\s*f?"', "", code)), error


@pytest.mark.server
def test_the_tutorial_goes_over_to_another_release(shell: Shell, address: str) -> None:
    for line in after_serving()[1]:
        shell.run(line.replace(ADDRESS, address))
