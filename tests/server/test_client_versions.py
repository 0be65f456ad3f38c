"""The client works where training cannot be installed: newer Pythons, with the package's own dependencies alone."""

from __future__ import annotations

import json
import subprocess

import pytest

from ensemble.client import RetrievalClient
from tests.environments import ROOT, client_python
from tests.served import Served

ASK = """
import asyncio, json, sys
from ensemble.client.aio import AsyncRetrievalClient
from ensemble.client import RetrievalClient
address, users = sys.argv[1], json.loads(sys.argv[2])

async def concurrently():
    async with AsyncRetrievalClient(address) as client:
        return await client.recommend(users, top_k=7)

with RetrievalClient(address) as client:
    answers = [client.recommend(users, top_k=7), asyncio.run(concurrently())]
assert "tensorflow" not in sys.modules and "pandas" not in sys.modules
print(json.dumps([[[row.item_ids, row.scores] for row in rows] for rows in answers]))
"""


@pytest.mark.server
@pytest.mark.parametrize("run", ["string"], indirect=True)
@pytest.mark.parametrize("version", ["3.12", "3.13"])
def test_the_client_asks_from_a_python_that_has_no_tensorflow(served: Served, version: str) -> None:
    with RetrievalClient(served.address) as client:
        own = client.recommend(served.users, top_k=7)
    command = [client_python(version), "-c", ASK, served.address, json.dumps(served.users)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    expected = [[row.item_ids, row.scores] for row in own]
    assert json.loads(done.stdout) == [expected, expected]
