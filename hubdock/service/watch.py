"""The page that watches one start: its stages, a percentage, what is left, the end of its output; then into the server, or what went wrong."""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import quote, urlencode

from tornado.web import HTTPError

from hubdock.core.errors import BuildCancelled
from hubdock.core.events import Phase
from hubdock.core.explain import explain, find_failing_line, quote_failing
from hubdock.core.naming import make_server_name
from hubdock.core.options import FIELDS
from hubdock.core.resources import format_bytes, parse_bytes
from hubdock.engine.build import Build
from hubdock.engine.logs import Tail
from hubdock.engine.rows import read_waiters
from hubdock.engine.tasks import Attempt
from hubdock.engine.telling import tell_past
from hubdock.service.events import UNKNOWN, describe_watched, send_log
from hubdock.service.pages import PageHandler

LOG_LINES = 200
RECENT = 500


class WatchHandler(PageHandler):
    """One build on its way."""

    async def get(self, identity: str) -> None:
        build = self.find_build(identity)
        if build is None:
            await self._show_past(identity)
            return
        start = await self.state.starts.resume(self.name, self.user_token, build) if self.user else None
        told = await describe_watched(self.state, build, start)
        error = (start.error if start else None) or build.error
        if start is not None and start.phase is Phase.READY and not start.entered:
            start.entered = True
            self.redirect(told["url"])
            return
        feed = await self.state.feeds.look(build)  # the stream goes on from there
        await self._show(build.as_dict(), told, error.as_dict() if error else None, build.attempts, live=True, until=dict(feed.tail.positions))

    async def _show_past(self, identity: str) -> None:
        described = await self.engine.read_build(identity)
        if described is None or not self.may_see(described["askers"]):
            raise HTTPError(404, UNKNOWN)
        attempts, last = await self.engine.find_log(identity)
        account = await self.engine.builds.in_thread(tell_past, attempts, last)
        told = {**account.as_dict(described["finished"] or time.time()), "url": ""}
        await self._show(described, told, described["error"], {attempt.kind: attempt for attempt in attempts})

    async def _show(self, build: dict[str, Any], told: dict[str, Any], error: dict[str, Any] | None, attempts: dict[str, Attempt], *, live: bool = False, until: dict[str, int] | None = None) -> None:
        """Draw the page. ``live``: the service has the build in its hands; one that has not ended and is not live will soon be."""
        error = None if error and error["code"] == BuildCancelled.code else error  # which is what somebody wanted
        tail = Tail()
        lines, skipped = await self.engine.builds.in_thread(tail.read, dict(attempts), until=until)
        failing = find_failing_line(lines, error["message"]) if error else None
        cut = max(0, min(len(lines) - LOG_LINES, failing or len(lines)))
        self.render_page(
            "watch.html", build=build, told=told, error=error, explained=explain(error) if error else None, lines=lines[cut:], failing=None if failing is None else failing - cut,
            quoted=quote_failing(lines, failing) if failing is not None else [],
            skipped=skipped > 0 or cut > 0, position=str(tail), live=live, again=self.make_link(build["options"]),
        )  # fmt: skip

    def make_link(self, options: dict[str, Any]) -> str:
        """Return the address of the choice with these values filled in."""
        known = {name: show_option(name, value) for name, value in options.items() if name in FIELDS}
        return f"{self.state.prefix}?{urlencode(known, quote_via=quote)}"

    async def post(self, identity: str) -> None:
        """Cancel: leave the build, stop this server if the hub has it already, and go back to the choice with its values."""
        build = self.find_build(identity)
        if build is None:
            raise HTTPError(404, UNKNOWN)
        start = await self.state.starts.resume(self.name, self.user_token, build)
        if start is not None:
            try:
                await self.state.starts.cancel(start, self.user_token)
            finally:
                self._leave(build, start.server)
            if start.phase is Phase.READY:  # it was too late
                self.redirect(f"{self.state.prefix}builds/{identity}", status=303)
                return
        else:
            self._leave(build, make_server_name(build.assembly.options.repo, build.assembly.hypothesis))
            self._leave(build, "")
        self.redirect(self.make_link(build.assembly.options.as_dict()), status=303)

    def _leave(self, build: Build, server: str) -> None:
        self.state.in_background(self.engine.builds.leave(build, self.name, server))


def show_option(name: str, value: Any) -> str:
    """Return an option as somebody would type it: ``1G`` for its bytes, if that is exactly as much."""
    if name in {"memory", "shm"} and str(value).isdigit() and int(value) >= 1024**2 and parse_bytes(format_bytes(int(value))) == int(value):
        return format_bytes(int(value))
    return f"{value:g}" if isinstance(value, float) else str(value)


class LogPage(PageHandler):
    """The whole log of a build, by a link that can be kept: who is not logged in is led to the login first."""

    async def get(self, identity: str) -> None:
        await send_log(self, identity)


class ServerHandler(PageHandler):
    """Leads from a server's name to the page of its last start: the hub's own pages link here."""

    async def get(self, server: str) -> None:
        user = self.get_query_argument("user", self.name)
        if not self.may_see([user]):
            raise HTTPError(404, UNKNOWN)
        identity = await self._find(user, server)
        if not identity:
            raise HTTPError(404, "hubdock has not started this server, or it was too long ago.")
        self.redirect(f"{self.state.prefix}builds/{identity}")

    async def _find(self, user: str, server: str) -> str:
        """Return the newest build for a server. The hub asks for one of its own when it is told to start what a page has had made: the page's is meant."""
        live = [build for build in self.engine.builds.by_id.values() if (user, server) in build.waiters | build.left]
        if live:
            newest = max(live, key=lambda build: build.created)
            start = self.state.starts.find_launch(user, server, newest.created)
            return (start.build if start else newest).identity
        rows = await self.engine.builds.in_thread(self.engine.database.list_builds, RECENT)
        mine = [row for row in rows if (user, server) in read_waiters(row)]
        same = [row for row in mine if (row.options, row.commit, row.image) == (mine[0].options, mine[0].commit, mine[0].image)]
        return next((row.id for row in same if row.tasks != "{}"), mine[0].id if mine else "")
