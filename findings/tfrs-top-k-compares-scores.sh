#!/usr/bin/env bash
# tensorflow-recommenders 0.7.3 on TensorFlow 2.12.1: FactorizedTopK, called as `Retrieval` calls it by default, never
# asks which items were found. It compares the score of the right item with the best k scores of all candidates, among
# which the right item is a second time, and `tf.math.in_top_k` takes equal scores for found:
# - towers that have collapsed, so that all items score alike, have a top-1 accuracy of 1.0, and so has anything that
#   is constant (`SparseTopKCategoricalAccuracy` of Keras alike);
# - towers that put the right item first for every query have a top-1 accuracy below 0.9: the right item's score is
#   rounded in another way than the same score among the candidates, and where it is a bit lower it comes second to
#   itself.
# With the ids of the right items (`candidate_ids` of the task) these are 0.0 and 1.0. There is no warning.
# Remedy: candidates as (id, vector) pairs, and `candidate_ids` given to the task.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check \
    tensorflow-cpu==2.12.1 tensorflow==2.12.1 tensorflow-recommenders==0.7.3 numpy==1.23.5 protobuf==4.25.9
cat >"$folder/show.py" <<'PYTHON'
import sys

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs

ITEMS, QUERIES, DIMENSION = 1_000, 256, 16
random = np.random.default_rng(0)
ids = tf.range(ITEMS)
items = random.normal(size=(ITEMS, DIMENSION)).astype(np.float32)
queries = random.normal(size=(QUERIES, DIMENSION)).astype(np.float32)
cases = {
    "collapsed": (np.ones_like(queries), np.ones_like(items), random.integers(10, ITEMS, QUERIES)),
    "perfect": (queries, items, np.argmax(queries.astype(np.float64) @ items.T.astype(np.float64), axis=1)),
}
found = {}
for name, (asked, vectors, right) in cases.items():
    pairs = tf.data.Dataset.from_tensor_slices((ids, vectors)).batch(128)
    for given in (False, True):
        metric = tfrs.metrics.FactorizedTopK(pairs if given else pairs.map(lambda _, vector: vector), ks=(1,))
        task = tfrs.tasks.Retrieval(metrics=metric)
        task(tf.constant(asked), tf.gather(vectors, right), candidate_ids=tf.gather(ids, right) if given else None)
        found[name, given] = float(metric.metrics[0].result())
        by = "ids" if given else "scores"
        print(f"TFRS {tfrs.__version__}, {name} towers, by {by}: top-1 accuracy {found[name, given]:.3f}")
same = found["collapsed", False] == 1 and found["collapsed", True] == 0
same = same and 0.3 < found["perfect", False] < 0.95 and found["perfect", True] == 1
sys.exit(0 if same else "the behaviour has changed")
PYTHON
TF_CPP_MIN_LOG_LEVEL=3 "$folder/env/bin/python" "$folder/show.py"
