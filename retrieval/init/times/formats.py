"""Which way text that holds times is written; what can be read in two ways is not guessed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from itertools import product
from typing import Any, Final

import pandas as pd
import pyarrow as pa

from workflows.sources.own_tables.types import seconds

TRIED: Final = 2_000
"""Values that patterns of times are tried on."""
WRONG: Final = 0.05
"""Share of the values that may be no times."""
DATES: Final = (
    *(f"%Y{sign}%m{sign}%d" for sign in "-/. "),
    *(f"{first}{sign}{second}{sign}{year}" for year in ("%Y", "%y") for sign in "/-. "
      for first, second in (("%d", "%m"), ("%m", "%d"))),
    *(f"%d{sign}%{month}{sign}%{year}" for sign in " -/" for month in "bB" for year in "Yy"),
    *(f"%{month} %d{comma} %Y" for month in "bB" for comma in (",", "")), "%m %d, %Y", "%Y%m%d",
)  # fmt: skip
CLOCKS: Final = ("", *(f"{gap}{clock}" for gap in (" ", "T", ", ", ":") for clock in (
    "%H:%M:%S", "%H:%M", "%H:%M:%S.%f", "%I:%M:%S %p", "%I:%M %p", "%I:%M:%S%p", "%I:%M%p")))  # fmt: skip
ZONES: Final = ("", "Z", " UTC", " GMT", " %z", "%z")
WHOLE: Final = (
    "%a %b %d %H:%M:%S %z %Y", "%a %b %d %H:%M:%S UTC %Y", "%a %b %d %H:%M:%S %Y", "%a, %d %b %Y %H:%M:%S %z",
    "%a, %d %b %Y %H:%M:%S GMT", "%A, %B %d, %Y", "%A, %d %B %Y",
    "%Y%m%d%H%M%S", "%Y%m%d%H%M", "%Y%m%dT%H%M%S", "%Y%m%dT%H%M%SZ",
)  # fmt: skip


def readings(values: pd.Series) -> list[str]:
    """Return the units that fit text: none where it holds no times, two where day and month cannot be told apart."""
    distinct = pd.Series(values.unique(), dtype=object)
    tried = distinct.iloc[:: len(distinct) // TRIED + 1]
    if not len(tried) or not tried.str.contains(r"\d{2}").mean() > 1 - WRONG or tried.str.len().max() > 40:
        return []
    texts: Any = pa.array(tried.to_numpy(dtype=object), pa.string())
    if seconds(texts, "iso").wrong.mean() < WRONG:
        return ["iso"]
    few = [str(value) for value in tried.iloc[:: max(1, len(tried) // 5)]][:5]
    fitting: dict[tuple[int | None, ...], str] = {}
    for pattern in _patterns(few[0]):
        if sum(_fits(value, pattern) for value in few) < len(few) - 1:
            continue
        read = seconds(texts, pattern)
        if read.wrong.mean() < WRONG:
            fitting.setdefault(tuple(read.values.to_pylist()), pattern)
    return [*fitting.values()]


def shown(value: str, unit: str) -> str:
    """Return a time as it is read with a unit."""
    read = seconds(pa.array([value], pa.string()), unit).values[0].as_py()
    return "nothing" if read is None else f"{pd.Timestamp(read, unit='s'):%-d %B %Y}"


def _patterns(value: str) -> Iterator[str]:
    """Yield the patterns that could fit a value, by its digits and its length."""
    yield from (pattern for pattern in WHOLE if _fits(value, pattern))
    letters = bool(re.search(r"[A-Za-z]{3}", value.removesuffix("UTC").removesuffix("GMT")))
    for date in DATES:
        signs = re.sub(r"%\w", "", date)
        if letters != bool(re.search("%[bB]", date)) or any(value.count(sign) < signs.count(sign) for sign in signs):
            continue
        yield from (date + clock + zone for clock, zone in product(CLOCKS, ZONES) if _could(value, clock, zone))


def _could(value: str, clock: str, zone: str) -> bool:
    """Return whether a value has what the clock and the zone of a pattern need: most patterns are out at once."""
    has_zone = value.endswith(zone) if "%" not in zone else value[-6:-2].find("+") >= 0 or value[-6:-2].find("-") >= 0
    return has_zone and (":" in value) == (":" in clock) and value.upper().rstrip().endswith("M") == ("%p" in clock)


def _fits(value: str, pattern: str) -> bool:
    try:
        datetime.strptime(value.strip(), pattern)
    except ValueError:
        return False
    return True
