"""Starts from the page: first the build, then the server with the user's own token. The browser may be closed meanwhile.

A start that waits is written down without its token: after a restart of the service it goes on as soon as its user's page asks again.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from hubdock.core.errors import BuildError, BuildTimeout, HubDockError, LaunchError
from hubdock.core.events import Phase
from hubdock.core.naming import make_hash
from hubdock.core.options import Options, parse_options
from hubdock.core.stages import Stage, StageState
from hubdock.core.text import format_seconds
from hubdock.engine.build import Build
from hubdock.engine.builds import Builds
from hubdock.engine.database import TaskRow
from hubdock.engine.estimates import LAUNCH, describe_work
from hubdock.engine.tasks import write_whole
from hubdock.service.hub import HubAPI

log = logging.getLogger("hubdock")
MOST = 1000
_LATELY = 10.0  # seconds: who cancels a server that became ready so lately has not seen it


@dataclass
class Start:
    """One click, or a server that the hub itself starts (``own`` is False: it is followed, not asked for). ``launch`` is the stage after the build.

    ``phase`` is LAUNCHING once the hub is asked; ``taken``: the hub has it. ``launched`` is when the hub was asked, ``ended`` when it was ready or failed, in seconds since the epoch;
    ``entered``: its page has led into the server, and does so once, or Back would lead there again.
    """

    user: str
    server: str
    options: Options
    build: Build
    own: bool = True
    phase: Phase = Phase.BUILDING
    error: HubDockError | None = None
    taken: bool = False
    launched: float = math.inf
    ended: float = 0.0
    entered: bool = False
    launch: Stage = field(default_factory=lambda: Stage(LAUNCH))
    task: asyncio.Task[None] | None = None

    def hub_path(self, hub_prefix: str) -> str:
        """Return the hub's address that leads into the server, or to the page that shows it coming up."""
        return f"{hub_prefix}spawn-pending/{quote(self.user, safe='@')}/{quote(self.server, safe='')}"

    @property
    def lasts(self) -> bool:
        """True while it goes on."""
        return self.phase in {Phase.BUILDING, Phase.LAUNCHING} and self.task is not None and not self.task.done()

    def end(self, phase: Phase, error: HubDockError | None = None) -> None:
        """It is over."""
        states = {Phase.READY: StageState.DONE, Phase.FAILED: StageState.FAILED, Phase.CANCELLED: StageState.CANCELLED}
        self.phase, self.error, self.ended = phase, error, time.time()
        if phase is not Phase.FAILED or self.launch.state is StageState.RUNNING:
            self.launch.end(self.ended, states[phase], error.message if error else "")


class Starts:
    """The starts under way, by user and build. A token is held only while its start runs, in memory alone."""

    def __init__(self, hub: HubAPI, builds: Builds) -> None:
        self.hub, self.builds = hub, builds
        self._leaving: set[asyncio.Task[None]] = set()
        self._starts: dict[tuple[str, str], Start] = {}
        self._directory = builds.settings.state / "starts"

    def find(self, user: str, build: str) -> Start | None:
        """Return a user's start of a build."""
        return self._starts.get((user, build))

    def begin(self, user: str, token: str, server: str, options: Options, build: Build, *, own: bool = True) -> Start:
        """Start a server once its build is done. The same click again joins the first."""
        key = (user, build.identity)
        known = self._starts.get(key)
        if known is not None and known.lasts and (known.own or not own):
            return known
        start = Start(user, server, options, build, own)
        start.launch.expected = build.assembly.plan.launch.seconds
        self._starts[key] = start
        start.task = asyncio.create_task(self._run(start, token))
        for old in [key for key, known in self._starts.items() if not known.lasts][: max(0, len(self._starts) - MOST)]:
            del self._starts[old]
        return start

    async def resume(self, user: str, token: str, build: Build) -> Start | None:
        """Return a user's start of a build: the one that is known, one that an earlier service left, or one that the hub itself has under way."""
        known = self.find(user, build.identity)
        if known is not None:
            return known
        text = await self.builds.in_thread(_read, self._path(user, build.identity))
        if text and build.error is None:
            return self.begin(user, token, json.loads(text)["server"], build.assembly.options, build)
        with contextlib.suppress(HubDockError):
            return await self._find_theirs(user, token, build)
        return None

    async def _find_theirs(self, user: str, token: str, build: Build) -> Start | None:
        """Return the start of a server that the hub has under way, or runs, with what a build makes."""
        waiting = sorted((server for waiter, server in build.waiters if waiter == user), reverse=True)
        servers = await self.hub.read_servers(token, user) if waiting else {}
        for server in waiting:
            found = servers.get(server, {})
            active = found.get("pending") == "spawn" or found.get("ready")
            if active and _is_same(found.get("user_options"), build.assembly.options):
                start = self.begin(user, token, server, build.assembly.options, build, own=False)
                start.entered = bool(found.get("ready"))  # who looks back at it does not want to be led on
                return start
        return None

    def find_launch(self, user: str, server: str, moment: float) -> Start | None:
        """Return the user's start that launched a server at a moment (seconds since the epoch)."""
        starts = [start for start in self._starts.values() if (start.user, start.server) == (user, server)]
        return next((start for start in starts if start.launched <= moment and (start.lasts or moment <= start.ended)), None)

    async def _run(self, start: Start, token: str) -> None:
        path = self._path(start.user, start.build.identity)
        try:
            if start.own:
                await self.builds.in_thread(_write, path, {"server": start.server, "user": start.user, "build": start.build.identity})
            await self._wait(start)
            if start.build.finished is None:  # the service ends, the build does not: the next service goes on
                return
            if start.build.error is not None:
                raise start.build.error
            await self._launch(start, token)
            start.end(Phase.READY)
        except HubDockError as error:
            start.end(Phase.FAILED, error)
        except Exception:
            log.exception("start of %s by %s", start.server, start.user)
            start.end(Phase.FAILED, BuildError("The server could not be started. Tell an administrator."))
        await self.builds.in_thread(path.unlink, missing_ok=True)
        if start.phase is Phase.READY and start.launch.clock.spent > 0 and start.own:
            await self._record(start)

    async def _wait(self, start: Start) -> None:
        """Wait for a build, within this start's own limit: for others it goes on."""
        try:
            async with asyncio.timeout(self.builds.settings.wait_timeout if start.own else None):
                await start.build.done.wait()
        except TimeoutError:
            self._leave(start)
            limit = format_seconds(self.builds.settings.wait_timeout)
            raise BuildTimeout(f"The build was not done within {limit}, its turn in the queue included. Start again, or ask an administrator.") from None

    def _leave(self, start: Start) -> None:
        leaving = asyncio.create_task(self.builds.leave(start.build, start.user, start.server))
        self._leaving.add(leaving)
        leaving.add_done_callback(self._leaving.discard)

    async def _launch(self, start: Start, token: str) -> None:
        """Ask the hub for the server, and follow it until it is ready. Raises LaunchError, or what the hub answers."""
        start.phase, start.launched = Phase.LAUNCHING, time.time()
        start.launch.begin(start.launched)
        asking = asyncio.create_task(self.hub.start_server(token, start.user, start.server, start.options.as_dict())) if start.own else None
        following = asyncio.create_task(self._follow(start, token, asking))
        try:
            await asyncio.wait({task for task in (asking, following) if task}, return_when=asyncio.FIRST_COMPLETED)
            if asking and asking.done() and await asking:
                return  # it is ready
            await following
        finally:
            for task in (asking, following):
                if task is not None:
                    task.cancel()
                    with contextlib.suppress(HubDockError, asyncio.CancelledError):
                        await task

    async def _follow(self, start: Start, token: str, asking: asyncio.Task[bool] | None) -> None:
        """Take in what the hub tells of a server until it is ready. Raises LaunchError if it is not to be."""
        while True:
            server = (await self.hub.read_servers(token, start.user)).get(start.server, {})
            start.taken = start.taken or bool(server.get("pending") or server.get("ready"))
            if server.get("ready"):
                return
            if server.get("pending") == "spawn":
                async for event in self.hub.follow_server(token, start.user, start.server):
                    if event.get("ready"):
                        return
                    if event.get("failed"):
                        raise LaunchError(str(event.get("message", "")).removeprefix("Spawn failed: ") or "The server did not start.")
                    start.launch.message = str(event.get("message") or start.launch.message)
            elif asking is None or asking.done():
                if asking is not None:
                    await asking  # which raises what the hub answered
                raise LaunchError("The hub has ended this start. It was stopped there, or took too long. Start again.")
            await asyncio.sleep(0.05)

    async def _record(self, start: Start) -> None:
        """Remember how long the launch took, for estimates."""
        a = start.build.assembly
        row = TaskRow(
            id=f"{LAUNCH}-{uuid.uuid4().hex}", kind=LAUNCH, key="", repo=a.remote.repo.canonical, status=str(Phase.READY), finished=start.ended,
            seconds=round(start.launch.clock.spent, 3), steps="{}", inputs=json.dumps(describe_work(LAUNCH, a)),
        )  # fmt: skip
        with contextlib.suppress(HubDockError):
            await self.builds.in_thread(self.builds.database.record_task, row)

    async def cancel(self, start: Start, token: str) -> None:
        """Stop a user's start: it waits no longer for its build, and the hub stops this server, and no other, if it has taken it up. Raises HubDockError."""
        lately = start.phase is Phase.READY and time.time() - start.ended < _LATELY
        taken = start.taken or start.phase is Phase.LAUNCHING or not start.own
        if start.task is not None and start.lasts:
            start.task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await start.task
        await self.builds.in_thread(self._path(start.user, start.build.identity).unlink, missing_ok=True)
        if taken and (start.phase is not Phase.READY or lately):
            await self._stop(start, token)
        if start.phase is not Phase.READY or lately:
            start.end(Phase.CANCELLED)

    async def _stop(self, start: Start, token: str) -> None:
        """Stop a start's server. The hub may be about to take it up at this very moment, and answers with an error where a start is slow to unwind."""
        refused: HubDockError | None = None
        for _ in range(10):
            server = (await self.hub.read_servers(token, start.user)).get(start.server, {})
            if not (server.get("pending") or server.get("ready")) and refused:
                return
            if server.get("pending") == "stop":
                return
            if server.get("pending") or server.get("ready"):
                try:
                    await self.hub.stop_server(token, start.user, start.server)
                    return
                except HubDockError as error:
                    refused = error
            await asyncio.sleep(0.1)
        if refused:
            raise refused

    def _path(self, user: str, build: str) -> Path:
        return self._directory / f"{build}-{make_hash(user, length=16)}.json"


def _is_same(given: object, options: Options) -> bool:
    """True if a server's options, as the hub keeps them, are of the same hypothesis. (A plan fills in the resources that nobody chose.)"""
    with contextlib.suppress(HubDockError):
        chosen = parse_options(given)
        return (chosen.repo, chosen.ref, chosen.new_branch) == (options.repo, options.ref, options.new_branch)
    return False


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""


def _write(path: Path, values: dict[str, Any]) -> None:
    path.parent.mkdir(mode=0o700, exist_ok=True)
    write_whole(path, json.dumps(values))
