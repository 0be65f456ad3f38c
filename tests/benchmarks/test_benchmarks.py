"""The benchmarks: `make benchmarks-smoke` runs them all, and the pages quote what they wrote."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import smoke

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def test_every_file_that_can_be_run_is_run_for_seconds_in_ci() -> None:
    """With `--quick` each is short, and leaves benchmarks/results/ alone, which smoke.py looks at."""
    assert set(smoke.TOOLS) <= {path.stem for path in BENCHMARKS.glob("*.py")}
    assert not set(smoke.ARGUMENTS) - set(smoke.benchmarks())
    texts = {name: (BENCHMARKS / f"{name}.py").read_text("utf-8") for name in smoke.benchmarks()}
    long = [name for name, text in texts.items() if "Parser(__doc__, " not in text and '"--quick"' not in text]
    assert not long, f"{long}: take --quick, which harness.Parser has, or be named in smoke.TOOLS"
    assert "benchmarks/smoke.py" in (BENCHMARKS.parent / "Makefile").read_text("utf-8")
    assert "benchmarks-smoke" in (BENCHMARKS.parent / ".ci" / "run").read_text("utf-8")


def test_help_of_a_benchmark_that_trains_nothing_does_not_wait_for_tensorflow() -> None:
    code = "import sys; sys.path.append('benchmarks'); import worst_requests; print('tensorflow' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=BENCHMARKS.parent, capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"


def test_the_pages_quote_the_results() -> None:
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "readme.py"), "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
