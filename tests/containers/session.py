"""A terminal of one process: reads a `retrieval` command per line (a JSON list), runs it, answers with its exit code.

So that the libraries are imported once for all commands of a page. What the commands print goes to stderr.
"""

import json
import os
import sys

answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)

from retrieval.cli import app  # noqa: E402

for line in sys.stdin:
    try:
        code = int(app(json.loads(line), standalone_mode=False) or 0)
    except SystemExit as end:
        code = int(end.code or 0)
    except Exception as error:
        code = int(getattr(error, "exit_code", 1))
        sys.stderr.write(f"{error}\n")
    answers.write(f"{code}\n")
    answers.flush()
