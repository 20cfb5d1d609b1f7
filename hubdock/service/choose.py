"""The page where a login lands: what to start. A link may fill the form in; only the button starts anything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hubdock.core.errors import CapacityError, HubDockError, QueueFull
from hubdock.core.naming import make_server_name
from hubdock.core.options import FIELDS, Options, flatten_form, parse_options
from hubdock.core.repo import drop_credentials, parse_repo_url
from hubdock.engine.build import Build
from hubdock.engine.rows import read_waiters
from hubdock.service.pages import PageHandler

RETRY = 15  # seconds after which the page asks a full queue again


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
        assembly = await self.engine.plan(options, self.asker, new_must_be_new=True)
        self.state.metrics.plans.labels("ready" if assembly.plan.ready else "build").inc()
        server = make_server_name(options.repo, assembly.hypothesis)
        return options, server, await self.engine.ensure(assembly, self.name, server)

    async def show(self, values: Mapping[str, str], *, error: HubDockError | None = None, list_now: bool) -> None:
        """Draw the form with these values, the message beside its field, and the branches of the repository if they are asked for."""
        refs = None
        if list_now and error is None:
            try:
                refs = await self.engine.list_branches(parse_repo_url(values["repo"]), self.asker)
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
