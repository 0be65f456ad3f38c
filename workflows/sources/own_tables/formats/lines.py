"""On which line of a text file a row is: counted only where a row is refused."""

from __future__ import annotations

import csv
import io
from itertools import islice

from workflows.sources.own_tables.formats.files import Located
from workflows.sources.own_tables.formats.text import column_names, delimiter_of, open_text


def line_of(located: Located, path: str, row: int) -> int | None:
    """Return the line, from 1, on which a row of a file, from 0, begins; None where that cannot be told.

    Blank lines, lines inside quotes and those with another number of fields are counted as lines and not as rows.
    """
    config, fields = located.config, len(column_names(located, path))
    quoting = csv.QUOTE_MINIMAL if config.quote else csv.QUOTE_NONE
    try:
        with io.TextIOWrapper(open_text(located, path), config.encoding, errors="replace", newline="") as text:
            skipped = len([*islice(text, config.skip_lines)])
            reader = csv.reader(
                text,
                delimiter=delimiter_of(located, path),
                quotechar=config.quote or None,
                quoting=quoting,
                escapechar=config.escape or None,
                doublequote=not config.escape,
            )
            begins, left = skipped + 1, row + 1 + config.header
            for row_fields in reader:
                left -= len(row_fields) == fields
                if not left:
                    return begins
                begins = skipped + reader.line_num + 1
    except (csv.Error, OSError, ValueError):
        pass
    return None
