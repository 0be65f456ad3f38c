"""The benchmarks: `make benchmarks-smoke` runs them all, and the pages quote what they wrote."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import smoke

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def test_every_file_that_can_be_run_is_run_for_seconds() -> None:
    """With `--quick` each is short, and leaves benchmarks/results/ alone, which smoke.py looks at."""
    assert set(smoke.TOOLS) <= {path.stem for path in BENCHMARKS.glob("*.py")}
    assert not set(smoke.ARGUMENTS) - set(smoke.benchmarks())
    texts = {name: (BENCHMARKS / f"{name}.py").read_text("utf-8") for name in smoke.benchmarks()}
    long = [name for name, text in texts.items() if "Parser(__doc__, " not in text and '"--quick"' not in text]
    assert not long, f"{long}: take --quick, which harness.Parser has, or be named in smoke.TOOLS"
    assert "benchmarks/smoke.py" in (BENCHMARKS.parent / "Makefile").read_text("utf-8")


def test_the_pages_quote_the_results() -> None:
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "readme.py"), "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
