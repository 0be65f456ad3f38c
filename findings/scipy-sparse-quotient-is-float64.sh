#!/usr/bin/env bash
# SciPy 1.15.3 with NumPy 2.2.6: a sparse matrix of float32 that is divided by a number is float64, whatever float32 or Python number it
# is divided by; multiplied by the reciprocal it stays float32, and so does a dense matrix that is divided. So one innocent
# normalisation (similarities / deviation) doubles the memory of everything that is computed from the matrix, here 7,700 users' scores of 8,700
# items from 268 MB to 536 MB, and sparse products with it are slower. Under NumPy 1.24.3 it is the same. There is no warning.
# Remedy: `matrix * np.float32(1 / number)`, or `(matrix / number).astype(np.float32)`.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check scipy==1.15.3 numpy==2.2.6
cat >"$folder/show.py" <<'PYTHON'
import sys

import numpy as np
import scipy
from scipy.sparse import csr_array, csr_matrix, random

print(f"scipy {scipy.__version__}, numpy {np.__version__}")
dense = np.ones((3, 3), np.float32)
as_described = True
for number in (2, 2.0, np.float32(2)):
    for kind in (csr_matrix, csr_array):
        divided, multiplied = (kind(dense) / number).dtype, (kind(dense) * (1 / number)).dtype
        print(f"  {kind.__name__} / {number!r}: {divided}; * its reciprocal: {multiplied}; dense / it: {(dense / number).dtype}")
        as_described &= divided == np.float64 and multiplied == np.float32 and (dense / number).dtype == np.float32
likes = random(7_700, 8_700, 0.001, "csr", np.float32, rng=np.random.default_rng(0))
similar = random(8_700, 8_700, 0.001, "csr", np.float32, rng=np.random.default_rng(1))
sizes = [(likes @ matrix).toarray().nbytes / 1e6 for matrix in (similar, similar / np.float32(2))]
print(f"  scores: {sizes[0]:.0f} MB, and after the quotient {sizes[1]:.0f} MB")
as_described &= abs(sizes[1] / sizes[0] - 2) < 0.01
print("as described" if as_described else "CHANGED")
sys.exit(not as_described)
PYTHON
"$folder/env/bin/python" "$folder/show.py"
