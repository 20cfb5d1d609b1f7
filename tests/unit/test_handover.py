"""What a server is given when it starts: kept over a restart, and given to the server of its latest launch alone."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

import pytest

from hubdock.engine.handover import LIFE, Handovers

START = "/hubdock/run/start.json"


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    path = tmp_path / "history.pack"
    path.write_bytes(b"PACK")
    return path


def test_the_latest_launch_of_a_server_is_kept(tmp_path: Path, pack: Path) -> None:
    handovers = Handovers(tmp_path)
    handovers.keep("b1", "alice", "one", {START: b'{"n": 1}', "/hubdock/run/history.pack": pack})
    handovers.keep("b2", "alice", "", {START: b'{"n": 2}'})
    handovers.keep("b1", "alice", "one", {START: b'{"n": 3}', "/hubdock/run/history.pack": pack})
    again = Handovers(tmp_path)  # the service was restarted
    assert again.find("b1", "alice", "one") == {START: b'{"n": 3}', "/hubdock/run/history.pack": pack}
    assert again.find("b2", "alice", "") == {START: b'{"n": 2}'}
    again.keep("b3", "alice", "", {START: b"{}"})
    assert again.find("b2", "alice", "") is None and again.find("b3", "alice", "") == {START: b"{}"}


@pytest.mark.parametrize("who", [("b1", "bob", "one"), ("b1", "alice", "two"), ("b2", "alice", "one"), ("b1", "aliceo", "ne"), ("b1", "../alice", "one")])
def test_nobody_else_is_given_anything(tmp_path: Path, who: tuple[str, str, str]) -> None:
    handovers = Handovers(tmp_path)
    handovers.keep("b1", "alice", "one", {START: b"{}"})
    assert handovers.find(*who) is None


def test_records_are_closed_to_others_and_do_not_stay_for_ever(tmp_path: Path) -> None:
    handovers = Handovers(tmp_path)
    for server in ("old", "new"):
        handovers.keep("b1", "alice", server, {START: b"{}"})
    (old,) = [path for path in (tmp_path / "handovers").iterdir() if '"old"' in path.read_text()]
    os.utime(old, (time.time() - LIFE - 1,) * 2)
    assert stat.S_IMODE(old.stat().st_mode) == 0o600 and stat.S_IMODE((tmp_path / "handovers").stat().st_mode) == 0o700
    again = Handovers(tmp_path)
    assert again.find("b1", "alice", "old") is None and again.find("b1", "alice", "new") is not None
