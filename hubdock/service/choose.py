"""The page where a login lands: what to start. A link may fill the form in; only the button starts anything."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from hubdock.core.errors import CapacityError, HubDockError, InvalidOption, QueueFull
from hubdock.core.naming import make_server_name
from hubdock.core.options import FIELDS, flatten_form, parse_options
from hubdock.core.repo import drop_credentials, parse_repo_url
from hubdock.engine.assembly import Assembly
from hubdock.service.launches import record_launch
from hubdock.service.pages import PageHandler
from hubdock.service.preview import make_preview

RETRY = 15  # seconds after which the page asks a full queue again
ALL = (*FIELDS, "rebuild")


class FormHandler(PageHandler):
    """What reads the form: the page itself, and the panel beside it."""

    def read_form(self) -> dict[str, list[str]]:
        """Return the submitted fields as they are; what is no text is refused with the rest, and not before."""
        return {name: [value.decode("utf-8", "replace") for value in given] for name, given in self.request.body_arguments.items()}

    async def plan(self, form: Mapping[str, list[str]], preview: bool = False) -> Assembly:
        """Return the plan of what was chosen, counted. Raises HubDockError with the field at fault."""
        options = parse_options(flatten_form(form))
        assembly = await self.engine.plan(options, self.asker, new_must_be_new=True, rebuild=read_rebuild(form), preview=preview)
        if not preview:
            self.state.metrics.plans.labels("ready" if assembly.plan.ready else "build").inc()
        return assembly

    async def look(self, form: Mapping[str, list[str]]) -> dict[str, Any]:
        """Return what the panel says of a choice. Who runs it is told to whoever was just found to be able to read it."""
        assembly, servers = await asyncio.gather(self.plan(form, preview=True), self.state.servers.find())
        queue = await self.engine.builds.foresee(assembly, self.name)
        running = [server for server in servers if server.repo == assembly.options.repo.canonical]
        return make_preview(assembly, queue, running, self.name, read_rebuild(form))


    def find_near(self, values: Mapping[str, str], error: HubDockError | None) -> list[tuple[str, str]]:
        """Return (value, link that fills it in) for what the field at fault may have meant."""
        if error is None or not error.field:
            return []
        kept = {name: value for name, value in values.items() if value}
        return [(value, f"{self.state.prefix}?{urlencode(kept | {error.field: value})}") for value in error.near]


class PlanPage(FormHandler):
    """The panel alone, for the page's script: the same pieces of HTML that the page itself holds without it, the plan or what is wrong with which field."""

    async def post(self) -> None:
        form = self.read_form()
        try:
            plan = await self.look(form)
        except HubDockError as error:
            self.render_page("problem.html", error.status, error=error, near=self.find_near(read_values(form), error))
        else:
            self.render_page("plan.html", plan=plan, asked=False)


class ChooseHandler(FormHandler):
    """The page."""

    async def get(self) -> None:
        values = {name: self.get_query_argument(name, "")[:2048] for name in ALL}
        await self.show(values, list_now=bool(values["repo"]))

    async def post(self) -> None:
        form = self.read_form()
        values = read_values(form)
        try:
            if "list" in form:
                await self.show(values, list_now=True)
            elif "show" in form:
                await self.show(values, plan=await self.look(form))
            else:
                await self.start(form)
        except HubDockError as error:
            await self.show(values, error=error)

    async def start(self, form: Mapping[str, list[str]]) -> None:
        """Build what is missing, launch, and lead to the page that shows it. Raises HubDockError with the field at fault."""
        clicked = time.time() - self.request.request_time()
        assembly = await self.plan(form)
        server = make_server_name(assembly.options.repo, assembly.hypothesis)
        build = await self.engine.ensure(assembly, self.name, server)
        start = self.state.starts.begin(self.name, self.user_token, server, parse_options(flatten_form(form)), build)
        self.state.in_background(record_launch(self.state.hub, self.engine.database, start, self.user_token, clicked))
        self.redirect(f"{self.state.prefix}builds/{build.identity}", status=303)

    async def show(self, values: Mapping[str, str], *, error: HubDockError | None = None, plan: Mapping[str, Any] | None = None, list_now: bool = False) -> None:
        """Draw the form with these values, the message beside its field, and the branches of the repository if they are asked for."""
        refs = None
        if list_now:
            try:
                refs = await self.engine.list_branches(parse_repo_url(values["repo"]), self.asker)
            except HubDockError as problem:
                error = problem
        if isinstance(error, CapacityError):
            self.set_header("Retry-After", str(RETRY))
        shown = {name: drop_credentials(value) for name, value in values.items()}
        self.render_page(
            "choose.html", error.status if error else 200, values=shown, error=error, near=self.find_near(shown, error), retry=RETRY if isinstance(error, QueueFull) else 0,
            refs=refs, plan=plan, asked=plan is not None, limits=self.engine.settings.limits, free=self.engine.settings.free_choice, offers=await self.state.offers.find(self.asker),
            servers=await self._find_servers(),
        )  # fmt: skip

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


def read_values(form: Mapping[str, list[str]]) -> dict[str, str]:
    """Return what the page shows again in its fields."""
    return {name: drop_credentials(form.get(name, [""])[-1]) for name in ALL}


def read_rebuild(form: Mapping[str, list[str]]) -> bool:
    """Return whether the newest base and packages are wanted. Raises InvalidOption."""
    given = form.get("rebuild", [])
    if len(given) > 1 or (given and given[0] not in {"", "1"}):
        raise InvalidOption("“rebuild” must be 1 or nothing.", field="rebuild")
    return given == ["1"]
