"""The typed client of a served model: `RetrievalClient`, for asyncio `AsyncRetrievalClient`, over TLS `ClientTls`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ensemble.client.aio import AsyncRetrievalClient
    from ensemble.client.client import RetrievalClient
    from ensemble.client.retry import DeadlineExceeded, Unavailable
    from ensemble.client.tensors import ClientError, InvalidRequest, Recommendations
    from ensemble.client.tls import ClientTls

__all__ = [
    "AsyncRetrievalClient",
    "ClientError",
    "ClientTls",
    "DeadlineExceeded",
    "InvalidRequest",
    "Recommendations",
    "RetrievalClient",
    "Unavailable",
]

_MODULES = {
    "AsyncRetrievalClient": "aio",
    "ClientTls": "tls",
    "DeadlineExceeded": "retry",
    "RetrievalClient": "client",
    "Unavailable": "retry",
}


def __getattr__(name: str) -> object:
    """Import a public name at its first use: `ensemble.client.tls` alone needs no gRPC."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES.get(name, 'tensors')}"), name)
