"""An example of every kind of feature, for the recipe reference: lines of `[query.features]` or `[item.features]`."""

from __future__ import annotations

from typing import Final

EXAMPLES: Final = {
    "categorical": """\
[query.features]
user_id = { kind = "categorical" }
occupation = { kind = "categorical", min_frequency = 5 }
device_id = { kind = "categorical", hash_buckets = 100_000 }                    # an open id space
city = { kind = "categorical", max_size = 50_000, hash_buckets = 1_000 }        # the rest shares 1,000 codes
home_country = { kind = "categorical", vocabulary = "countries" }
current_country = { kind = "categorical", vocabulary = "countries" }            # one vocabulary, one table
""",
    "cross": """\
[query.features]
country_and_device = { kind = "cross", of = ["country", "device"], max_size = 10_000 }
age_and_gender = { kind = "cross", of = ["age", "gender"], edges = { age = [18, 25, 35, 50] } }
user_and_city = { kind = "cross", of = ["user_id", "city"], hash_buckets = 1_000_000 }
""",
    "continuous": """\
[item.features]
price = { kind = "continuous", log = true }
rating_mean = { kind = "continuous", clip_min = 1.0, clip_max = 5.0, normalise = "min-max", fill = 3.0 }
share = { kind = "continuous", normalise = false }
""",
    "bucketized": """\
[query.features]
timestamp = { kind = "bucketized", buckets = 60 }
income = { kind = "bucketized", method = "quantile", buckets = 20 }
age = { kind = "bucketized", edges = [18, 25, 35, 50, 65] }
""",
    "time": """\
[query.features]
timestamp = [
    { kind = "time", part = "hour", cyclic = true },
    { kind = "time", part = "weekday", utc_offset_hours = 1.0 },
]
""",
    "age": """\
[query.features]
registered = { kind = "age", unit = "days", log = true }                        # at the query's time

[item.features]
released = { kind = "age", until = "added_to_catalogue", unit = "years", clip_min = 0.0 }
""",
    "multi-hot": """\
[item.features]
genres = { kind = "multi-hot", max_length = 8 }
tags = { kind = "multi-hot", weights = "tag_relevance", max_size = 5_000, max_length = 32 }
viewed_before = { kind = "multi-hot", keep = "last", padding = "left", max_length = 20 }
""",
    "text": """\
[item.features]
title = { kind = "text", ngrams = 2, max_tokens = 20_000, max_length = 24 }
""",
    "embedding": """\
[item.features]
picture = { kind = "embedding" }                                                # a column of vectors
item_id = [
    { kind = "categorical" },
    { kind = "embedding", file = "title_vectors.npy", ids = "title_ids.npy" },  # frozen
]

[query.features]
user_id = { kind = "embedding", file = "users.parquet", id_column = "user", vector_column = "v", trainable = true }
""",
    "aggregate": """\
[query.features]
user_id = [{ kind = "categorical" }, { kind = "aggregate" }]

[item.features]
item_id = [{ kind = "categorical" }, { kind = "aggregate", statistics = ["count", "recency"] }]
""",
    "sequence": """\
[query.features]
user_id = { kind = "categorical" }
history = { kind = "sequence", last = 50 }
""",
}
