"""`python -m retrieval`: the same as the `retrieval` command."""

import os
import sys

# -m puts the working directory first on the path, and a `json.py` there would be run in place of Python's own. The
# `retrieval` command, and `python -I -m retrieval`, do not begin so.
if sys.path[0] in ("", os.getcwd()) and sys.path[0] != os.path.dirname(os.path.dirname(__file__)):  # noqa: PTH109, PTH120
    del sys.path[0]

from retrieval.cli import main

main()
