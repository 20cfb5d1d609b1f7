"""Starts from the page: first the build, then the server with the user's own token. The browser may be closed meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass
from urllib.parse import quote

from hubdock.core.errors import BuildError, BuildTimeout, HubDockError
from hubdock.core.events import Phase
from hubdock.core.options import Options
from hubdock.core.text import format_seconds
from hubdock.engine.build import Build
from hubdock.engine.builds import Builds
from hubdock.service.hub import HubAPI

log = logging.getLogger("hubdock")


@dataclass
class Start:
    """One click. ``phase`` goes on to LAUNCHING when the hub has taken it up; ``server`` is the named server."""

    user: str
    server: str
    options: Options
    build: Build
    phase: Phase = Phase.BUILDING
    error: HubDockError | None = None
    task: asyncio.Task[None] | None = None

    def hub_path(self, hub_prefix: str) -> str:
        """Return the hub's page that shows the server coming up, and leads into it."""
        return f"{hub_prefix}spawn-pending/{quote(self.user, safe='@')}/{quote(self.server, safe='')}"


class Starts:
    """The starts under way, by user and build. A token is held only while its start runs, in memory alone."""

    def __init__(self, hub: HubAPI, builds: Builds) -> None:
        self.hub, self.builds = hub, builds
        self._leaving: set[asyncio.Task[None]] = set()
        self._starts: dict[tuple[str, str], Start] = {}

    def find(self, user: str, build: str) -> Start | None:
        """Return a user's start of a build."""
        return self._starts.get((user, build))

    def begin(self, user: str, token: str, server: str, options: Options, build: Build) -> Start:
        """Start a server once its build is done. The same click again joins the first."""
        key = (user, build.identity)
        known = self._starts.get(key)
        if known is not None and known.phase in {Phase.BUILDING, Phase.LAUNCHING} and known.task and not known.task.done():
            return known
        start = Start(user, server, options, build)
        self._starts[key] = start
        start.task = asyncio.create_task(self._run(start, token))
        for old in list(self._starts)[:-1000]:
            del self._starts[old]
        return start

    async def _run(self, start: Start, token: str) -> None:
        try:
            await self._wait(start)
            if start.build.error is not None:
                raise start.build.error
            await self._launch(start, token)
            start.phase = Phase.READY
        except HubDockError as error:
            start.error, start.phase = error, Phase.FAILED
        except Exception:
            log.exception("start of %s by %s", start.server, start.user)
            start.error, start.phase = BuildError("The server could not be started. Tell an administrator."), Phase.FAILED

    async def _wait(self, start: Start) -> None:
        """Wait for a build, within this start's own limit: for others it goes on."""
        try:
            async with asyncio.timeout(self.builds.settings.wait_timeout):
                await start.build.done.wait()
        except TimeoutError:
            leaving = asyncio.create_task(self.builds.leave(start.build, start.user, start.server))
            self._leaving.add(leaving)
            leaving.add_done_callback(self._leaving.discard)
            limit = format_seconds(self.builds.settings.wait_timeout)
            raise BuildTimeout(f"The build was not done within {limit}, its turn in the queue included. Start again, or ask an administrator.") from None

    async def _launch(self, start: Start, token: str) -> None:
        """Ask for the server. The hub answers late, so the page is sent on as soon as the hub shows the server."""
        asked = asyncio.create_task(self.hub.start_server(token, start.user, start.server, start.options.as_dict()))
        while not asked.done():
            await asyncio.wait([asked], timeout=0.05)
            server = (await self.hub.read_servers(token, start.user)).get(start.server, {})
            if server.get("pending") or server.get("ready"):
                start.phase = Phase.LAUNCHING
                break
        await asked

    async def cancel(self, start: Start) -> None:
        """Stop waiting for a build. A server that the hub has taken up is the hub's to stop."""
        if start.task is not None and start.phase is Phase.BUILDING:
            start.task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await start.task
            start.phase = Phase.CANCELLED
