"""Starts from the page, against a hub that is played: what is asked of it, what is told, and what Cancel stops."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hubdock.core.errors import HubDockError, LaunchError, RequestError
from hubdock.core.estimate import Estimate
from hubdock.core.events import Phase
from hubdock.core.options import parse_options
from hubdock.engine.build import Build
from hubdock.service.hub import _name_server
from hubdock.service.starts import Start, Starts

OPTIONS = parse_options({"repo": "https://example.org/team/project", "ref": "main", "memory": "1G"})


class Hub:
    """A hub with one user, whose servers start when the test says so."""

    def __init__(self) -> None:
        self.servers: dict[str, dict[str, Any]] = {"": {"ready": True, "pending": None}}
        self.calls: list[tuple[str, str]] = []
        self.answer: HubDockError | None = None
        self.told: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def read_servers(self, token: str, user: str) -> dict[str, dict[str, Any]]:
        assert (token, user) == ("t", "alice")
        return {name: dict(server) for name, server in self.servers.items()}

    async def start_server(self, token: str, user: str, server: str, options: dict[str, Any]) -> bool:
        self.calls.append(("start", server))
        if self.answer is not None:
            raise self.answer
        self.servers[server] = {"ready": False, "pending": "spawn", "user_options": options}
        return False

    async def follow_server(self, token: str, user: str, server: str) -> AsyncIterator[dict[str, Any]]:
        while True:
            event = await self.told.get()
            if event.get("ready") or event.get("failed"):
                self.servers[server] |= {"ready": bool(event.get("ready")), "pending": None}
            yield event

    async def stop_server(self, token: str, user: str, server: str) -> None:
        self.calls.append(("stop", server))
        self.servers.pop(server, None)


class Builds:
    """What a start needs of the engine."""

    def __init__(self, state: Path) -> None:
        self.settings = SimpleNamespace(state=state, wait_timeout=5.0)
        self.rows: list[Any] = []
        self.database = SimpleNamespace(record_task=self.rows.append)
        self.left: list[tuple[str, str]] = []

    async def in_thread(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    async def leave(self, build: Build, user: str, server: str = "") -> None:
        self.left.append((user, server))


@pytest.fixture
def hub() -> Hub:
    return Hub()


@pytest.fixture
def builds(tmp_path: Path) -> Builds:
    return Builds(tmp_path)


@pytest.fixture
def starts(hub: Hub, builds: Builds) -> Starts:
    return Starts(hub, builds)  # type: ignore[arg-type]


def make_build(done: bool = True) -> Build:
    plan = SimpleNamespace(launch=Estimate(4.0, 3))
    assembly = SimpleNamespace(plan=plan, options=OPTIONS, remote=SimpleNamespace(repo=OPTIONS.repo), source=SimpleNamespace(files=3))
    build = Build(assembly, "b" * 32)  # type: ignore[arg-type]
    if done:
        finish(build)
    return build


def finish(build: Build) -> None:
    build.finished = time.time()
    build.done.set()


async def wait_for(condition: Any) -> None:
    until = time.monotonic() + 3
    while not condition():
        assert time.monotonic() < until
        await asyncio.sleep(0.01)


def begin(starts: Starts, build: Build) -> Start:
    return starts.begin("alice", "t", "project-main", OPTIONS, build)


async def test_from_build_to_server(starts: Starts, hub: Hub, builds: Builds) -> None:
    build = make_build(done=False)
    start = begin(starts, build)
    assert begin(starts, build) is start, "the same click again"
    await asyncio.sleep(0.02)
    assert hub.calls == [] and start.phase is Phase.BUILDING
    finish(build)
    hub.told.put_nowait({"progress": 60, "message": "Starting the server"})
    await wait_for(lambda: start.launch.message)
    assert start.taken and start.phase is Phase.LAUNCHING and start.launch.message == "Starting the server"
    hub.told.put_nowait({"progress": 100, "ready": True})
    await wait_for(lambda: not start.lasts and builds.rows)
    assert (start.phase, start.error, hub.calls) == (Phase.READY, None, [("start", "project-main")])
    assert (builds.rows[0].kind, builds.rows[0].status) == ("launch", "ready") and builds.rows[0].seconds < 3
    assert not list((builds.settings.state / "starts").iterdir())


@pytest.mark.parametrize("told", [True, False], ids=["by its progress", "at once"])
async def test_a_server_that_fails(starts: Starts, hub: Hub, told: bool) -> None:
    if told:
        hub.told.put_nowait({"failed": True, "message": "Spawn failed: All GPUs are taken."})
    else:
        hub.answer = RequestError("The hub did not start the server: All GPUs are taken.")
    start = begin(starts, make_build())
    await wait_for(lambda: start.phase is Phase.FAILED)
    assert start.error is not None and start.error.message.endswith("All GPUs are taken.") and start.launch.state == "failed"
    assert isinstance(start.error, LaunchError if told else RequestError)


async def test_a_start_that_the_hub_has_ended(starts: Starts, hub: Hub) -> None:
    start = begin(starts, make_build())
    await wait_for(lambda: start.taken)
    hub.servers.pop("project-main")
    hub.follow_server = lambda *_: _none()  # type: ignore[method-assign, assignment]
    hub.told.put_nowait({"failed": True})
    await wait_for(lambda: start.phase is Phase.FAILED)


async def _none() -> AsyncIterator[dict[str, Any]]:
    for _ in ():
        yield {}


async def test_cancel_while_it_builds_asks_the_hub_nothing(starts: Starts, hub: Hub, builds: Builds) -> None:
    build = make_build(done=False)
    start = begin(starts, build)
    await asyncio.sleep(0.02)
    await starts.cancel(start, "t")
    finish(build)
    await asyncio.sleep(0.05)
    assert start.phase is Phase.CANCELLED and hub.calls == [] and not list((builds.settings.state / "starts").iterdir())


async def test_cancel_of_a_launch_stops_this_server_alone(starts: Starts, hub: Hub) -> None:
    start = begin(starts, make_build())
    await wait_for(lambda: start.taken)
    await starts.cancel(start, "t")
    assert hub.calls == [("start", "project-main"), ("stop", "project-main")] and set(hub.servers) == {""}
    assert start.phase is Phase.CANCELLED


async def test_a_stale_page_stops_no_server_that_is_in_use(starts: Starts, hub: Hub) -> None:
    hub.told.put_nowait({"ready": True})
    start = begin(starts, make_build())
    await wait_for(lambda: start.phase is Phase.READY)
    start.ended -= 60
    await starts.cancel(start, "t")
    assert hub.calls == [("start", "project-main")] and start.phase is Phase.READY


async def test_a_start_goes_on_after_a_restart_of_the_service(starts: Starts, hub: Hub, builds: Builds) -> None:
    """The next service has no token of the user's: the page's next question brings it."""
    build = make_build(done=False)
    first = begin(starts, build)
    await asyncio.sleep(0.02)
    assert first.task is not None
    build.done.set()  # as the end of the process does, with nothing finished
    await asyncio.wait([first.task])
    assert hub.calls == []
    later = Starts(hub, builds)  # type: ignore[arg-type]
    assert await later.resume("bob", "t", build) is None
    build.finished = time.time()
    start = await later.resume("alice", "t", build)
    assert start is not None and start.server == "project-main" and await later.resume("alice", "t", build) is start
    await wait_for(lambda: start.taken)
    assert hub.calls == [("start", "project-main")]
    await later.cancel(start, "t")


async def test_what_the_hub_itself_starts_is_followed_and_not_asked_for(starts: Starts, hub: Hub) -> None:
    build = make_build(done=False)
    build.waiters = {("alice", ""), ("alice", "other"), ("bob", "x")}
    assert await starts.resume("alice", "t", build) is None, "the default server is something else"
    hub.servers["other"] = {"ready": False, "pending": "spawn", "user_options": OPTIONS.as_dict()}
    start = await starts.resume("alice", "t", build)
    assert start is not None and (start.server, start.own) == ("other", False)
    await asyncio.sleep(0.02)
    await starts.cancel(start, "t")
    assert hub.calls == [("stop", "other")], "who cancels has the hub give up too"


def test_no_slip_of_a_name_leads_to_the_default_server() -> None:
    assert _name_server("a b@c", "x/y") == "users/a%20b%40c/servers/x%2Fy"
    assert _name_server("alice", "") == "users/alice/server"
