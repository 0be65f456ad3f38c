"""FAISS, imported when first used: a release without an approximate index never does, and starts sooner by it.

Not by `importlib.util.LazyLoader`: Triton's `Logger` finds out who logs by `inspect`, which looks at each module of
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
