#!/usr/bin/env bash
# implicit 0.7.3, AlternatingLeastSquares.recommend(user, user_items, N) always returns N items. With filter_already_liked_items=True,
# its default, those that the user has come after the others, with the lowest float32 as their score. Where N is more than there are
# items, the answer is filled up with item 0 at the score 0.0, whether or not the user has item 0, and 0.0 is above the -3.4e38 before it,
# so that the answer is no longer in order. similar_items fills up in the same way. Nothing is raised, and no id is -1 as in FAISS.
# Who counts hits in such an answer counts items that the user has, or item 0, as recommended.
# Remedy: cut the answer where the score is the lowest float32, and never ask for more than the items.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check implicit==0.7.3 numpy==1.26.4 scipy==1.13.1
cat >"$folder/show.py" <<'PYTHON'
import sys

import implicit
import numpy as np
from implicit.als import AlternatingLeastSquares
from scipy.sparse import csr_matrix

LOWEST = np.finfo(np.float32).min
has = csr_matrix(np.float32([[1, 1, 1, 1, 0, 0], [1, 0, 1, 0, 1, 0], [0, 1, 0, 1, 0, 1]]))
model = AlternatingLeastSquares(factors=2, iterations=3, random_state=0)
model.fit(has, show_progress=False)

ids, scores = model.recommend(0, has[0], N=5)  # the user has items 0 to 3, so there are two
print(f"implicit {implicit.__version__}, 5 of 6 items, of which the user has 0 to 3: {ids.tolist()}, scores {scores.tolist()}")
more, more_scores = model.recommend(0, has[0], N=9)
print(f"9 of 6 items: {more.tolist()}, scores {more_scores.tolist()}")
near, near_scores = model.similar_items(5, N=9)
print(f"9 of 6 similar items: {near.tolist()}, scores {near_scores.tolist()}")
same = (
    sorted(ids[:2].tolist()) == [4, 5]
    and set(ids[2:].tolist()) <= {0, 1, 2, 3}
    and bool((scores[2:] == LOWEST).all())
    and more[6:].tolist() == [0, 0, 0]
    and more_scores[5:].tolist() == [LOWEST, 0.0, 0.0, 0.0]
    and near[6:].tolist() == [0, 0, 0]
    and near_scores[6:].tolist() == [0.0, 0.0, 0.0]
)
sys.exit(0 if same else "the behaviour has changed")
PYTHON
OPENBLAS_NUM_THREADS=1 "$folder/env/bin/python" "$folder/show.py"
