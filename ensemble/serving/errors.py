"""The errors of the serving code."""

from __future__ import annotations


class ServingError(Exception):
    """Base of the errors that the serving code raises on purpose."""


class InvalidRequest(ServingError):
    """The request is wrong; the message names column, row, value and what was expected. Triton: INVALID_ARGUMENT."""


class Unavailable(ServingError):
    """A service that the release depends on does not answer. Triton: UNAVAILABLE; the request may succeed later."""


class InvalidRelease(ServingError):
    """The release is damaged, of another format, or its parts do not belong together. The server refuses to load it."""
