#!/usr/bin/env bash
# milvus-lite 3.2.2 with pymilvus 3.0.2, by the quick start (`create_collection(name, dimension=...)`, which makes an
# AUTOINDEX): a search with a filter gives all answers until the rows have been flushed and, in the background, the index
# has been built; then the same search gives other answers, and most are gone. Rows without an index are searched one by one; from
# then on the search goes through an HNSW graph with a width of 64, in which rows that the filter leaves out take part.
# - 10 of 10,000 rows fit the filter: 10 answers at first, fewer than 3 later.
# - 100 fit: recall@10 is 1.0 at first, and below 0.8 later.
# So a test that writes, searches and ends is right, and what is served from the same file is not. Without a filter recall@10 is
# still above 0.9. There is no error and no warning. Nor is there one where `index_params` with another index is given beside
# `dimension`: it is ignored, and the index is an AUTOINDEX again.
# Remedy: index_type="FLAT" with a schema, which stays right; or `search_params={"params": {"ef": ...}}` as large as the collection.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check milvus-lite==3.2.2 pymilvus==3.0.2 faiss-cpu==1.15.1 numpy==2.2.6 "setuptools<81"
cat >"$folder/show.py" <<'PYTHON'
import logging
import sys
import time
from importlib.metadata import version

import numpy as np
from pymilvus import DataType, MilvusClient

logging.disable(logging.CRITICAL)
ROWS, DIMENSION, K, SECONDS = 10_000, 32, 10, 60
random = np.random.default_rng(0)
vectors, queries = (random.normal(size=(rows, DIMENSION)).astype(np.float32) for rows in (ROWS, 30))
vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
brands, genres = np.arange(ROWS) % 1_000, np.arange(ROWS) % 100


def show(what, client, name, **settings):
    seen = []
    for fits, condition in ((brands >= 0, ""), (brands == 1, "brand == 1"), (genres == 1, "genre == 1")):
        among = np.flatnonzero(fits)
        best = among[np.argsort(-queries @ vectors[among].T, axis=1)[:, :K]].tolist()
        answers = [[hit["id"] for hit in hits] for hits in client.search(name, queries.tolist(), limit=K, filter=condition, **settings)]
        seen.append((np.mean([len(row) for row in answers]), np.mean([len(set(row) & set(right)) / K for row, right in zip(answers, best)])))
    text = "; ".join(f"{when} {number:.1f} answers, recall {recall:.2f}" for when, (number, recall) in zip(("all", "10 fit", "100 fit"), seen))
    print(f"  {what}: {text}")
    return seen


def fill(client, name):
    for some in np.array_split(np.arange(ROWS), 10):
        client.insert(name, [{"id": int(i), "vector": vectors[i].tolist(), "brand": int(brands[i]), "genre": int(genres[i])} for i in some])


print(f"milvus-lite {version('milvus-lite')}, pymilvus {version('pymilvus')}, faiss-cpu {version('faiss-cpu')}")
client = MilvusClient(sys.argv[1])
client.create_collection("quick", dimension=DIMENSION)
fill(client, "quick")
first = show("just written", client, "quick")
index = client.prepare_index_params()
index.add_index("vector", index_type="FLAT", metric_type="COSINE")
schema = client.create_schema(auto_id=False, enable_dynamic_field=True)
schema.add_field("id", DataType.INT64, is_primary=True)
schema.add_field("vector", DataType.FLOAT_VECTOR, dim=DIMENSION)
client.create_collection("flat", schema=schema, index_params=index)
client.create_collection("ignored", dimension=DIMENSION, index_params=index)
kinds = [client.describe_index(name, "vector")["index_type"] for name in ("quick", "flat", "ignored")]
print(f"  index by the quick start {kinds[0]}; FLAT with a schema {kinds[1]}; FLAT beside dimension {kinds[2]}")
fill(client, "flat")
for name in ("flat", "quick"):
    client.flush(name)
flushed = show("flushed", client, "quick")
for _ in range(SECONDS):  # the index is built in the background
    time.sleep(1)
    if len(client.search("quick", queries[:1].tolist(), limit=K, filter="brand == 1")[0]) < K:
        break
later, flat = show("some seconds later", client, "quick"), show("some seconds later, FLAT", client, "flat")
wide = show(f"... ef {ROWS:,}", client, "quick", search_params={"params": {"ef": ROWS}})
client.close()
client = MilvusClient(sys.argv[1])
client.load_collection("quick")
again = show("opened again", client, "quick")
client.close()
as_described = min(recall for _, recall in first + flat) > 0.99 and min(recall for _, recall in wide) > 0.95
as_described &= kinds == ["AUTOINDEX", "FLAT", "AUTOINDEX"]
for seen in (later, again):
    as_described &= seen[0][1] > 0.9 and seen[1][0] < 3 and seen[2][1] < 0.8
print("as described" if as_described else "CHANGED")
sys.exit(not as_described)
PYTHON
"$folder/env/bin/python" "$folder/show.py" "$folder/items.db"
