#!/usr/bin/env bash
# NumPy 1.26.4: a Python float beside a float32 array leaves float32, except where the float does not fit. The lowest float32
# as a Python float, `float(np.finfo(np.float32).min)`, counts as one that does not, although float32 holds it exactly:
# `np.maximum(scores, LOWEST)` and `np.clip` give float64, while -1e38 leaves float32. As a floor for scores that
# doubles every array after it, and an array that is handed to a server as FP32 is none. NumPy 2 (NEP 50) leaves float32.
# Remedy: the NumPy scalar, `np.finfo(np.float32).min`.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/env"
cat >"$folder/show.py" <<'PYTHON'
import sys
import numpy as np

scores = np.zeros(2, np.float32)
lowest = float(np.finfo(np.float32).min)
exact = float(np.float32(lowest)) == lowest
found = {
    "maximum(scores, -1e38)": np.maximum(scores, -1e38).dtype.name,
    "maximum(scores, float(lowest))": np.maximum(scores, lowest).dtype.name,
    "clip(scores, float(lowest), None)": np.clip(scores, lowest, None).dtype.name,
    "maximum(scores, finfo.min)": np.maximum(scores, np.finfo(np.float32).min).dtype.name,
}
print(f"numpy {np.__version__}: held exactly: {exact}; {found}")
wide = "float64" if np.__version__.startswith("1.") else "float32"
sys.exit(0 if exact and list(found.values()) == ["float32", wide, wide, "float32"] else "the behaviour has changed")
PYTHON
for version in 1.26.4 2.2.6; do
    "$folder/env/bin/pip" install --quiet --disable-pip-version-check "numpy==$version"
    "$folder/env/bin/python" "$folder/show.py"
done
