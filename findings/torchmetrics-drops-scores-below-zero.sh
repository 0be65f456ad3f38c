#!/usr/bin/env bash
# torchmetrics 1.9.0, two properties of its retrieval metrics. No docstring mentions them: the classes accept "float predictions from a
# model output", and only the functions beneath them speak of "estimated probabilities".
# - RetrievalMAP, RetrievalMRR, RetrievalPrecision and RetrievalRecall count a right item whose score is 0 or less as not found, however
#   high it ranks. So scores that are shifted by a constant, in the same order, give other figures, and a perfect ranking by
#   log-probabilities or negative distances gets 0.0; of inner products and logits, the right items below zero are lost.
#   RetrievalNormalizedDCG and RetrievalHitRate look at the order alone, so that a HitRate@1 of 1.0 stands beside a
#   Precision@1 of 0.0. Pull request 3104 describes it; for it, a score of 0.0 is "no prediction".
# - RetrievalMAP(top_k=10) divides by the right items that are found among the ten, not by those that there are. One of ten, at rank 1, is
#   a MAP@10 of 1.0; the same one with a second, at rank 10, is 0.6. A model that is chosen by it finds less.
# There is no warning.
# Remedy: ranks instead of scores, all of them above zero (the number of items for the first, 1 for the last). For MAP@k, each query's
# value times the right items that are found over min(k, right items), with the metric's functional form.
# (The script installs PyTorch, some gigabytes.)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check torchmetrics==1.9.0 torch==2.14.1 numpy==2.4.6
cat >"$folder/show.py" <<'PYTHON'
import sys

import torch
import torchmetrics
from torchmetrics.functional.retrieval import retrieval_average_precision
from torchmetrics.retrieval import RetrievalHitRate, RetrievalMAP, RetrievalMRR
from torchmetrics.retrieval import RetrievalNormalizedDCG, RetrievalPrecision, RetrievalRecall

torch.set_num_threads(1)
ITEMS, K = 20, 10
METRICS = {
    "MAP": RetrievalMAP(),
    "MRR": RetrievalMRR(),
    "Precision@1": RetrievalPrecision(top_k=1),
    "Recall@10": RetrievalRecall(top_k=K),
    "HitRate@1": RetrievalHitRate(top_k=1),
    "NDCG@10": RetrievalNormalizedDCG(top_k=K),
}
print(f"torchmetrics {torchmetrics.__version__}, torch {torch.__version__}, {ITEMS} items")


def right_at(*ranks):
    found = torch.zeros(ITEMS, dtype=torch.long)
    found[[rank - 1 for rank in ranks]] = 1
    return found


def measured(scores, right):
    one_query = torch.zeros(ITEMS, dtype=torch.long)
    return {name: round(float(metric(scores, right, indexes=one_query)), 3) for name, metric in METRICS.items()}


print("right items at ranks 1, 2 and 3:")
right, scores = right_at(1, 2, 3), torch.linspace(0.99, 0.04, ITEMS)
perfect = measured(scores, right)
log_probabilities = measured(torch.log(scores), right)
shifted = measured(scores - 0.92, right)
from_zero = torch.log(scores).argsort(descending=True).argsort()
as_ranks = measured((ITEMS - from_zero).double(), right)
figures = {"probabilities": perfect, "less 0.92": shifted, "their logarithms": log_probabilities, "remedy, ranks": as_ranks}
for what, values in figures.items():
    print(f"  {what:16}", values)

print(f"MAP@{K}, and the remedy beside it:")
map_at_k = RetrievalMAP(top_k=K)
given, better = {}, {}
for ranks in ((1,), (1, 10), (1, 11), (1, *range(12, 21)), (1, 10, *range(13, 21))):
    right = right_at(*ranks)
    given[ranks] = round(float(map_at_k(scores, right, indexes=torch.zeros(ITEMS, dtype=torch.long))), 3)
    top = right[scores.topk(K).indices].sum() / min(K, right.sum())
    better[ranks] = round(float(retrieval_average_precision(scores, right, top_k=K) * top), 3)
    print(f"  {len(ranks):2} right items, {sum(rank <= K for rank in ranks)} among the {K}: {given[ranks]}, {better[ranks]}")

one, two = (1, *range(12, 21)), (1, 10, *range(13, 21))
as_described = (
    set(perfect.values()) == {1.0}
    and as_ranks == perfect
    and all(log_probabilities[name] == 0.0 for name in ("MAP", "MRR", "Precision@1", "Recall@10"))
    and log_probabilities["HitRate@1"] == log_probabilities["NDCG@10"] == 1.0
    and shifted["MRR"] == 1.0
    and shifted["Recall@10"] < 0.7
    and given[one] == 1.0
    and given[two] == 0.6
    and better[one] < better[two]
)
print("as described" if as_described else "CHANGED")
sys.exit(not as_described)
PYTHON
"$folder/env/bin/python" "$folder/show.py"
