"""How long launches take, for the next estimate: from the click, or from the end of its build, until the server answers."""

from __future__ import annotations

import asyncio
import time
import uuid

from hubdock.core.errors import HubDockError
from hubdock.engine.build import Build
from hubdock.engine.database import Database, TaskRow
from hubdock.engine.estimates import LAUNCH
from hubdock.service.hub import HubAPI, read_time
from hubdock.service.starts import Start

LONGEST = 600.0
_POLL = 0.5


async def record_launch(hub: HubAPI, database: Database, start: Start, token: str, clicked: float) -> None:
    """Wait until a start has ended, and remember how long its launch took if its server runs. ``clicked`` is seconds since the epoch."""
    hit = start.build.assembly.plan.ready
    if start.task is not None:
        await asyncio.wait([start.task])
    if start.error is None and await _wait_ready(hub, start, token, clicked):
        seconds = time.time() - (clicked if hit else start.build.finished or clicked)
        await asyncio.to_thread(database.record_task, make_row(start.build, seconds))


async def _wait_ready(hub: HubAPI, start: Start, token: str, clicked: float) -> bool:
    """Return whether the server that this click started is up: True as soon as the hub says so."""
    until = time.monotonic() + LONGEST
    while time.monotonic() < until:
        try:
            server = (await hub.read_servers(token, start.user)).get(start.server, {})
        except HubDockError:
            return False
        if server.get("ready"):
            return read_time(str(server.get("started"))) > clicked - 1  # one that ran before tells nothing
        if not server.get("pending"):
            return False
        await asyncio.sleep(_POLL)
    return False


def make_row(build: Build, seconds: float) -> TaskRow:
    """Return what is remembered of a launch, beside the tasks of builds."""
    a = build.assembly
    return TaskRow(
        id=f"{LAUNCH}-{uuid.uuid4().hex}", kind=LAUNCH, key=a.image.key if a.image else "", repo=a.remote.repo.canonical, status="ready", finished=time.time(),
        seconds=round(seconds, 3), steps="{}", inputs="{}",
    )  # fmt: skip
