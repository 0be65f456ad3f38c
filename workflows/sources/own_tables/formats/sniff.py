"""How unknown text is to be read: DuckDB's sniffer, and the delimiters that it does not try."""

from __future__ import annotations

import codecs
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

from workflows.errors import DataError
from workflows.sources.own_tables.formats.files import Located, content
from workflows.sources.own_tables.formats.streams import open_plain
from workflows.sources.own_tables.formats.text import UNHEADED
from workflows.sources.own_tables.types import NUMBER

HEAD_BYTES: Final = 1 << 18
LINES: Final = 50
MARKS: Final = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
COMMON: Final = ",;\t|"
"""What DuckDB tries by itself. A run of these is empty fields rather than a delimiter of its own."""
WIDE: Final = 20
"""Beyond so many columns a table may be a matrix."""
FOREIGN: Final = (
    (r"%%MatrixMarket", "is a matrix of Matrix Market", "write its entries as rows: scipy.io.mmread(...).tocoo()"),
    (r"(?i)(insert into|create table|drop table)\b", "has statements of SQL", "run them, and give the database"),
    (r"\+-{2,}[+-]*$", "is a table drawn with lines", "export it as CSV, such as with mysql --batch"),
    (r"(?i)<(\?xml|!doctype|html)", "is XML or HTML", "export it as CSV"),
)
"""How text begins that is no table, what it is, and what makes a table of it."""


class Dialect(NamedTuple):
    """What DuckDB says of a text: its columns are counted with that delimiter."""

    delimiter: str
    quote: str
    escape: str
    skip: int
    columns: int


def sniff(located: Located, delimiter: str | None, header: bool | None) -> tuple[dict[str, Any], list[str]]:
    """Return options of `TableFile` for a table, and what is to be told of them.

    Parameters
    ----------
    delimiter, header
        What the user says, None where nothing is said.

    Raises
    ------
    DataError
        The file is empty, or cannot be read.
    """
    path = located.paths[0]
    name = located.format if located.config.format != "auto" else content(located.filesystem, path)
    if name not in ("csv", *UNHEADED):
        return ({"format": name} if name != located.format else {}), []
    text, encoding = _text(located, path)
    lines = [line for line in text.splitlines() if line.strip()][:LINES]
    if not lines:
        raise DataError(f"{path}: is empty; --{located.table} needs a table with rows")
    if delimiter is None and header is None:
        _refuse_foreign(path, text, lines)
    options: dict[str, Any] = {"encoding": encoding} if encoding != "utf-8" else {}
    guessed = encoding in ("latin-1", "cp1252") and encoding != located.config.encoding
    notes = [f"its text is not UTF-8, so {encoding} is taken; --encoding says otherwise"] if guessed else []
    form = name if name in UNHEADED else _form(lines) if delimiter is None and header is None else None
    if form:
        options |= {"format": form} | ({"delimiter": " "} if form == "adjacency" and "," not in lines[0] else {})
        shown = "user item item ..." if form == "adjacency" else "movie:, then user,rating,date"
        places = form == "adjacency" and not all(map(_ascends, lines))
        hint = "; if the items are in the order of time: --timestamp-unit order" if places else ""
        return options, [*notes, f"its lines are of the form {shown}{hint}"]
    options |= {"format": "csv"} if located.format != "csv" else {}
    return _delimited(text, lines, delimiter, header, options, notes)


def _refuse_foreign(path: str, text: str, lines: list[str]) -> None:
    """Raise DataError for text that is no table, with what makes one of it."""
    keys = [line.partition(": ")[0] for line in lines]
    numbers = [line.split() for line in lines]
    counted = all(row[0].isdigit() and int(row[0]) == len(row) - 1 for row in numbers)
    found = next(((what, remedy) for start, what, remedy in FOREIGN if re.match(start, lines[0].strip())), None)
    if re.search(r"\n\s*\n", text) and all(": " in line for line in lines) and keys.count(keys[0]) > 1:
        found = f"has blocks of lines such as {lines[0][:40]!r}", "write each block as a line of JSON"
    elif counted and 1 < len({len(row) for row in numbers}) < len(numbers):
        remedy = f"let each line begin with its user: awk '{{ $1 = NR }} 1' {path} > items_of_users.txt"
        found = "has lines that begin with how many items follow, and name no user", remedy
    elif all(re.fullmatch(r"\S+(\s+\d+:[\d.]+)+", line.strip()) for line in lines):
        remedy = (
            f"let it have a line for each: awk '{{ for (i = 2; i <= NF; i++) print $1 \":\" $i }}' {path} > rows.txt"
        )
        found = f"has lines of entries item:rating, such as {lines[0][:40]!r}", remedy
    if found:
        raise DataError(f"{path}: {found[0]}; {found[1]}")


def _delimited(
    text: str, lines: list[str], delimiter: str | None, header: bool | None, options: dict[str, Any], notes: list[str]
) -> tuple[dict[str, Any], list[str]]:
    with _sniffer(text) as look:
        dialect = look(delimiter) if delimiter else _best(lines, look)
    if dialect is None:
        dialect = Dialect(delimiter or ",", "", "", 0, 1)
    if titles := _titles(lines[dialect.skip :], dialect.delimiter):
        lines = lines[dialect.skip + titles :]
        dialect = dialect._replace(skip=text.splitlines().index(lines[0]))
        notes.append(f"lines before its header: {dialect.skip}")
        lines = [*[""] * dialect.skip, *lines]
    between = _spaced(lines[dialect.skip :], dialect.delimiter)
    settings = {
        "delimiter": between if between != "," else None,
        "skip_lines": dialect.skip or None,
        "quote": _quote(dialect, lines, between),
        "escape": dialect.escape if dialect.escape not in ("", dialect.quote) else None,
    }
    options |= {name: value for name, value in settings.items() if value is not None}
    if between != ",":
        notes.append(f"its fields are separated by {between!r}")
    aligned = settings["quote"] == "" and between == " "
    rows = [line.rstrip("\r").split(None if aligned else between) for line in lines[dialect.skip :]]
    headed = is_header(rows[0], rows[1:]) if header is None else header
    if not headed:
        options["header"] = False
        notes.append(
            "it has no header" + ("" if header is False else f" (its first line is {lines[dialect.skip][:60]!r})")
        )
    elif _is_trailed(rows):
        options["names"] = [*(name.strip().strip(dialect.quote or '"') for name in rows[0]), ""]
        notes.append("its rows end with a delimiter, its header does not")
    return options, notes


def _titles(lines: list[str], delimiter: str) -> int:
    """Return how many lines stand before the header: most of their fields are empty."""
    rows = [line.split(delimiter) for line in lines]
    first = next((n for n, row in enumerate(rows) if sum(bool(field.strip()) for field in row) * 2 > len(row)), 0)
    return first if is_header(rows[first], rows[first + 1 :]) else 0


def is_header(first: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    """Return whether the first row names the columns: none of its fields is a number, or looks like those below it.

    In a matrix the items, which may be numbers in order, follow the name of the first column.
    """
    items = [int(name) for name in first[1:] if name.strip().isdigit()]
    wide = len(items) == len(first) - 1 > WIDE and items == sorted({*items})
    if wide and not _is_value(first[0], [row[0] for row in rows]):
        return True
    return not any(_is_value(name, [row[at] for row in rows if at < len(row)]) for at, name in enumerate(first))


def _is_value(name: str, below: Sequence[str]) -> bool:
    if NUMBER.fullmatch(name) or (name.strip() and name in below):
        return True
    alike = {_shape(value) for value in below} == {_shape(name)}
    return alike and any(char.isdigit() for char in name)


def _shape(text: str) -> str:
    """Return a text with 9 for digits and a for letters, however many there are."""
    return re.sub(r"[^\W\d_]+", "a", re.sub(r"\d+", "9", text.strip()))


def _text(located: Located, path: str) -> tuple[str, str]:
    """Return the whole lines at the beginning of a file, and their encoding."""
    with open_plain(located.filesystem, path) as file:
        head = file.read(HEAD_BYTES)
    encoding = next((name for mark, name in MARKS.items() if head.startswith(mark)), located.config.encoding)
    decoder = codecs.getincrementaldecoder("utf-8-sig" if encoding == "utf-8" else encoding)
    try:
        text = decoder().decode(head, final=len(head) < HEAD_BYTES)
    except UnicodeDecodeError:
        encoding, text = _western(head)
    cut = max(text.rfind("\n"), text.rfind("\r")) + 1
    return (text[:cut] if cut and len(head) == HEAD_BYTES else text), encoding


def _western(head: bytes) -> tuple[str, str]:
    """Return Windows' code page and what is read with it, where it has signs that latin-1 lacks, else latin-1."""
    if re.search(rb"[\x80-\x9f]", head):
        with suppress(UnicodeDecodeError):
            return "cp1252", head.decode("cp1252")
    return "latin-1", head.decode("latin-1")


def _form(lines: list[str]) -> str | None:
    """Return the form of lines that are no delimited table."""
    if len(lines) > 1 and re.fullmatch(r"\w+:", lines[0].strip()) and lines[1].count(",") == 2:
        return "netflix"
    return "adjacency" if any(_is_adjacency([line.split(sign) for line in lines]) for sign in (None, ",")) else None


def _ascends(line: str) -> bool:
    """Return whether the items of a line are sorted, so that their order says nothing."""
    items = [int(field) for field in line.replace(",", " ").split()[1:]]
    return items == sorted(items)


def _is_adjacency(rows: list[list[str]]) -> bool:
    """Return whether rows of many lengths are numbers that all begin differently."""
    lengths = {len(row) for row in rows}
    whole = all(field.strip().isdigit() for row in rows for field in row)
    ragged = len(lengths) > min(2, len(rows) - 1) and max(lengths) > 2
    return ragged and whole and len({row[0] for row in rows}) == len(rows)


def _best(lines: list[str], look: Any) -> Dialect | None:
    """Return the dialect of a delimiter of several characters, else of DuckDB's choice, else of any other character."""
    for run in _counted_alike(lines, r"[^\w\s\"'.+\-/()\[\]{}]{2,4}|\t{2,4}"):
        single = run[0] in COMMON and any(line.count(run[0]) != len(run) * line.count(run) for line in lines)
        if not single and (dialect := look(run)) and dialect.columns > 1:
            return dialect
    own = look(None)
    if own is not None and own.columns > 1:
        return own
    if '"' not in lines[0] and len({len(line.split()) for line in lines}) == 1 and any("  " in line for line in lines):
        return Dialect(" ", "", "", 0, len(lines[0].split()))
    others: list[Dialect | None] = [own, *map(look, _counted_alike(lines, r"[^\w\"'.+\-/()\[\]{}]"))]
    return max(others, key=lambda guess: guess.columns if guess else 0)


def _counted_alike(lines: list[str], pattern: str) -> Iterator[str]:
    """Yield what matches in every line equally often."""
    counted = [re.findall(pattern, line) for line in lines]
    for separator in dict.fromkeys(counted[0]):
        if len({row.count(separator) for row in counted}) == 1:
            yield separator


def _spaced(lines: Iterable[str], delimiter: str) -> str:
    """Return the delimiter with a space where one follows it everywhere."""
    spaced = f"{delimiter} "
    always = all(line.count(delimiter) == line.count(spaced) > 0 for line in lines)
    return spaced if always and not delimiter.isspace() and len(spaced) <= 4 else delimiter


def _quote(dialect: Dialect, lines: list[str], delimiter: str) -> str | None:
    """Return what encloses fields where it is not the usual: nothing, where quotes stand there and enclose nothing."""
    if dialect.quote:
        return dialect.quote if dialect.quote != '"' else None
    begun = any(field.startswith('"') for line in lines for field in line.split(delimiter))
    aligned = delimiter == " " and any("  " in line for line in lines)
    return "" if begun or aligned or len(delimiter) > 1 else None


def _is_trailed(rows: list[list[str]]) -> bool:
    below = rows[1:]
    return bool(below) and all(len(row) == len(rows[0]) + 1 and not row[-1].strip() for row in below)


@contextmanager
def _sniffer(text: str) -> Iterator[Any]:
    """Yield a function that sniffs the text with a delimiter, or with any (None); it returns None where that fails."""
    import duckdb

    with tempfile.TemporaryDirectory(prefix="retrieval-sniff.") as folder, duckdb.connect() as database:
        path = Path(folder) / "head"
        path.write_text(text, encoding="utf-8", newline="")

        def look(delimiter: str | None) -> Dialect | None:
            for tolerant in (False, True):  # of lines with another number of fields
                options = {"ignore_errors": tolerant} | ({"delim": delimiter} if delimiter else {})
                parameters = ", ".join(f"{name} = ?" for name in options)
                query = f"SELECT Delimiter, Quote, Escape, SkipRows, len(Columns) FROM sniff_csv(?, {parameters})"
                try:
                    (dialect,) = database.execute(query, [str(path), *options.values()]).fetchall()
                except duckdb.Error:
                    continue
                between, quote, escape, skip, columns = dialect
                if tolerant or columns > 1:
                    quote, escape = ("" if character == "(empty)" else character for character in (quote, escape))
                    return Dialect(between, quote, escape, skip, columns)
            return None

        yield look
