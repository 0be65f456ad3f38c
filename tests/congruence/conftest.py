"""The synthetic runs of `tests/synthetic.py`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # importlib mode does not

from synthetic import dated_run, release, run

__all__ = ["dated_run", "release", "run"]
