"""Reads the causes of a failure from Triton's log."""

from __future__ import annotations

from collections.abc import Iterable

_NO_GPU = ("CudaDriverHelper", "CUDA driver version is insufficient")
"""What Triton calls an error on every machine without one."""


def reasons(log: Iterable[str]) -> str:
    """Return the errors in a log, each once and without its source location; otherwise the last lines."""
    lines = list(log)
    errors: list[str] = []
    for line in lines:
        if not line.startswith(("E", "error:")) or any(reason in line for reason in _NO_GPU):
            continue
        # The model's own message, without where in the log, in Triton and in Python it came up.
        text = line.split("] ", 1)[-1].strip('"').split("\\n\\nAt:", 1)[0]
        text = text.split("Failed to create instance: ", 1)[-1]
        if not any(text in known or known in text for known in errors):
            errors.append(text)
    return "; ".join(errors[:3] or lines[-5:]) or "its log is empty"


def printable(line: str) -> str:
    """Return a line with control characters and line separators escaped."""
    if line.isprintable():
        return line
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode("ascii") for sign in line)
