"""The pages: what they share, and the one that watches. Server-rendered; everything works without JavaScript, which only saves reloading."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from tornado.web import HTTPError

from hubdock.core.board import format_value
from hubdock.core.events import Event, Kind, Phase
from hubdock.core.metrics import format_delta, format_scalar
from hubdock.core.naming import make_server_name
from hubdock.core.options import Options
from hubdock.core.resources import format_bytes
from hubdock.core.text import MAX_LINE, format_passed, make_plain
from hubdock.engine.build import Build
from hubdock.service.base import BaseHandler

TEMPLATES = Path(__file__).parent / "templates"
LOG_LINES = 200
_environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
_environment.filters["plain"] = lambda text, limit=MAX_LINE: make_plain(str(text), limit)
_environment.filters["bytes"] = format_bytes
_environment.filters["age"] = lambda seconds: format_passed(time.time() - seconds)
_environment.filters["value"] = format_value
_environment.filters["delta"] = format_delta
_environment.filters["scalar"] = format_scalar
_environment.filters["when"] = lambda seconds: time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


class PageHandler(BaseHandler):
    """A handler that answers in HTML."""

    def refuse(self) -> None:
        """Send who is not logged in to the hub. A form sent by another site carries no proof, and is refused instead."""
        if self.request.method not in {"GET", "HEAD"}:
            raise HTTPError(403, "This form was not sent from this page, or your login is over. Load the page again.")
        self.redirect(self.get_login_url())

    def render_page(self, template: str, status: int = 200, **values: Any) -> None:
        """Answer with a page."""
        self.finish_page(self.draw(template, **self.common, **values), status)

    async def render_large_page(self, template: str, status: int = 200, **values: Any) -> None:
        """Answer with a page that takes its time to draw: in a thread of its own."""
        self.finish_page(await asyncio.to_thread(self.draw, template, **self.common, **values), status)

    def draw(self, template: str, **values: Any) -> str:
        """Return the HTML of a page."""
        return _environment.get_template(template).render(**values)

    @property
    def common(self) -> dict[str, Any]:
        """What every page shows of where it is, and for whom."""
        state = self.state
        return {
            "prefix": state.prefix, "hub_prefix": state.hub_prefix, "base_url": state.base_url, "user": self.name, "path": self.request.path,
            "admin": self.is_admin, "hub_admin": bool(self.user and self.user.get("admin")),
            "xsrf": self.xsrf_token.decode("ascii", "replace") if isinstance(self.xsrf_token, bytes) else str(self.xsrf_token),
        }  # fmt: skip

    def finish_page(self, html: str, status: int) -> None:
        """Answer with drawn HTML."""
        self.set_status(status)
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.finish(html)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        error = self.describe_error(kwargs.get("exc_info", (None, None, None))[1], status_code)
        self.render_page("error.html", status_code, error=error)


class WatchHandler(PageHandler):
    """One build on its way: phases, percent, the end of the log; then into the server."""

    async def get(self, identity: str) -> None:
        build = self.find_build(identity)
        if build is None:
            await self._show_past(identity)
            return
        start = self.state.starts.find(self.name, identity)
        if start is not None and start.phase in {Phase.LAUNCHING, Phase.READY}:
            self.redirect(start.hub_path(self.state.hub_prefix))
            return
        events = await self.engine.builds.in_thread(read_recent, build)
        error = (start.error if start else None) or build.error
        self.render_page(
            "watch.html", 200, build=build.as_dict(), summary=summarise(events), phase=str(start.phase if start and build.error is None else build.phase),
            error=error, options=build.assembly.options.as_dict(), again=self._again(build.assembly.options),
        )  # fmt: skip

    async def _show_past(self, identity: str) -> None:
        described = await self.engine.read_build(identity)
        if described is None or not self.may_see(described["users"]):
            raise HTTPError(404, "There is no such build, or it is somebody else's.")
        events = await self.engine.read_log(identity)
        query = urlencode({"repo": described["repo"], "ref": described["ref"], "new_branch": described["new_branch"]})
        self.render_page(
            "watch.html", 200, build=described, summary=summarise(events), phase=described["phase"], error=None, options={}, again=f"{self.state.prefix}?{query}"
        )

    def _again(self, options: Options) -> str:
        return f"{self.state.prefix}?{urlencode(options.as_dict(), quote_via=quote)}"

    async def post(self, identity: str) -> None:
        """Cancel: leave the build, and go back to the choice with its values."""
        build = self.find_build(identity)
        if build is None:
            raise HTTPError(404, "There is no such build, or it is somebody else's.")
        start = self.state.starts.find(self.name, identity)
        if start is not None:
            await self.state.starts.cancel(start)
        server = start.server if start is not None else make_server_name(build.assembly.options.repo, build.assembly.hypothesis)
        self.state.in_background(self.engine.builds.leave(build, self.name, server))
        self.redirect(self._again(build.assembly.options), status=303)


def read_recent(build: Build) -> list[Event]:
    """Return the end of the logs of a build's tasks, and its own events."""
    events = []
    for attempt in build.attempts.values():
        events += [event for _, event in attempt.read_events(attempt.tail_offset(64 * 1024))]
    return sorted([*events, *build.events], key=lambda event: event.time)


def summarise(events: list[Event]) -> dict[str, Any]:
    """Return what a page shows of events: per part its phase and percent, the last log lines, the notices."""
    parts: dict[str, dict[str, Any]] = {}
    for event in events:
        part = parts.setdefault(event.part, {"phase": "", "message": "", "percent": None, "ended": False})
        if event.kind is Kind.PHASE:
            part.update(phase=str(event.phase), message=event.message, ended=bool(event.phase and event.phase.ended))
            part["percent"] = 100 if event.phase is Phase.READY else part["percent"]
        elif event.kind is Kind.PROGRESS and not part["ended"]:
            part["percent"] = event.percent
    log = [f"[{event.part}] {event.message}" for event in events if event.kind is Kind.LOG][-LOG_LINES:]
    notices = [event.message for event in events if event.kind is Kind.NOTICE]
    return {"parts": {name: part for name, part in parts.items() if name}, "log": log, "notices": notices}

