#!/usr/bin/env bash
# RePlay (replay-rec) 0.22.0: RatioSplitter(test_size=0.1) does not leave a tenth of the rows for the test, but more than a
# quarter of the 12,135 rows here, whose users have three each at the median: in each user's rows the share is rounded up, and
# the only row of a user goes to the test, so that the 750 users of one row are unknown to training, and no model that
# learns users can answer them. Metrics on such a split are those of shorter histories, and of cold users, than was asked for.
# With split_by_fractions=False it is a fifth of the rows. There, min_interactions_per_group=1, which every user has and which
# should change nothing, takes the test from a fifth of the rows to a fiftieth. There is no warning in any case.
# Remedy: count the parts that come back; min_interactions_per_group=5 with fractions keeps shorter histories in training (9.5 % here); or
# split by time (TimeSplitter), which takes the share of all rows.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check replay-rec==0.22.0 numpy==2.2.6 pandas==2.3.3
cat >"$folder/show.py" <<'PYTHON'
import sys
import warnings
from importlib.metadata import version

import numpy as np
import pandas as pd

warnings.simplefilter("ignore")
from replay.splitters import RatioSplitter, TimeSplitter

SHARE = 0.1
random = np.random.default_rng(0)
lengths = random.geometric(0.25, 3_000)
users = np.repeat(np.arange(len(lengths)), lengths)
rows = pd.DataFrame({"query_id": users, "item_id": random.integers(0, 500, len(users))})
rows["timestamp"] = random.permutation(len(rows))
once = np.flatnonzero(lengths == 1)


def show(what, splitter):
    train, test = splitter.split(rows)
    share, cold = len(test) / len(rows), int(test["query_id"].isin(once).sum())
    print(f"  {what}: {share:.1%} of {len(train) + len(test):,} rows in the test, among them {cold} of {len(once)} users of one row")
    return share, cold


def by_ratio(**settings):
    return RatioSplitter(test_size=SHARE, divide_column="query_id", query_column="query_id", **settings)


print(f"replay-rec {version('replay-rec')}, test_size = {SHARE}, {np.median(lengths):.0f} rows a user at the median")
asked, cold = show("as it is", by_ratio())
number, _ = show("split_by_fractions=False", by_ratio(split_by_fractions=False))
least, _ = show("... min_interactions_per_group=1", by_ratio(split_by_fractions=False, min_interactions_per_group=1))
by_time, _ = show("TimeSplitter", TimeSplitter(time_threshold=SHARE, query_column="query_id"))
as_described = asked > 0.25 and cold == len(once) and 0.15 < number < 0.22 and least < 0.03 and abs(by_time - SHARE) < 0.01
print("as described" if as_described else "CHANGED")
sys.exit(not as_described)
PYTHON
"$folder/env/bin/python" "$folder/show.py"
