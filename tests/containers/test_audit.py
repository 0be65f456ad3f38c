"""`make audit`: a locked version with a known advisory, and no word of what it means here, does not pass."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from tests.containers.tools import ROOT

LOCK = """keras==2.12.0 \\
    --hash=sha256:00
numpy==1.24.3 ; python_version < '3.11'
numpy==2.5.5 ; python_version >= '3.11'
"""
KNOWN = 'as_of = 2026-11-28\n[[advisory]]\npackage = "keras"\nverdict = "{}"\naffected.CVE-2024-3660 = ["<2.13.1rc0"]\n'


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A project with a lock, and an empty list of advisories."""
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements/lock.txt").write_text(LOCK)
    (tmp_path / "list.toml").write_text("as_of = 2020-01-01\n")
    return tmp_path


def audit(place: Path | None, *options: object) -> tuple[int, str]:
    """Return exit code and output of the command on a project; None: on this one."""
    where = [] if place is None else ["--root", place, "--list", place / "list.toml"]
    command = [sys.executable, ROOT / "requirements/audit.py", *where, *options]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def test_every_known_advisory_of_what_is_locked_here_has_a_verdict() -> None:
    code, output = audit(None, "--offline")
    assert (code, "each has a verdict" in output) == (0, True), output


@pytest.mark.parametrize(("verdict", "code"), [("", 1), ("Accepted: no models of others.", 0)])
def test_an_advisory_of_the_list_needs_a_verdict(place: Path, verdict: str, code: int) -> None:
    (place / "list.toml").write_text(KNOWN.format(verdict))
    exit_code, output = audit(place, "--offline")
    assert exit_code == code, output
    message = "keras 2.12.0 (requirements/lock.txt): CVE-2024-3660 has no verdict"
    assert (message in output) == bool(code), output


def test_a_verdict_is_about_the_versions_that_it_names_alone(place: Path) -> None:
    (place / "list.toml").write_text(KNOWN.format("Accepted.").replace("<2.13.1rc0", "<2.11"))
    advisory = {"id": "PYSEC-2024-1", "aliases": ["CVE-2024-3660"], "affected": [{"versions": ["2.11.0", "2.12.0"]}]}
    (place / "vulns/keras").mkdir(parents=True)
    (place / "vulns/keras/PYSEC-2024-1.yaml").write_text(json.dumps(advisory))
    code, output = audit(place, "--offline", "--database", place)
    assert (code, "keras 2.12.0 (requirements/lock.txt): CVE-2024-3660, PYSEC-2024-1" in output) == (1, True), output


class Osv(BaseHTTPRequestHandler):
    """A service that knows one advisory, of NumPy 2.5.5."""

    def do_POST(self) -> None:
        query = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        hole = {"id": "GHSA-made-up", "aliases": ["CVE-0000-1"], "details": "", "affected": []}
        known = (query["package"]["name"], query["version"]) == ("numpy", "2.5.5")
        answer = json.dumps({"vulns": [hole]} if known else {}).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@pytest.fixture
def osv() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Osv) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/v1/query"
        server.shutdown()


def test_what_a_service_knows_of_any_locked_version_is_added_and_waits_for_a_verdict(place: Path, osv: str) -> None:
    code, output = audit(place, "--osv-url", osv, "--write")
    assert (code, "numpy 2.5.5 (requirements/lock.txt): CVE-0000-1, GHSA-made-up" in output) == (1, True), output
    assert "of 3 pins" in output
    code, output = audit(place, "--offline")
    assert (code, "CVE-0000-1 has no verdict" in output) == (1, True), output
    text = (place / "list.toml").read_text()
    (place / "list.toml").write_text(text.replace('verdict = ""', 'verdict = "Fixed by the next one."'))
    code, output = audit(place, "--osv-url", osv)
    assert code == 0, output


def test_no_answer_is_not_taken_for_no_advisory(place: Path) -> None:
    code, output = audit(place, "--osv-url", "http://127.0.0.1:9/v1/query")
    assert (code, "the list of 2020-01-01 is all that is known" in output) == (0, True), output
