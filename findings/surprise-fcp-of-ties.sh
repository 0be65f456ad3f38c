#!/usr/bin/env bash
# scikit-surprise 1.1.5, `accuracy.fcp`, the fraction of concordant pairs (Koren and Sill, 2013): it is not a share of pairs.
# - A pair of equal predictions counts as discordant, so that a model that says the same of everything, which orders half of all
#   pairs rightly if ties are broken by chance, has 0.0 and not 0.5; a model that rounds its predictions, better ones by far, sinks as well.
# - The numbers of concordant and of discordant pairs are each averaged over users, but only over the users that have any of that kind:
#   one user in perfect order beside four in no order at all (every prediction the same) is 0.5, although one fifth of the pairs is
#   concordant.
# The docstring says neither; it names the paper, which takes the sums over all users. There is no warning.
# Remedy: count concordant pairs, and half of the tied ones, over all users yourself, as here.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check scikit-surprise==1.1.5 numpy==1.26.4 scipy==1.13.1 joblib==1.4.2
cat >"$folder/show.py" <<'PYTHON'
import sys
from importlib.metadata import version
from itertools import combinations

from surprise import Prediction, accuracy

RATINGS = (1.0, 2.0, 3.0, 4.0, 5.0)


def predictions(*of_users):
    """Return the predictions of users, each a function of the true rating."""
    return [
        Prediction(f"user {user}", f"item {item}", truth, estimate(truth), {})
        for user, estimate in enumerate(of_users)
        for item, truth in enumerate(RATINGS)
    ]


def by_hand(some):
    right, pairs = 0.0, 0
    for one, other in combinations(some, 2):
        if one.uid == other.uid and one.r_ui != other.r_ui:
            product = (one.r_ui - other.r_ui) * (one.est - other.est)
            right += 1.0 if product > 0 else 0.5 if product == 0 else 0.0
            pairs += 1
    return right / pairs


def same(truth):
    return 3.0


def perfect(truth):
    return truth


def rounded(truth):
    return 2.0 if truth < 3 else 4.0


print(f"scikit-surprise {version('scikit-surprise')}: fcp, and the share of pairs in order, ties counting half")
figures = {}
for what, users in {
    "the same for everything": [same],
    "two values, in the right order": [rounded],
    "one user in order, four the same": [perfect, *[same] * 4],
}.items():
    some = predictions(*users)
    figures[what] = accuracy.fcp(some, verbose=False), by_hand(some)
    print(f"  {what}: {figures[what][0]:.2f}, {figures[what][1]:.2f}")
(a, b), (c, d), (e, f) = figures.values()
as_described = a == 0 and b == 0.5 and abs(c - 0.6) < 0.01 and abs(d - 0.8) < 0.01 and abs(e - 0.5) < 0.01 and abs(f - 0.6) < 0.01
print("as described" if as_described else "CHANGED")
sys.exit(not as_described)
PYTHON
"$folder/env/bin/python" "$folder/show.py"
