#!/usr/bin/env bash
# implicit 0.7.3: a like that was taken back, +1 and later -1 in the log, is summed by SciPy's csr_matrix to a zero that
# stays stored.
# - BayesianPersonalizedRanking looks at which cells are stored, not at the values: it learns the zero as a like, and a
#   matrix of zeros, or of minus ones, gives the same model as one of ones.
# - ranking_metrics_at_k counts the zero among the held-out items, so that a model which finds all real ones does not
#   get 1.
# - recommend(filter_already_liked_items=True) leaves the item out for ever.
# AlternatingLeastSquares does look at the value. There is no warning.
# Remedy: `matrix.eliminate_zeros()` after the matrix is built, and `matrix.data > 0` checked before BPR is trained.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check implicit==0.7.3 numpy==1.26.4 scipy==1.13.1
cat >"$folder/show.py" <<'PYTHON'
import sys

import implicit
import numpy as np
from implicit.bpr import BayesianPersonalizedRanking
from implicit.evaluation import ranking_metrics_at_k
from scipy.sparse import csr_matrix


def trained(matrix: csr_matrix) -> BayesianPersonalizedRanking:
    model = BayesianPersonalizedRanking(factors=8, iterations=20, random_state=0, num_threads=1)
    model.fit(matrix, show_progress=False)
    return model


ones = csr_matrix((np.random.default_rng(0).random((50, 20)) < 0.2).astype(np.float32))
vectors = {}
for value in (1, 0, -1):
    matrix = ones.copy()
    matrix.data[:] = value
    vectors[value] = trained(matrix).item_factors
    alike = np.array_equal(vectors[value], vectors[1])
    print(f"implicit {implicit.__version__}, BPR of {value} in every stored cell: item vectors as of ones: {alike}")

log = [(0, 5, 1.0), (0, 7, 1.0), (0, 7, -1.0)]  # user, item, value: item 7 was taken back
users, items, values = (list(column) for column in zip(*log, strict=True))
held_out = csr_matrix((np.float32(values), (users, items)), shape=(1, 20))


class FiveFirst:
    """Recommends item 5, then others, none of them 7."""

    def recommend(self, users, user_items, N=2, **options):
        return np.int32([[5, 1]]), np.float32([[1, 0]])


precision, recommended = {}, {}
for name in ("stored", "eliminated"):
    nothing = csr_matrix(held_out.shape, dtype=np.float32)
    found = ranking_metrics_at_k(FiveFirst(), nothing, held_out, K=2, show_progress=False, num_threads=1)
    precision[name] = float(found["precision"])
    shown, _ = trained(ones).recommend(0, held_out, N=20 - held_out.nnz)
    recommended[name] = 7 in shown
    print(f"zero {name}: {held_out.nnz} cells, precision {precision[name]}, item 7 recommended: {recommended[name]}")
    held_out.eliminate_zeros()
same = all(np.array_equal(vectors[1], vectors[value]) for value in (0, -1))
same = same and precision == {"stored": 0.5, "eliminated": 1.0}
same = same and recommended == {"stored": False, "eliminated": True}
sys.exit(0 if same else "the behaviour has changed")
PYTHON
OPENBLAS_NUM_THREADS=1 "$folder/env/bin/python" "$folder/show.py"
