"""Triton's log: the causes of a failure in it, and its lines as JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

from ensemble.supervision.events import now

_LINE = re.compile(r"([IWEF])\d{4} [\d:.]+ \d+ ([\w.]+:\d+)\] (.*)")
_LEVELS = {"I": "info", "W": "warning", "E": "error", "F": "fatal"}
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


def as_json(line: str) -> str:
    """Convert a line of Triton's log to a JSON object with `time`, `level`, `source` and `message`.

    A message that is JSON itself, as the models log it (`ensemble/serving/triton/metrics.py`), contributes its own
    fields. The result is ASCII; everything else is escaped.
    """
    match = _LINE.fullmatch(line)
    if match is None:
        return json.dumps({"time": now(), "level": "info", "source": "triton", "message": line})
    level, source, text = match.groups()
    return json.dumps({"time": now(), "level": _LEVELS[level], "source": source, **_content(text)})


def _content(text: str) -> dict[str, Any]:
    """Return the fields of a message, which Triton writes as a JSON string."""
    try:
        message = json.loads(text)
        inner = json.loads(message) if isinstance(message, str) and message.startswith("{") else None
    except ValueError:
        return {"message": text}
    return inner if isinstance(inner, dict) else {"message": message}
