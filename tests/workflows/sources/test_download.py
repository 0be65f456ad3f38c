"""Downloads resume, are verified, and never leave a wrong file under the right name."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from workflows.errors import DownloadError
from workflows.sources.download import download, is_cached

Publish = Callable[..., AbstractContextManager[Any]]


def md5_of(content: bytes) -> str:
    return "md5:" + hashlib.md5(content).hexdigest()


def test_a_broken_download_goes_on_where_it_broke_off(publish: Publish, tmp_path: Path) -> None:
    content = bytes(range(256)) * 4096
    with publish(content, cuts=[300_000, 500_000]) as server:
        path = download(server.url, md5_of(content), tmp_path / "got", lambda line: None)
    assert path.read_bytes() == content
    assert server.ranges == [None, "bytes=300000-", "bytes=800000-"]


def test_a_server_that_never_goes_on_is_given_up_and_the_next_call_resumes(publish: Publish, tmp_path: Path) -> None:
    content = b"x" * 1000
    checksum = md5_of(content)
    with publish(content, cuts=[400, 0, 0, 0]) as server:
        with pytest.raises(DownloadError, match=r"broke off at 400 bytes; run the command again"):
            download(server.url, checksum, tmp_path / "got", lambda line: None)
        assert not (tmp_path / "got").exists()
        download(server.url, checksum, tmp_path / "got", lambda line: None)
    assert server.ranges[-1] == "bytes=400-"
    assert is_cached(tmp_path / "got", checksum)


def test_a_leftover_longer_than_the_file_is_thrown_away(publish: Publish, tmp_path: Path) -> None:
    content = b"right"
    (tmp_path / "got.part").write_bytes(b"something else")
    with publish(content) as server:
        download(server.url, md5_of(content), tmp_path / "got", lambda line: None)
    assert (tmp_path / "got").read_bytes() == content
