"""Parts of a time; the functions of `workflows/operators/times.py`."""

from __future__ import annotations

import numpy as np

PARTS = {"hour": 24, "weekday": 7, "month": 12}
"""How many of each there are."""
DAY = 86_400
FAR = 100_000_000_000
"""No second count of ours reaches this (the year 5138); every millisecond count since March 1973 does."""

PERIODS = {"hour": (DAY, 3600, 0), "weekday": (7 * DAY, DAY, 4 * DAY)}
"""Of the parts that repeat evenly: after how long, in steps of what, and since when (1970-01-05, a Monday)."""


def index_of(seconds: np.ndarray, part: str, offset: int) -> np.ndarray:
    """Return the hour, the weekday (Monday 0) or the month (January 0), int64 [n]; -1 for NaN and invalid times."""
    present = np.abs(seconds) < FAR
    whole = np.floor(np.where(present, seconds, 0.0)).astype(np.int64) + offset
    if part in PERIODS:
        period, unit, start = PERIODS[part]
        index = (whole - start) % period // unit
    else:
        index = whole.astype("datetime64[s]").astype("datetime64[M]").astype(np.int64) % 12
    return np.where(present, index, -1)


def fraction_of(seconds: np.ndarray, part: str, offset: int) -> np.ndarray:
    """Return the position in the day, week or year, from 0 to 1, float64 [n]; NaN for NaN and invalid times."""
    present = np.abs(seconds) < FAR
    local = np.where(present, seconds, 0.0) + offset
    if part in PERIODS:
        period, _, start = PERIODS[part]
        fraction = (local - start) % period / period
    else:
        fraction = index_of(seconds, part, offset) / 12
    return np.where(present, fraction, np.nan)
