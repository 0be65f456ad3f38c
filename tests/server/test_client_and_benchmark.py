"""The client and the benchmark against a real Triton."""

from __future__ import annotations

import asyncio
import json
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from ensemble.client import InvalidRequest, Recommendations, RetrievalClient, Unavailable
from ensemble.client.aio import AsyncRetrievalClient
from ensemble.client.tensors import Query
from ensemble.measure.benchmark import BenchmarkError, Target, benchmark, draw_requests
from ensemble.measure.counters import read_counters
from ensemble.measure.status import metrics_address
from tests.served import Served

pytestmark = pytest.mark.server


def test_answers_are_python_values_best_first_and_of_the_catalogue(served: Served, client: RetrievalClient) -> None:
    answers = client.recommend(np.array(served.users), top_k=7)
    kind = str if served.id_type == "BYTES" else int
    for answer in answers:
        assert len(answer.item_ids) == len(answer.scores) == 7
        assert all(type(item) is kind for item in answer.item_ids)
        assert all(type(score) is float for score in answer.scores)
        assert answer.scores == sorted(answer.scores, reverse=True)
        assert answer.user_known is True
    assert {item for answer in answers for item in answer.item_ids} <= set(served.run.items["item_id"])


def test_more_rows_than_a_request_holds_are_answered_in_order(served: Served, client: RetrievalClient) -> None:
    users = (served.users * 5)[:200]
    single = {user: client.recommend([user], top_k=3)[0].item_ids for user in served.users}
    assert [answer.item_ids for answer in client.recommend(users, top_k=3)] == [single[user] for user in users]
    assert client.recommend([]) == []


def test_excluded_items_are_left_out_each_row_for_itself(served: Served, client: RetrievalClient) -> None:
    user = served.users[0]
    best = client.recommend([user], top_k=6)[0].item_ids
    none, first, three = client.recommend([user] * 3, top_k=3, exclude_item_ids=[[], best[:1], best[:3]])
    assert [none.item_ids, first.item_ids, three.item_ids] == [best[:3], best[1:4], best[3:6]]


def test_the_release_says_how_many_answers_come_by_default(served: Served, client: RetrievalClient) -> None:
    assert client.signature().default_top_k == 10
    assert len(client.recommend([served.stranger])[0].item_ids) == 10


def test_columns_sent_override_what_the_release_knows(served: Served, client: RetrievalClient) -> None:
    ages = client.recommend([served.users[0]] * 2, top_k=5, columns={"age": [15, 75.0]})
    assert ages[0].scores != ages[1].scores


def test_threads_may_share_a_client(served: Served, client: RetrievalClient) -> None:
    single = [client.recommend([user], top_k=4)[0] for user in served.users]
    with ThreadPoolExecutor(8) as threads:
        shared = list(threads.map(lambda user: client.recommend([user], top_k=4)[0], served.users))
    assert [answer.item_ids for answer in shared] == [answer.item_ids for answer in single]


def test_a_model_that_is_not_served_is_unavailable(served: Served) -> None:
    with RetrievalClient(served.address, model="other") as client, pytest.raises(Unavailable, match="'other'"):
        client.recommend([1])


def test_status_finds_the_metrics_of_the_server_that_it_is_given(served: Served) -> None:
    assert metrics_address(served.address) == f"127.0.0.1:{served.server.addresses.metrics_port}"


def test_the_benchmark_measures_the_server_with_the_requests_given(served: Served) -> None:
    target = Target(served.address, server_pid=served.server.process_id, measurement_interval_ms=200)
    requests = draw_requests(served.run.path, 100, top_k=5)
    assert set(requests.user_ids) <= set(served.users)
    before = read_counters(served.address, "retrieval", served.server.process_id)
    points = benchmark(target, requests, batches=(1, 4), concurrencies=(2,))
    after = read_counters(served.address, "retrieval", served.server.process_id)
    assert [(point.batch, point.concurrency) for point in points] == [(1, 2), (4, 2)]
    for point in points:
        assert 0 < point.p50_ms <= point.p90_ms <= point.p95_ms <= point.p99_ms
        assert point.rows_per_s > 0
        assert point.server_cpu_ms_per_row is not None
        assert point.server_cpu_ms_per_row > 0
    assert after.rows > before.rows
    stubs = set(after.cpu_s) - {served.server.process_id}
    assert stubs, "the model's own process is not counted"
    assert os.getpid() not in after.cpu_s


def test_ragged_exclusions_can_be_measured(served: Served) -> None:
    items = served.run.items["item_id"].tolist()
    requests = Query(served.users[:8], 5, [items[:length] for length in range(8)])
    points = benchmark(
        Target(served.address, measurement_interval_ms=100), requests, batches=(1, 2), concurrencies=(1,)
    )
    assert [point.server_cpu_ms_per_row for point in points] == [None, None]


def test_what_perf_analyzer_complains_about_is_the_error(served: Served) -> None:
    requests = Query(served.users, 5)
    with pytest.raises(BenchmarkError, match="batch-size must be <= 64 for 'retrieval'"):
        benchmark(Target(served.address, measurement_interval_ms=100), requests, batches=(65,), concurrencies=(1,))


def test_the_asyncio_client_gives_the_same_answers_at_once_over_one_connection(
    served: Served, client: RetrievalClient
) -> None:
    async def ask_all() -> list[list[Recommendations]]:
        async with AsyncRetrievalClient(served.address) as asyncio_client:
            return await asyncio.gather(*(asyncio_client.recommend([user] * 2, top_k=4) for user in served.users))

    assert asyncio.run(ask_all()) == [client.recommend([user] * 2, top_k=4) for user in served.users]


def test_the_asyncio_client_raises_by_meaning(served: Served) -> None:
    async def ask(user: object, **options: Any) -> None:
        async with AsyncRetrievalClient(served.address, **options) as asyncio_client:
            await asyncio_client.recommend([user], top_k=10**9)

    for options, kind in (({}, InvalidRequest), ({"model": "other"}, Unavailable)):
        with pytest.raises(kind):
            asyncio.run(ask(served.users[0], **options))


def test_an_answer_says_which_release_gave_it(served: Served, client: RetrievalClient) -> None:
    manifest = json.loads((served.server.repository / "retrieval/1/release/manifest.json").read_text(encoding="utf-8"))
    assert {answer.release for answer in client.recommend(served.users)} == {manifest["release"]}
