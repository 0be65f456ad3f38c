"""Triton's log as JSON lines."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from ensemble.supervision.events import now

_LINE = re.compile(r"([IWEF])\d{4} [\d:.]+ \d+ ([\w.]+:\d+)\] (.*)")
_LEVELS = {"I": "info", "W": "warning", "E": "error", "F": "fatal"}


def as_json(line: str) -> str:
    """Convert a line of Triton's log to a JSON object with `time`, `level`, `source` and `message`.

    A message that is JSON itself, as the models log it (`ensemble/serving/triton/metrics.py`), contributes its own
    fields. The result is ASCII; everything else is escaped.
    """
    match = _LINE.fullmatch(line)
    if match is None:
        return to_json({"time": now(), "level": "info", "source": "triton", "message": line})
    level, source, text = match.groups()
    return to_json({"time": now(), "level": _LEVELS[level], "source": source, **_content(text)})


def to_json(event: Mapping[str, Any]) -> str:
    """Return an event as JSON on one line."""
    return json.dumps(event)


def _content(text: str) -> dict[str, Any]:
    """Return the fields of a message, which Triton writes as a JSON string."""
    try:
        message = json.loads(text)
        inner = json.loads(message) if isinstance(message, str) and message.startswith("{") else None
    except ValueError:
        return {"message": text}
    return inner if isinstance(inner, dict) else {"message": message}
