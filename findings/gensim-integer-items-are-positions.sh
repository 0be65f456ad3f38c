#!/usr/bin/env bash
# gensim 4.4.0, Word2Vec trained on sessions of item ids (item2vec): ids may be integers, and training and vectors are
# right. A look-up of an integer that is no item of the vocabulary is no KeyError: the integer is then taken for a
# position in the list of items by frequency, and the vector found there is another item's.
# - An item that `min_count` (5 by default) left out, or that is new, has the vector of some other item, and
#   `most_similar` recommends that item's neighbours.
# - `item in model.wv` is True, so the check before the look-up does not help. Only ids from the vocabulary's size on
#   raise.
# With the same ids as strings, `in` is False and the look-up raises KeyError.
# Remedy: ids as strings; or check `item in model.wv.key_to_index`.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check gensim==4.4.0 numpy==2.4.6 scipy==1.17.1
cat >"$folder/show.py" <<'PYTHON'
import sys

import gensim
import numpy as np
from gensim.models import Word2Vec

RARE, ITEMS = 7, 50
random = np.random.default_rng(0)
sessions = [[int(item) for item in row] for row in random.choice(np.arange(100, 100 + ITEMS), (400, 8))]
sessions[0].append(RARE)  # once: below min_count
options = {"vector_size": 8, "epochs": 2, "workers": 1, "seed": 0}
found = {}
for kind in (int, str):
    wv = Word2Vec([[kind(item) for item in session] for session in sessions], **options).wv
    rare, unknown = kind(RARE), kind(1_000)
    try:
        owner = next(item for item in wv.index_to_key if np.array_equal(wv[item], wv[rare]))
        similar = wv.most_similar(rare, topn=3) == wv.most_similar(owner, topn=3)
        answer = "another item's vector and neighbours" if similar and owner == wv.index_to_key[RARE] else "other"
    except KeyError:
        answer = "KeyError"
    found[kind.__name__] = rare in wv.key_to_index, rare in wv, unknown in wv, answer
    print(f"gensim {gensim.__version__}, ids of type {kind.__name__}, {len(wv)} items, {RARE} is none of them")
    print(f"  in key_to_index {found[kind.__name__][0]}, in wv {found[kind.__name__][1]}, looked up: {answer}")
same = found["int"] == (False, True, False, "another item's vector and neighbours")
sys.exit(0 if same and found["str"] == (False, False, False, "KeyError") else "the behaviour has changed")
PYTHON
"$folder/env/bin/python" "$folder/show.py"
