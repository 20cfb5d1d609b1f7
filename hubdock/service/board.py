"""The board on a page and in the API: every hypothesis of the repositories that whoever asks may read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from tornado.web import HTTPError

from hubdock.core.board import Row, Wanted, as_dict, choose_columns, parse_wanted
from hubdock.core.errors import HubDockError
from hubdock.core.repo import RepoURL, drop_credentials, parse_repo_url
from hubdock.service.base import APIHandler, BaseHandler
from hubdock.service.boards import Repository, View
from hubdock.service.pages import PageHandler

FILTERS = ("repo", "q", "mine", "running", "page")
NAMED = 3  # branches that are named as sharing an environment; the others are counted


def read_query(handler: BaseHandler) -> dict[str, str]:
    """Return the filters in a page's address."""
    return {name: value[:2048] for name in FILTERS if (value := handler.get_query_argument(name, ""))}


def find_only(query: Mapping[str, str]) -> RepoURL | None:
    """Return the one repository that is wanted, None for all. Raises InvalidRepoURL."""
    return parse_repo_url(query["repo"]) if query.get("repo") else None


class BoardHandler(APIHandler):
    """The branches of the repositories that you may read."""

    async def get(self) -> None:
        query = read_query(self)
        view = await self.state.boards.look(self.asker, parse_wanted(query), find_only(query))
        repositories = [{"repo": r.repo.canonical, "url": r.repo.url, "default": r.refs.default, "message": r.message} for r in view.repositories]
        page = {"page": view.page.number, "pages": view.page.pages, "total": view.page.total}
        self.write_json({"repositories": repositories, "branches": [as_dict(row) for row in view.page.rows], **page, "waiting": view.waiting})


@dataclass(frozen=True)
class Group:
    """The rows of one repository on a page, and the metrics that are its columns."""

    repository: Repository
    rows: tuple[Row, ...]
    columns: tuple[str, ...]


def make_groups(view: View) -> list[Group]:
    """Return the page by repository, that of the newest branch first; those without a branch on it that have something to say come last."""
    found: dict[str, list[Row]] = {}
    for row in view.page.rows:
        found.setdefault(row.repo, []).append(row)
    groups = [Group(view.find(repo), tuple(rows), tuple(choose_columns(rows))) for repo, rows in found.items()]
    return groups + [Group(known, (), ()) for known in view.repositories if known.message]


class BoardPage(PageHandler):
    """The page. Its buttons are forms: starting is the choose page's, stopping is done here with the user's own token."""

    async def get(self) -> None:
        if self.get_query_argument("fresh", ""):
            self.state.boards.readable.forget(self.asker)
            self.state.servers.forget()
        await self.show(read_query(self))

    async def post(self) -> None:
        server = self.get_body_argument("server", "")
        if self.get_body_argument("action", "") != "stop" or not server:
            raise HTTPError(400, "Choose a server to stop.")
        query = read_query(self)
        try:
            await self.state.hub.stop_server(self.user_token, self.name, server)
        except HubDockError as error:
            await self.show(query, problem=error)
            return
        self.state.servers.forget()
        self.redirect(self.make_address(query), status=303)

    async def show(self, query: dict[str, str], problem: HubDockError | None = None) -> None:
        """Draw the board, with a message beside the field that is at fault, or above all."""
        view, error = None, None
        wanted = parse_wanted(query)
        try:
            view = await self.state.boards.look(self.asker, wanted, find_only(query))
        except HubDockError as caught:
            error = caught
        status = (error or problem).status if error or problem else 200  # type: ignore[union-attr]
        self.render_page(
            "board.html", status, view=view, groups=make_groups(view) if view else [], wanted=wanted, repo=drop_credentials(query.get("repo", "")), error=error, problem=problem,
            named=NAMED, address=self.make_address(query), fresh=self.make_address({**query, "fresh": "1"}), pages=self._list_pages(query, view), choose=self._choose, pending=self._pending,
            narrowed=wanted != Wanted(page=wanted.page) or "repo" in query,
        )  # fmt: skip

    def make_address(self, query: Mapping[str, str]) -> str:
        """Return the address of the board with these filters."""
        return f"{self.state.prefix}board" + (f"?{urlencode(query)}" if query else "")

    def _list_pages(self, query: Mapping[str, str], view: View | None) -> dict[str, str]:
        """Return the addresses of the pages before and after this one, by their names."""
        number, pages = (view.page.number, view.page.pages) if view else (1, 1)
        near = {"Newer": number - 1, "Older": number + 1}
        return {name: self.make_address({**query, "page": str(other)}) for name, other in near.items() if 1 <= other <= pages}

    def _choose(self, **values: Any) -> str:
        """Return the address of the choose page, filled in, with the focus where the new branch's name goes."""
        return f"{self.state.prefix}?{urlencode(values)}#new_branch"

    def _pending(self, server: str) -> str:
        """Return the hub's page that shows one of this user's servers coming up."""
        return f"{self.state.hub_prefix}spawn-pending/{quote(self.name, safe='@')}/{quote(server, safe='')}"
