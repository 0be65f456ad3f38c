"""How the code is laid out: files and lines of every folder, the longest function, and what an addition touches.

    .venv/bin/python -m benchmarks.pages.layout

Lines are all lines of the Python files of HEAD; `before` are those of the commit before the layout of today. What an
addition touches is counted from the diffs in docs/extending.md. Results: benchmarks/results/layout.json.
"""

from __future__ import annotations

import ast
import re
import subprocess
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

from benchmarks.harness import ROOT, Parser, write

BEFORE = "892e14f"
PACKAGES = ("workflows", "models", "ensemble", "retrieval")
COUNTED = (*PACKAGES, "benchmarks", "tests")


def main() -> None:
    """Measure both commits and write what they have."""
    options = Parser(__doc__, "layout").options()
    after = sources("HEAD")
    before = {} if options.quick else sources(BEFORE)
    lines = {name: {"before": total(before, name), "after": total(after, name)} for name in COUNTED}
    write(
        options.out, {"folders": folders(after), "fullest": fullest(after), "lines": lines, "touched": dict(touched())}
    )


def sources(revision: str) -> dict[str, str]:
    """Return the text of every Python file of a commit, by its path."""
    names = _git("ls-tree", "-r", "--name-only", revision, *(f"{name}/" for name in COUNTED)).splitlines()
    return {name: _git("show", f"{revision}:{name}") for name in names if name.endswith(".py")}


def total(texts: dict[str, str], package: str) -> int:
    """Return the lines of a package."""
    return sum(len(text.splitlines()) for name, text in texts.items() if name.startswith(f"{package}/"))


def folders(texts: dict[str, str]) -> list[dict[str, Any]]:
    """Return files, lines and the longest function of every folder of the packages."""
    inside: dict[str, list[str]] = defaultdict(list)
    for name in texts:
        if name.split("/")[0] in PACKAGES:
            inside[name.rpartition("/")[0]].append(name)
    measured = []
    for folder, names in sorted(inside.items()):
        lines, function = max(longest(texts[name]) for name in names)
        count = sum(len(texts[name].splitlines()) for name in names)
        measured.append(
            {"folder": folder, "files": len(names), "lines": count, "longest": function, "longest_lines": lines}
        )
    return measured


def fullest(texts: Iterable[str]) -> dict[str, Any]:
    """Return the folder with the most Python files, those of the benchmarks and tests included."""
    [(folder, files)] = Counter(name.rpartition("/")[0] for name in texts).most_common(1)
    return {"folder": folder, "files": files}


def longest(text: str) -> tuple[int, str]:
    """Return the lines of the longest function, without its docstring, and its name."""
    lengths = [(0, "")]
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            first = node.body[0]
            documented = ast.get_docstring(node) is not None
            docstring = (first.end_lineno or 0) - first.lineno + 1 if documented else 0
            lengths.append(((node.end_lineno or 0) - node.lineno + 1 - docstring, node.name))
    return max(lengths)


def touched() -> Iterator[tuple[str, list[str]]]:
    """Yield each addition that docs/extending.md shows, and the files that its diffs touch."""
    page = ROOT / "docs" / "extending.md"
    for section in re.split(r"^## ", page.read_text("utf-8"), flags=re.MULTILINE)[1:] if page.exists() else []:
        files = re.findall(r"^\+\+\+ b/(\S+)", section, flags=re.MULTILINE)
        if files:
            yield section.splitlines()[0], sorted(set(files))


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    main()
