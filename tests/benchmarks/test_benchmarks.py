"""The benchmarks: `make benchmarks-smoke` runs them all, and the pages quote what they wrote."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmarks import smoke

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def test_every_file_that_can_be_run_is_run_for_seconds_in_ci() -> None:
    """With `--quick` each is short, and leaves benchmarks/results/ alone, which smoke.py looks at."""
    names = [path.stem for path in BENCHMARKS.rglob("*.py") if path.stem != "__init__"]
    assert len(names) == len(set(names)), "smoke.py knows a file by its name alone"
    assert set(smoke.TOOLS) <= set(names)
    assert not set(smoke.ARGUMENTS) - set(smoke.benchmarks())
    texts = {name: path.read_text("utf-8") for name, path in smoke.benchmarks().items()}
    long = [name for name, text in texts.items() if "Parser(__doc__, " not in text and '"--quick"' not in text]
    assert not long, f"{long}: take --quick, which harness.Parser has, or be named in smoke.TOOLS"
    assert "benchmarks.smoke" in (BENCHMARKS.parent / "Makefile").read_text("utf-8")
    assert "benchmarks-smoke" in (BENCHMARKS.parent / ".ci" / "run").read_text("utf-8")


def test_help_of_a_benchmark_that_trains_nothing_does_not_wait_for_tensorflow() -> None:
    code = "import sys, benchmarks.serving.worst_requests; print('tensorflow' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=BENCHMARKS.parent, capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"


def test_the_pages_quote_the_results() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.pages.readme", "--check"],
        cwd=BENCHMARKS.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
