#!/usr/bin/env bash
# SciPy 1.17.1 with NumPy 2.4.6: `sparse @ dense` copies the whole dense matrix, in every product, where it lies column by
# column; where it lies row by row it copies nothing. No warning is given, and the results are equal.
# What Cholesky gives lies column by column (`cho_solve`: EASE's weights); what `numpy.linalg.inv` and `scipy.linalg.inv` give
# lies row by row.
# A recommender asks for some users at a time (`interactions[users] @ weights`): with 16,000 items each such product
# copied one gigabyte, and ranking took most of an evaluation.
# Remedy: `numpy.ascontiguousarray` once; for a symmetric matrix its transpose, which is the same and is no copy.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6 scipy==1.17.1
cat >"$folder/show.py" <<'PYTHON'
import sys
import tracemalloc

import numpy as np
import scipy
from scipy.linalg import cho_factor, cho_solve, inv

ITEMS, USERS = 1_000, 20
interactions = scipy.sparse.random_array((USERS, ITEMS), density=0.01, rng=np.random.default_rng(0)).tocsr()
gram = (interactions.T @ interactions).toarray() + np.eye(ITEMS)
matrices = {
    "numpy.linalg.inv": np.linalg.inv(gram),
    "scipy.linalg.inv": inv(gram),
    "cho_solve": cho_solve(cho_factor(gram), np.eye(ITEMS)),
}
matrices["its transpose"] = matrices["cho_solve"].T


def copied(matrix):
    """Whether a product takes the memory of the matrix again; its result has a fiftieth."""
    tracemalloc.start()
    interactions @ matrix
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak >= matrix.nbytes


found = {name: copied(matrix) for name, matrix in matrices.items()}
print(f"scipy {scipy.__version__}, numpy {np.__version__}: {USERS} rows @ {ITEMS} x {ITEMS}")
for name, matrix in matrices.items():
    order = "row by row" if matrix.flags.c_contiguous else "column by column"
    print(f"  {name}: lies {order}, copied for a product: {found[name]}")
same = np.array_equal(interactions @ matrices["cho_solve"], interactions @ np.ascontiguousarray(matrices["cho_solve"]))
expected = {"numpy.linalg.inv": False, "scipy.linalg.inv": False, "cho_solve": True, "its transpose": False}
sys.exit(0 if same and found == expected else "the behaviour has changed")
PYTHON
"$folder/env/bin/python" "$folder/show.py"
