"""Parts of the spawner and the service that need no hub: the form, the pending page's messages, errors at the hub's edge, the service's lock."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from docker.errors import APIError
from dockerspawner import DockerSpawner
from tornado.web import HTTPError

from hubdock.core.errors import ConfigError, GPUUnavailable, InvalidRef
from hubdock.service import lock
from hubdock.spawner import form
from hubdock.spawner.docker import HubDockSpawner, make_security_opt
from hubdock.spawner.form import FormMemory, render_form
from hubdock.spawner.mixin import make_hub_error
from hubdock.spawner.progress import KEEP, Progress

# --- the hub's own form ---


class Fields(HTMLParser):
    """The tags of a page, and the values of its inputs."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.values: dict[str, str] = {}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        found = dict(attrs)
        assert not [name for name in found if name.startswith("on")], found
        if tag == "input" and found.get("name"):
            self.values[str(found["name"])] = found.get("value") or ""


HOSTILE = "\"><script>alert(1)</script><img src=x onerror=alert(1)>' & {{ 7*7 }}"


def test_the_form_keeps_its_values_and_nothing_becomes_html() -> None:
    values = {"repo": HOSTILE, "ref": HOSTILE, "new_branch": HOSTILE, "cpu": "2", "memory": HOSTILE}
    fields = Fields(render_form(values, True))
    assert {name: fields.values[name] for name in values} == values
    assert not {"script", "img"} & fields.tags
    assert {"repo", "ref", "new_branch", "gpu"} <= set(fields.values)


def test_the_form_asks_for_gpus_only_where_there_are_some() -> None:
    assert "gpu" not in Fields(render_form({}, False)).values


def test_what_a_user_typed_is_kept_for_them_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = FormMemory()
    memory.keep("alice", {"repo": "x" * 5000, "ref": "", "password": "p", "image": "i"})
    assert memory.read("alice") == {"repo": "x" * 2048}
    assert memory.read("bob") == {}
    monkeypatch.setattr(form, "MOST", 2)
    for user in ("bob", "alice", "carol"):
        memory.keep(user, {"repo": user})
    assert [memory.read(user) for user in ("alice", "bob", "carol")] == [{"repo": "alice"}, {}, {"repo": "carol"}]


# --- the pending page ---


def told(words: str, percent: int, **more: Any) -> dict[str, Any]:
    return {"words": words, "percent": percent, "queued": "", "notices": [], "over": False, **more}


def test_the_bar_never_goes_back_and_ends_with_the_hub() -> None:
    shown = Progress()
    seen = []
    for percent in (33, 20, 36, 36, 100):
        shown.take(told("Making the environment", percent))
        seen.append(shown.percent)
    assert seen == [33, 33, 36, 36, 99]
    assert shown.messages == [{"progress": 33, "message": "Making the environment"}, {"progress": 36}, {"progress": 99}]


def test_messages_are_the_words_of_hubdock_s_page() -> None:
    shown = Progress()
    for state in (
        told("Waiting for a free place: number 2 in the queue", 0, queued="number 2 in the queue"), told("Fetching the data: <b>x</b>", 5, notices=["told"]),
        told("Fetching the data: <b>x</b>", 5, notices=["told"]), told("It failed", 6, over=True),
    ):  # fmt: skip
        shown.take(state)
    assert all(set(message) <= {"progress", "message"} for message in shown.messages)  # never html_message
    assert [message["message"] for message in shown.messages if "message" in message] == ["Waiting for a free place: number 2 in the queue", "told", "Fetching the data: <b>x</b>"]
    assert shown.position == "" and shown.percent == 6


async def read_all(shown: Progress) -> list[str]:
    return [message["message"] async for message in shown.read()]


async def test_every_reader_gets_everything_whenever_it_comes() -> None:
    shown = Progress()
    shown.say("one")
    early = [asyncio.create_task(read_all(shown)) for _ in range(3)]
    await asyncio.sleep(0.01)
    for text in ("two", "three"):
        shown.say(text)
        await asyncio.sleep(0)
    late = asyncio.create_task(read_all(shown))
    await asyncio.sleep(0.01)
    shown.end()
    assert [await asyncio.wait_for(task, 2) for task in (*early, late)] == [["one", "two", "three"]] * 4
    assert await read_all(shown) == ["one", "two", "three"]


async def test_a_flood_is_bounded() -> None:
    shown = Progress()
    for number in range(KEEP + 100):
        shown.say(str(number))
    shown.end()
    assert len(shown.messages) == KEEP
    assert await read_all(shown) == [str(number) for number in range(100, KEEP + 100)]


# --- the hub's edge ---


@pytest.mark.parametrize(("error", "status"), [(InvalidRef("100% <b>wrong</b> %s"), 400), (GPUUnavailable("All taken."), 503)])
def test_errors_become_the_hub_s_own(error: Any, status: int) -> None:
    found = make_hub_error(error)
    assert isinstance(found, HTTPError) and found.status_code == status
    assert found.jupyterhub_message == str(error)  # type: ignore[attr-defined]  # what every page of 5.x and 6.x shows
    assert str(found)  # a message with % must not break the log


# --- what the stock spawner is given ---


@pytest.mark.parametrize(
    ("given", "options"),
    [
        (None, ["no-new-privileges"]),
        (["seccomp=unconfined"], ["seccomp=unconfined", "no-new-privileges"]),
        (["no-new-privileges:false"], ["no-new-privileges:false"]),
        (("no-new-privileges=true", "label=disable"), ["no-new-privileges=true", "label=disable"]),
    ],
)
def test_servers_gain_no_privileges_unless_the_admin_says_so(given: Any, options: list[str]) -> None:
    assert make_security_opt(given) == options


@pytest.mark.parametrize("callable_", [False, True])
async def test_the_admin_s_host_configuration_is_kept(monkeypatch: pytest.MonkeyPatch, callable_: bool) -> None:
    admin = {"pids_limit": 4096, "security_opt": ["apparmor=unconfined"]}
    seen: list[Any] = []

    async def create(self: Any) -> None:
        seen.append(self.extra_host_config)

    monkeypatch.setattr(DockerSpawner, "create_object", create)
    spawner = HubDockSpawner(_mock=True, extra_host_config=(lambda spawner: admin) if callable_ else admin)
    spawner.launch = {"labels": {}, "resources": {"memory": 1024**3}}
    before = spawner.extra_host_config
    await spawner.create_object()
    assert seen == [
        {"pids_limit": 4096, "auto_remove": False, "mem_limit": 1024**3, "security_opt": ["apparmor=unconfined", "no-new-privileges"]}
    ]
    assert spawner.extra_host_config == before and admin["security_opt"] == ["apparmor=unconfined"]


async def test_a_container_that_a_broken_start_left_running_makes_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine refuses to remove what runs, and the next start, whose container has the same name, would fail."""
    asked: list[str] = []

    async def ask(self: Any, method: str, *_: Any, **more: Any) -> None:
        asked.append(method)
        if asked == ["remove_container"]:
            raise APIError("Conflict", SimpleNamespace(status_code=409), "cannot remove container: container is running")

    monkeypatch.setattr(DockerSpawner, "docker", ask)
    spawner = HubDockSpawner(_mock=True)
    spawner.object_id = "c0ffee"
    await spawner.remove_object()
    assert asked == ["stop", "remove_container"]


# --- one service for each state directory ---

HOLD = "import sys, time\nfrom pathlib import Path\nfrom hubdock.service import lock\nf = lock.take(Path(sys.argv[1]))\nprint('held', flush=True)\ntime.sleep(60)"


@pytest.fixture
def orphan(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A service whose hub is gone."""
    code = f"import subprocess, sys\nc = subprocess.Popen([sys.executable, '-c', {HOLD!r}, sys.argv[1]])\nprint(c.pid, flush=True)\nimport time\ntime.sleep(60)"
    hub = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert hub.stdout is not None
    pid = int(hub.stdout.readline())
    assert hub.stdout.readline() == "held\n"
    hub.service = pid  # type: ignore[attr-defined]
    yield hub
    for number in (pid, hub.pid):
        try:
            os.kill(number, signal.SIGKILL)
        except ProcessLookupError:
            continue
    hub.wait()
    hub.stdout.close()


def test_the_service_of_a_living_hub_keeps_its_state(orphan: subprocess.Popen[str], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"Another hub \(process {orphan.pid}\) uses the state directory {tmp_path}"):
        lock.take(tmp_path)


def test_an_orphan_is_replaced_at_once(orphan: subprocess.Popen[str], tmp_path: Path) -> None:
    orphan.kill()
    orphan.wait()
    began = time.monotonic()
    with lock.take(tmp_path):
        assert time.monotonic() - began < 2
        assert not lock.start_time(orphan.service) or is_zombie(orphan.service)  # type: ignore[attr-defined]
        holder = json.loads((tmp_path / "service.lock").read_text())
        assert (holder["pid"], holder["hub"]) == (os.getpid(), os.getppid())


def is_zombie(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def test_a_pid_that_is_somebody_else_s_by_now_is_left_alone(tmp_path: Path) -> None:
    bystander = subprocess.Popen(["sleep", "60"])
    try:
        lock._signal({"pid": bystander.pid, "start": "1"}, signal.SIGKILL)
        time.sleep(0.05)
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()
