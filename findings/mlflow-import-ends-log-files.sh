#!/usr/bin/env bash
# MLflow 2.20.4: `import mlflow` closes the log handlers that the process has, all of them, its own or not. It sets up logging by
# `logging.config.dictConfig`, which closes what was there before, although `disable_existing_loggers` is off and the handlers stay
# with their loggers.
# - A `logging.FileHandler` opened with mode "w" takes no more lines: each is lost, without an error. With mode "a" it opens the
#   file again by itself (CPython 3.11), so that nothing shows.
# - A `MemoryHandler` loses its target, and what it would have handed on.
# - absl's handler, which TensorFlow brings, closes the stream that it was made with, unless that is today's stderr: where pytest captured
#   stderr meanwhile, it was pytest's own file.
# A training that logs to a file and imports MLflow where it is first needed, after the training, has a log that ends there.
# What the variable below is documented to do is to configure MLflow's own loggers; that the others' handlers are closed is not said.
# Remedy: MLFLOW_LOGGING_CONFIGURE_LOGGING=false before the import, or import it before handlers are made.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check mlflow-skinny==2.20.4 'setuptools<81'
cat >"$folder/show.py" <<'PYTHON'
import logging
import sys
from logging.handlers import MemoryHandler
from pathlib import Path

place = Path(sys.argv[1])
log = logging.getLogger("training")
log.propagate = False
new, old = (logging.FileHandler(place / f"{mode}.log", mode=mode) for mode in "wa")
target = logging.FileHandler(place / "memory.log", mode="a")
for handler in (new, old, MemoryHandler(1, flushLevel=logging.DEBUG, target=target)):
    log.addHandler(handler)
log.warning("before")
import mlflow

log.warning("after")
lines = {name: (place / f"{name}.log").read_text().split() for name in ("w", "a", "memory")}
print(f"mlflow {mlflow.__version__}, MLFLOW_LOGGING_CONFIGURE_LOGGING={sys.argv[2]}: {len(log.handlers)} handlers, {lines}")
both, half = ["before", "after"], ["before"]
expected = {"unset": {"w": half, "a": both, "memory": half}, "false": {"w": both, "a": both, "memory": both}}
sys.exit(lines != expected[sys.argv[2]])
PYTHON
mkdir "$folder/unset" "$folder/false"
status=0
env -u MLFLOW_LOGGING_CONFIGURE_LOGGING "$folder/env/bin/python" "$folder/show.py" "$folder/unset" unset || status=1
MLFLOW_LOGGING_CONFIGURE_LOGGING=false "$folder/env/bin/python" "$folder/show.py" "$folder/false" false || status=1
if [ "$status" = 0 ]; then echo "as described"; else echo "CHANGED"; fi
exit "$status"
