"""Ports for servers: two processes that look for some at the same time never get the same."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ensemble.server.ports import free_ports
from workflows.errors import ServerError

ROOT = Path(__file__).parents[2]
ASK = """
import sys
from ensemble.server.ports import free_ports
print(*(port for _ in range(100) for port in free_ports("127.0.0.1", 3)), flush=True)
sys.stdin.read()
"""


def test_no_two_processes_get_the_same_port() -> None:
    asking = [
        subprocess.Popen(
            [sys.executable, "-c", ASK], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    ports = []
    for process in asking:
        assert process.stdout is not None
        ports.append({int(port) for port in process.stdout.readline().split()})
    for process in asking:
        process.communicate()
    ports.append({port for _ in range(100) for port in free_ports("127.0.0.1", 3)})
    assert all(ports)
    assert sum(map(len, ports)) == len(set.union(*ports))


def test_ports_of_one_call_differ_and_too_many_are_refused() -> None:
    ports = free_ports("127.0.0.1", 20)
    assert len(set(ports)) == 20
    with pytest.raises(ServerError, match="were looked for"):
        free_ports("127.0.0.1", 1000)
