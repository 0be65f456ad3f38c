#!/usr/bin/env bash
# feast 0.67.0, `get_historical_features` with the offline store that comes with provider "local" (type "dask", which
# "file" names, too) leaves out rows of the table that it is asked to join features to, where every row of labels is
# expected back:
# - rows that agree in the keys of the features and in time are made one, the last, whatever their other columns say: a
#   user who is shown two items at once keeps one of them, if only features of the user are asked for;
# - a user whose features begin later than the row, or are older than `ttl`, loses the row, while a user that the
#   features do not know at all keeps it, with a missing value.
# The store "duckdb" gives all rows back, with missing values, from the same files. There is no warning. So a training
# set lacks new users' first events, and most impressions of a page of items.
# Remedy: count the rows that come back; the store "duckdb", or a number of the row among the columns and a left join.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check \
    feast==0.67.0 'ibis-framework[duckdb]==12.0.0' duckdb==2.0.1 dask==2026.8.0 \
    pandas==2.3.3 pyarrow==26.0.1 numpy==2.4.6
cat >"$folder/show.py" <<'PYTHON'
import sys
import warnings
from datetime import timedelta

warnings.filterwarnings("ignore")
import feast
import pandas as pd
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig
from feast.types import Int64
from feast.value_type import ValueType

warnings.filterwarnings("ignore")  # once more: an import resets them
folder = sys.argv[1]
noon = pd.Timestamp("2024-01-01T12:00Z")
hour = pd.Timedelta("1h")
features = pd.DataFrame({"user_id": [1, 2], "events": [10, 20], "event_timestamp": [noon, noon]})
features.to_parquet(f"{folder}/users.parquet")
labels = {
    "one user, three items at once": [(1, "a", noon), (1, "b", noon), (1, "c", noon)],
    "before the features": [(1, "a", noon - hour), (2, "b", noon + hour)],
    "features older than a day": [(1, "a", noon + 30 * hour), (2, "b", noon + hour)],
    "a user without features": [(9, "a", noon), (2, "b", noon)],
}
user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.INT64)
source = FileSource(name="users", path=f"{folder}/users.parquet", timestamp_field="event_timestamp")
schema = [Field(name="events", dtype=Int64)]
view = FeatureView(name="of_user", entities=[user], ttl=timedelta(days=1), schema=schema, source=source)
found = {}
for kind in ("dask", "duckdb"):
    config = RepoConfig(
        project="shop",
        provider="local",
        registry=f"{folder}/{kind}.db",
        offline_store={"type": kind},
        online_store={"type": "sqlite", "path": f"{folder}/{kind}-online.db"},
        entity_key_serialization_version=3,
    )
    store = FeatureStore(config=config)
    store.apply([user, view])
    for name, rows in labels.items():
        asked = pd.DataFrame(rows, columns=["user_id", "item", "event_timestamp"])
        answered = store.get_historical_features(asked, features=["of_user:events"]).to_df()
        found[kind, name] = len(answered)
        print(f"feast {feast.__version__}, {kind}, {name}: items {list(asked['item'])} -> {sorted(answered['item'])}")
same = [found["dask", name] for name in labels] == [1, 1, 1, 2]
same = same and all(found["duckdb", name] == len(rows) for name, rows in labels.items())
sys.exit(0 if same else "the behaviour has changed")
PYTHON
"$folder/env/bin/python" -W ignore "$folder/show.py" "$folder"
