#!/usr/bin/env bash
# DuckDB 1.5.6 (2.0.1 does the same): `read_csv` sniffs the delimiter among `,` `|` `;` and tab, and the header by types. So of
# two public forms it reads the wrong table, with exit code 0 and no warning:
# - MovieLens's movies.dat, `1::Toy Story (1995)::Animation|Children's|Comedy`: fields around `|`, its first film the header;
# - rows of text without a header, such as `u1,i7,view`: the first row is lost as a header, though its `view` comes again below.
# Remedy: `delim`, `header` given; before that, count what stands in every line, and compare the first row with those below it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check duckdb==1.5.6
cat >"$folder/show.py" <<'PYTHON'
import sys
from pathlib import Path

import duckdb

films = ["Jumanji (1995)::Adventure|Children's|Fantasy", "Toy Story (1995)::Animation|Children's|Comedy"]
written = {
    "movies.dat": [f"{number}::{films[number % 2]}" for number in range(1, 201)],
    "events.csv": ["u1,i7,view", "u2,i9,cart", "u1,i9,view", "u3,i7,cart"],
}
found = {}
for name, lines in written.items():
    path = Path(sys.argv[1]) / name
    path.write_text("\n".join(lines) + "\n")
    read = duckdb.sql(f"FROM read_csv('{path}')")
    found[name] = len(read.columns), len(lines), len(read.fetchall())
    print(f"duckdb {duckdb.__version__}, {name}: {len(lines)} lines read as {found[name][2]} rows of {read.columns}")
as_told = {"movies.dat": (3, 200, 199), "events.csv": (3, 4, 3)}
sys.exit(0 if found == as_told else "the behaviour has changed")
PYTHON
"$folder/env/bin/python" "$folder/show.py" "$folder"
