"""The tools lie beside the tests; importlib mode does not look there."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
