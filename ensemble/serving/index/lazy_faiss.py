"""Imports FAISS at its first use, so that a release without an approximate index starts sooner.

`importlib.util.LazyLoader` does not help: Triton's `Logger` finds its caller by `inspect`, which touches each module in
`sys.modules`, and so would load it.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any


class _Faiss:
    def __getattr__(self, name: str) -> Any:
        value = getattr(import_module("faiss"), name)
        setattr(self, name, value)
        return value


faiss: Any = _Faiss()
