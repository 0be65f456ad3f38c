#!/usr/bin/env bash
# How two evaluators order items with equal scores:
# - pytrec_eval (terrier 0.5.11) puts the larger item id, as a string, first, whatever the order given. Before that it
#   rounds scores to float32: 1700000001 and 1700000000, scores of a most-recent-first baseline in seconds, become
#   equal, for float32 has one number for 128 seconds there. So the ids decide the order within a session.
# - ranx 0.3.21, which says that its metrics are tested against TREC Eval, keeps float64 and the order given, as long as
#   items are few; its sort is not a stable one: the first of 50 items with equal scores is counted as the 26th, the
#   last as the 37th.
# There is no warning. A popularity baseline, whose scores are small counts, is full of ties, and gets another NDCG from
# each.
# Remedy: pass ranks instead of scores to an evaluator: k for the first item, k - 1 for the second, and so on.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check \
    pytrec-eval-terrier==0.5.11 ranx==0.3.21 numba==0.68.1 numpy==1.26.4
cat >"$folder/show.py" <<'PYTHON'
import sys
import warnings
from importlib.metadata import version

warnings.filterwarnings("ignore")
import pytrec_eval
from ranx import Qrels, Run, evaluate

LIKED = {"user": {"liked": 1}}


def ranks(scores: dict[str, float]) -> tuple[int, int]:
    """Return the rank of the liked item by pytrec_eval and by ranx."""
    trec = pytrec_eval.RelevanceEvaluator(LIKED, {"recip_rank"}).evaluate({"user": scores})
    return round(1 / trec["user"]["recip_rank"]), round(1 / evaluate(Qrels(LIKED), Run({"user": scores}), "mrr"))


names = {f"item{number:02}": 1.0 for number in range(49)}  # all of them before "liked" in the alphabet
found = {
    "equal, liked first of 3": ranks({"liked": 1.0, "a": 1.0, "z": 1.0}),
    "equal, liked last of 3": ranks({"z": 1.0, "a": 1.0, "liked": 1.0}),
    "liked a second more recent": ranks({"liked": 1_700_000_001.0, "z": 1_700_000_000.0}),
    "equal, liked first of 50": ranks({"liked": 1.0} | names),
    "equal, liked last of 50": ranks(names | {"liked": 1.0}),
}
print(f"pytrec_eval {version('pytrec-eval-terrier')}, ranx {version('ranx')}: the rank of the liked item by each")
for case, by_each in found.items():
    print(f"{case}: {by_each}")
trec, ranx = (dict(zip(found, column, strict=True)) for column in zip(*found.values(), strict=True))
same = list(trec.values()) == [2, 2, 2, 1, 1] and list(ranx.values())[:3] == [1, 3, 1]
same = same and ranx["equal, liked first of 50"] != 1 and ranx["equal, liked last of 50"] != 50
sys.exit(0 if same else "the behaviour has changed")
PYTHON
"$folder/env/bin/python" "$folder/show.py"
