"""The pages: choose, and watch. Server-rendered; everything works without JavaScript, which only saves reloading."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from tornado.web import HTTPError

from hubdock.core.errors import CapacityError, HubDockError, QueueFull
from hubdock.core.events import Event, Kind, Phase
from hubdock.core.naming import make_server_name
from hubdock.core.options import FIELDS, Options, flatten_form, parse_options
from hubdock.core.repo import drop_credentials, parse_repo_url
from hubdock.core.resources import format_bytes
from hubdock.engine.build import Build
from hubdock.engine.rows import read_waiters
from hubdock.service.base import BaseHandler

TEMPLATES = Path(__file__).parent / "templates"
LOG_LINES = 200
RETRY = 15  # seconds after which the page asks a full queue again
_environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
_environment.filters["bytes"] = format_bytes
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
        state = self.state
        common = {
            "prefix": state.prefix, "hub_prefix": state.hub_prefix, "base_url": state.base_url, "user": self.name,
            "xsrf": self.xsrf_token.decode("ascii", "replace") if isinstance(self.xsrf_token, bytes) else str(self.xsrf_token),
        }  # fmt: skip
        self.set_status(status)
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.finish(_environment.get_template(template).render(**common, **values))

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        error = self.describe_error(kwargs.get("exc_info", (None, None, None))[1], status_code)
        self.render_page("error.html", status_code, error=error)


class ChooseHandler(PageHandler):
    """Where a login lands: what to start. A link may fill the form in; only the button starts anything."""

    async def get(self) -> None:
        values = {name: self.get_query_argument(name, "")[:2048] for name in FIELDS}
        await self.show(values, list_now=bool(values["repo"]))

    async def post(self) -> None:
        form = self.read_form()
        values = {name: form.get(name, [""])[-1] for name in FIELDS}
        if self.get_body_argument("list", None) is not None:
            await self.show(values, list_now=True)
            return
        try:
            options, server, build = await self.begin(form)
        except HubDockError as error:
            await self.show(values, error=error, list_now=False)
            return
        self.state.starts.begin(self.name, self.user_token, server, options, build)
        self.redirect(f"{self.state.prefix}builds/{build.identity}", status=303)

    def read_form(self) -> dict[str, list[str]]:
        """Return the submitted fields as they are; what is no text is refused with the rest, and not before."""
        return {name: [value.decode("utf-8", "replace") for value in given] for name, given in self.request.body_arguments.items()}

    async def begin(self, form: Mapping[str, list[str]]) -> tuple[Options, str, Build]:
        """Return what was chosen, the name of its server, and its build. Raises HubDockError with the field at fault."""
        options = parse_options(flatten_form(form))
        assembly = await self.engine.plan(options, new_must_be_new=True)
        self.state.metrics.plans.labels("ready" if assembly.plan.ready else "build").inc()
        server = make_server_name(options.repo, assembly.hypothesis)
        return options, server, await self.engine.ensure(assembly, self.name, server)

    async def show(self, values: Mapping[str, str], *, error: HubDockError | None = None, list_now: bool) -> None:
        """Draw the form with these values, the message beside its field, and the branches of the repository if they are asked for."""
        refs = None
        if list_now and error is None:
            try:
                refs = await self.engine.list_branches(parse_repo_url(values["repo"]))
            except HubDockError as problem:
                error = problem
        if isinstance(error, CapacityError):
            self.set_header("Retry-After", str(RETRY))
        self.render_page(
            "choose.html", error.status if error else 200, values={name: drop_credentials(value) for name, value in values.items()}, error=error, retry=RETRY if isinstance(error, QueueFull) else 0, refs=refs, limits=self.engine.settings.limits,
            recent=await self._find_recent(), servers=await self._find_servers(),
        )  # fmt: skip

    async def _find_recent(self) -> list[str]:
        rows = await self.engine.builds.in_thread(self.engine.database.list_builds, 200)
        return list(dict.fromkeys(row.repo for row in rows if any(user == self.name for user, _ in read_waiters(row))))[:10]

    async def _find_servers(self) -> list[dict[str, Any]]:
        """Return this user's servers with the addresses to open them; none if the hub does not say."""
        try:
            servers = await self.state.hub.read_servers(self.user_token, self.name)
        except HubDockError:
            return []
        found = []
        for name, server in sorted(servers.items()):
            options = server.get("user_options") or {}
            if server.get("ready") or server.get("pending"):
                found.append({"name": name, "url": server.get("url"), "repo": options.get("repo", ""), "branch": options.get("new_branch") or options.get("ref", ""), "ready": server.get("ready")})  # fmt: skip
        return found


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

