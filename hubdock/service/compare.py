"""The pages that compare branches, and the same as JSON. Everything is read from git, as whoever asks may read it now; nothing needs JavaScript.

Outputs of notebooks are strangers' HTML: they come only as documents of their own, sandboxed by their own policy and by the frame that shows them.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any
from urllib.parse import urlencode

from tornado.web import HTTPError

from hubdock.core.errors import HubDockError, InvalidOption, RefNotFound
from hubdock.core.notebooks import MAX_CELLS, CellDifference, make_outputs_page, parse_notebook
from hubdock.core.repo import drop_credentials, parse_repo_url
from hubdock.core.text import make_plain
from hubdock.core.tree import Tree
from hubdock.drivers import git, space
from hubdock.drivers.cells import diff_notebooks
from hubdock.drivers.heads import Heads
from hubdock.engine.compare import MOST, Comparison, compare
from hubdock.engine.metrics import find_blobs
from hubdock.engine.notebooks import read_notebook, read_pair
from hubdock.service.base import SECURITY, APIHandler, BaseHandler
from hubdock.service.pages import PageHandler

FRAMED = 5 * 60.0  # seconds that the address of an output is good for: then the right to read the repository is asked for anew
OUTPUTS_POLICY = "sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline'; form-action 'none'; base-uri 'none'; frame-ancestors 'self'"


class Comparing(BaseHandler):
    """What the pages and the API share."""

    def read_choice(self) -> tuple[str, list[str], str]:
        """Return what is asked for: (repository, branches, base), as typed."""
        refs = [ref[:1000] for ref in self.get_query_arguments("refs") if ref][:200]
        return self.get_query_argument("repo", "")[:2048], refs, self.get_query_argument("base", "")[:1000]

    async def compare(self, repo: str, refs: list[str], base: str) -> tuple[Any, Comparison]:
        """Return the repository's branches, and the wanted ones compared. Raises HubDockError with the field."""
        address = parse_repo_url(repo)
        with space.noticed():
            return await self.engine.builds.remotes.ask(address.origin, compare, self.engine.planner.reader, address, self.asker, refs, base)

    async def compare_notebook(self) -> tuple[dict[str, Any], list[CellDifference]]:
        """Return what was asked for with the ids of both sides, and the differences of the notebook. Raises HubDockError."""
        given = {name: self.get_query_argument(name, "")[:2048] for name in ("repo", "before", "after", "path")}
        address = parse_repo_url(given["repo"])
        oids, (before, after) = await self.engine.builds.remotes.ask(address.origin, self._read_pair, given)
        async with self.state.comparing:
            differences = await asyncio.to_thread(diff_notebooks, given["path"], before, after)
        return {**given, "repo": address.canonical, "oids": oids}, differences

    def _read_pair(self, given: dict[str, str]) -> tuple[list[str], tuple[bytes, bytes]]:
        reader = self.engine.planner.reader
        repo = parse_repo_url(given["repo"])
        reader.settings.check_choice(repo)
        remote = reader.make_remote(repo, self.asker)
        known = git.list_branches(remote).heads  # whoever may not read the repository gets no further
        heads = {branch: known[branch] for branch in (given["before"], given["after"]) if branch in known}
        mirror = Heads(reader.settings.state, remote, reader.settings.max_repo_size)
        here = mirror.ensure_commits(heads)
        trees: list[Tree] = []
        for branch in (given["before"], given["after"]):
            if heads.get(branch) not in here:
                raise RefNotFound(f"There is no branch {make_plain(branch, 255)}.", field="refs")
            trees.append(mirror.read_tree(heads[branch]))
        return [find_blobs(tree, [given["path"]]).get(given["path"], "") for tree in trees], read_pair(mirror, given["path"], trees[0], trees[1])


class ComparePage(Comparing, PageHandler):
    """Branches of a repository side by side. With a repository alone, its branches to choose from."""

    async def get(self) -> None:
        repo, chosen, base = self.read_choice()
        refs = comparison = error = None
        try:
            if repo and chosen:
                refs, comparison = await self.compare(repo, chosen, base)
        except HubDockError as problem:
            error = problem
        if repo and refs is None and (error is None or error.field == "refs"):
            try:
                refs = await self.engine.list_branches(parse_repo_url(repo), self.asker)
            except HubDockError as problem:
                error = problem
        values = {"repo": drop_credentials(repo), "refs": chosen, "base": base}
        await self.render_large_page(
            "compare.html", error.status if error else 200, values=values, refs=refs, comparison=comparison, error=error, offers=await self.state.offers.find(self.asker), most=MOST,
            link=self._link,
        )  # fmt: skip

    def _link(self, page: str, **values: str) -> str:
        return f"{self.state.prefix}{page}?{urlencode(values)}"


class NotebookPage(Comparing, PageHandler):
    """One notebook on two branches, cell by cell."""

    async def get(self) -> None:
        asked, differences = await self.compare_notebook()
        self.set_header("Content-Security-Policy", SECURITY["Content-Security-Policy"] + "; frame-src 'self'")
        back = f"{self.state.prefix}compare?{urlencode([('repo', asked['repo']), ('refs', asked['before']), ('refs', asked['after']), ('base', asked['before'])])}"
        frames = [self._sign(asked, differences, side) for side in (0, 1)]
        await self.render_large_page("notebook.html", asked=asked, cells=differences, frames=frames, back=back, most=MAX_CELLS)

    def _sign(self, asked: dict[str, Any], differences: list[CellDifference], side: int) -> dict[int, str]:
        """Return the addresses of one side's outputs by cell. Each is signed for this person and some minutes, for it is not checked with the remote again."""
        cells = [one.after if side else one.before for one in differences if one.outputs]
        signed = {
            cell: self.create_signed_value("hubdock-outputs", json.dumps([self.name, asked["repo"], asked["path"], asked["oids"][side], cell])).decode()
            for cell in cells if cell is not None
        }  # fmt: skip
        return {cell: f"{self.state.prefix}compare/outputs?{urlencode({'of': value})}" for cell, value in signed.items()}


class OutputsFrame(BaseHandler):
    """The outputs of one cell, as a document that can neither run anything nor reach anything."""

    def set_default_headers(self) -> None:
        super().set_default_headers()
        self.set_header("Content-Security-Policy", OUTPUTS_POLICY)
        self.set_header("X-DNS-Prefetch-Control", "off")
        self.set_header("Content-Type", "text/html; charset=utf-8")

    async def get(self) -> None:
        signed = self.get_signed_cookie("hubdock-outputs", self.get_query_argument("of", ""), max_age_days=FRAMED / 86400)
        if signed is None:
            raise HTTPError(404, "This page is some minutes old. Load it again to see the outputs.")
        name, repo, path, oid, cell = json.loads(signed)
        if name != self.name:
            raise HTTPError(404, "These outputs were shown to somebody else.")
        address = parse_repo_url(repo)
        content = await self.engine.builds.remotes.ask(address.origin, self._read, address, path, oid)
        self.finish(await asyncio.to_thread(lambda: make_outputs_page(parse_notebook(path, content), cell, f"Outputs of cell {cell + 1}")))

    def _read(self, address: Any, path: str, oid: str) -> bytes:
        reader = self.engine.planner.reader
        reader.settings.check_choice(address)
        return read_notebook(reader.make_mirror(reader.make_remote(address, self.asker)), path, oid)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish(self.describe_error(kwargs.get("exc_info", (None, None, None))[1], status_code)["message"])


class CompareHandler(Comparing, APIHandler):
    """Branches compared, as JSON."""

    async def get(self) -> None:
        repo, chosen, base = self.read_choice()
        if len(chosen) < 2:
            raise InvalidOption("Give two branches or more, each as “refs”.", field="refs")
        _, comparison = await self.compare(repo, chosen, base)
        self.write_json({"repo": parse_repo_url(repo).canonical, **comparison.as_dict()})


class NotebookHandler(Comparing, APIHandler):
    """One notebook on two branches, as JSON, without outputs."""

    async def get(self) -> None:
        asked, differences = await self.compare_notebook()
        del asked["oids"]
        self.write_json({**asked, "cells": [one.as_dict() for one in differences]})
