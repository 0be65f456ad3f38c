"""FAISS, imported when first used: a release without an approximate index never does, and starts sooner by it."""

from __future__ import annotations

import importlib.util
import sys
from typing import Any


def _later(name: str) -> Any:
    """Return a module that runs at the first look at it (https://docs.python.org/3/library/importlib.html)."""
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.find_spec(name)
    if spec is None or spec.loader is None:
        raise ImportError(f"no module named {name!r}: install requirements/serve.txt")
    spec.loader = importlib.util.LazyLoader(spec.loader)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


faiss = _later("faiss")
