"""What a time says. `ensemble/serving/query/times.py` holds the same functions; tests keep the two equal."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

CARDINALITY = {"hour": 24, "weekday": 7, "month": 12}
HOUR, DAY, WEEK = 3600, 86_400, 604_800
_FIRST_MONDAY = 345_600
"""1970-01-05."""
MILLISECONDS: Final = 100_000_000_000
"""No second count of ours reaches this (the year 5138); every millisecond count since March 1973 does."""


class TimeOf(NamedTuple):
    """Which part of a time, and how many seconds it is ahead of UTC."""

    part: str
    offset: int


def index_of(seconds: npt.NDArray[np.float64], time: TimeOf) -> npt.NDArray[np.int64]:
    """Return the hour, the weekday (Monday 0) or the month (January 0), int64 [n]; -1 for NaN and what is no time."""
    present = np.abs(seconds) < MILLISECONDS
    whole = np.floor(np.where(present, seconds, 0.0)).astype(np.int64) + time.offset
    if time.part == "hour":
        index = whole % DAY // HOUR
    elif time.part == "weekday":
        index = (whole - _FIRST_MONDAY) % WEEK // DAY
    else:
        index = whole.astype("datetime64[s]").astype("datetime64[M]").astype(np.int64) % 12
    return np.where(present, index, -1)


def fraction_of(seconds: npt.NDArray[np.float64], time: TimeOf) -> npt.NDArray[np.float64]:
    """Return the place in the day, week or year, from 0 to 1, float64 [n]; NaN for NaN and what is no time."""
    present = np.abs(seconds) < MILLISECONDS
    local = np.where(present, seconds, 0.0) + time.offset
    if time.part == "hour":
        fraction = local % DAY / DAY
    elif time.part == "weekday":
        fraction = (local - _FIRST_MONDAY) % WEEK / WEEK
    else:
        fraction = index_of(seconds, time) / 12
    return np.where(present, fraction, np.nan)
