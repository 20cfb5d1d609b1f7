"""What takes space, in the API and on a page: collection for administrators, workspaces for those whose they are."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from tornado.web import HTTPError

from hubdock.core.errors import HubDockError, InvalidOption
from hubdock.engine.workspaces import Workspace, Workspaces, make_address
from hubdock.service.base import APIHandler, BaseHandler
from hubdock.service.pages import PageHandler

CLI_SERVER = "run"  # what `hubdock run` opens is on no server of the hub


class CollectionHandler(APIHandler):
    """What a collection would remove, and collections. For administrators."""

    async def get(self) -> None:
        self._require_admin()
        self.write_json((await self.state.collecting.look(self.get_query_argument("budget", "") or None)).as_dict())

    async def post(self) -> None:
        self._require_admin()
        body = self.read_json()
        budget = body.get("budget")
        if set(body) - {"budget"} or not isinstance(budget, str | int | None) or isinstance(budget, bool):
            raise InvalidOption("The body may hold “budget”, a size such as 50G, and nothing else.", field="budget")
        self.write_json((await self.state.collecting.collect(None if budget is None else str(budget))).as_dict())

    def _require_admin(self) -> None:
        if not self.is_admin:
            raise HTTPError(403, "Collecting needs the scope custom:hubdock:admin.")


def get_workspaces(handler: BaseHandler) -> Workspaces:
    """Return the workspaces of the engine."""
    return handler.engine.collector.workspaces


def get_owner(handler: BaseHandler) -> str | None:
    """Return whose workspaces may be seen and changed; None: everybody's."""
    return None if handler.is_admin else handler.name


class WorkspacesHandler(APIHandler):
    """Your workspaces; everybody's for administrators."""

    async def get(self) -> None:
        await self.state.collecting.measure_soon()
        found = await self.engine.builds.in_thread(get_workspaces(self).list, get_owner(self))
        self.write_json({"workspaces": [workspace.as_dict() for workspace in found]})


class WorkspaceHandler(APIHandler):
    """One workspace: into the trash."""

    async def delete(self, volume: str) -> None:
        self.write_json((await self.engine.builds.in_thread(get_workspaces(self).delete, volume, get_owner(self))).as_dict())


class RestoreHandler(APIHandler):
    """One workspace: out of the trash."""

    async def post(self, volume: str) -> None:
        self.write_json((await self.engine.builds.in_thread(get_workspaces(self).restore, volume, get_owner(self))).as_dict())


class WorkspacesPage(PageHandler):
    """The page of workspaces. Deleting asks nothing, for it can be undone."""

    async def get(self) -> None:
        await self.show()

    async def post(self) -> None:
        volume, action = self.get_body_argument("volume", ""), self.get_body_argument("action", "")
        workspaces = get_workspaces(self)
        changes = {"delete": workspaces.delete, "restore": workspaces.restore}
        if action not in changes:
            raise HTTPError(400, "Choose to delete or to restore.")
        try:
            changed = await self.engine.builds.in_thread(changes[action], volume, get_owner(self))
        except HubDockError as error:
            await self.show(error=error)
            return
        self.redirect(f"{self.state.prefix}workspaces?{urlencode({action: changed.volume})}", status=303)

    async def show(self, error: HubDockError | None = None) -> None:
        """Draw the list, with what was just done or why it was not."""
        await self.state.collecting.measure_soon()
        found = await self.engine.builds.in_thread(get_workspaces(self).list, get_owner(self))
        servers = await self._find_servers()
        rows = [describe_row(workspace, self.name, servers, self.state.prefix) for workspace in found]
        done = next(((action, name) for action in ("delete", "restore") if (name := self.get_query_argument(action, ""))), None)
        shown = done if done and any(workspace.volume == done[1] for workspace in found) else None
        self.render_page(
            "workspaces.html", error.status if error else 200, live=[row for row in rows if row["trashed"] is None],
            trash=[row for row in rows if row["trashed"] is not None], error=error, done=shown, everybody=get_owner(self) is None,
            retention=self.engine.settings.workspace_retention,
        )  # fmt: skip

    async def _find_servers(self) -> set[str] | None:
        """Return the names of this user's servers, running or not; None if the hub does not say."""
        try:
            return set(await self.state.hub.read_servers(self.user_token, self.name))
        except HubDockError:
            return None


def describe_row(workspace: Workspace, user: str, servers: set[str] | None, prefix: str) -> dict[str, Any]:
    """Return what the page shows of a workspace: its fields, in words what is not as usual, and the address that opens it again."""
    said = []
    if not workspace.known:
        said.append("hubdock has no record of it")
    if not workspace.there:
        said.append("its volume is gone")
    if workspace.user == user and servers is not None and workspace.server not in {*servers, "", CLI_SERVER} and not workspace.running:
        said.append("its server is gone")
    if workspace.on_remote is False:
        said.append("its branch is not on the remote: never pushed, or deleted there")
    tag = workspace.branch.startswith("tag:")
    ref = f"refs/tags/{workspace.branch.removeprefix('tag:')}" if tag else workspace.branch
    choice = {"repo": make_address(workspace.repo), ("new_branch" if workspace.on_remote is False and not tag else "ref"): ref}
    address = f"{prefix}?{urlencode(choice)}" if workspace.user == user and workspace.server != CLI_SERVER else ""
    return {**workspace.as_dict(), "said": said, "open": address, "repo": workspace.repo.partition("://")[2]}
