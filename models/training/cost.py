"""What a training took: memory, time and parameters, kept beside the towers in `cost.json`."""

from __future__ import annotations

import re
import resource
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from models.towers.two_tower import TwoTowerModel
from workflows.files import json_bytes

FILE = "cost.json"
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_TABLE = re.compile(r"([^/]+)_embedding/embeddings:0$")


class Meter:
    """Measures from when it is made until `write`."""

    def __init__(self) -> None:
        # What ran before in this process, as the features of `retrieval run`, shall not count.
        reset_peak()
        self._started, self._at_start = time.monotonic(), resident()

    def write(self, model: TwoTowerModel, history: Sequence[Mapping[str, float]], out: Path) -> None:
        """Write `cost.json`; `history` is that of the search, whose first epoch holds the tracing of the graph."""
        seconds = [epoch["seconds"] for epoch in history]
        figures = {
            "peak_rss_bytes": peak(),
            "rss_at_start_bytes": self._at_start,
            "seconds": round(time.monotonic() - self._started, 2),
            "seconds_per_epoch": statistics.median(seconds[1:] or seconds or [0.0]),
            "parameters": parameters(model),
        }
        (out / FILE).write_bytes(json_bytes(figures))


def parameters(model: TwoTowerModel) -> dict[str, dict[str, int]]:
    """Return how many numbers are trained in each tower, `query` and `item`: by table, and in its `layers`."""
    sizes = {}
    for side, tower in (("query", model.query_encoder), ("item", model.candidate_encoder)):
        counts: dict[str, int] = {}
        for variable in tower.trainable_variables:
            table = _TABLE.search(variable.name)
            name = table.group(1) if table else "layers"
            counts[name] = counts.get(name, 0) + int(variable.shape.num_elements())
        sizes[side] = counts
    return sizes


def resident() -> int:
    """Return the memory of this process that is in RAM, bytes; 0 where the system does not say."""
    return _status("VmRSS")


def peak() -> int:
    """Return the most that was in RAM at once since `reset_peak`, bytes; where the system cannot be told to forget what
    was before, since the process began."""
    return _status("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def reset_peak() -> None:
    """Let `peak` begin again, where the system can."""
    try:
        _CLEAR.write_text("5")  # proc(5)
    except OSError:
        return


def _status(key: str) -> int:
    try:
        line: Any = re.search(rf"^{key}:\s+(\d+) kB", _STATUS.read_text(), re.MULTILINE)
    except OSError:
        return 0
    return int(line.group(1)) * 1024 if line else 0
