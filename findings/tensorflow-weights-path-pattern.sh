#!/usr/bin/env bash
# TensorFlow 2.12.1: `save_weights` takes a path as it is, `load_weights` takes the same path for a pattern. Weights saved below
# a directory such as `run[2]` lie there, and cannot be loaded: NotFoundError, "Unsuccessful TensorSliceReader
# constructor: Failed to find any matching files". HDF5 files (`.h5`) load from the same directory.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check tensorflow-cpu==2.12.1 numpy==1.23.5
cat >"$folder/show.py" <<'PYTHON'
import os, sys
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import tensorflow as tf

model = tf.keras.Sequential([tf.keras.layers.Dense(1, input_shape=(1,))])
found = {}
for name in ("run2/weights", "run[2]/weights", "run[2]/weights.h5"):
    path = Path(sys.argv[1], name)
    path.parent.mkdir(exist_ok=True)
    model.save_weights(str(path))
    try:
        model.load_weights(str(path))
        found[name] = "loaded"
    except tf.errors.NotFoundError:
        found[name] = "NotFoundError"
    print(f"tensorflow {tf.__version__}: {name}: saved {sorted(p.name for p in path.parent.iterdir())}, {found[name]}")
sys.exit(0 if list(found.values()) == ["loaded", "NotFoundError", "loaded"] else "the behaviour has changed")
PYTHON
"$folder/env/bin/python" "$folder/show.py" "$folder"
