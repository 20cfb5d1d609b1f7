"""The administrators' page: builds that run, wait and have ended, the queue, images, and the disk."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tornado.web import HTTPError

from hubdock.core.collection import Item
from hubdock.core.errors import HubDockError
from hubdock.core.text import format_seconds
from hubdock.engine.build import Build
from hubdock.engine.collect import Report
from hubdock.engine.database import BuildRow
from hubdock.engine.queue import FairQueue
from hubdock.engine.rows import read_waiters
from hubdock.service.pages import PageHandler

ENDED = 50  # builds that are listed
KINDS = {
    "image": "Images", "environment": "Environments", "base": "Bases", "data": "Data", "cache": "Build cache", "repository": "Copies of repositories",
    "history": "Histories for workspaces", "workspace": "Workspaces in the trash", "log": "Logs",
}  # fmt: skip


@dataclass(frozen=True)
class Space:
    """What one kind of thing takes. ``size`` and ``held`` are bytes; ``counts`` says that it is part of the budget."""

    name: str
    number: int
    size: int
    held: int
    counts: bool


class AdminPage(PageHandler):
    """The page, and its one button."""

    def _require_admin(self) -> None:
        if not self.is_admin:
            raise HTTPError(403, "This page needs the scope custom:hubdock:admin.")

    async def get(self) -> None:
        self._require_admin()
        await self.show()

    async def post(self) -> None:
        self._require_admin()
        if self.get_body_argument("action", "") != "collect":
            raise HTTPError(400, "Choose to collect.")
        try:
            report = await self.state.collecting.collect_soon()
        except HubDockError as error:
            await self.show(error=error)
            return
        await self.show(done=report)

    async def show(self, error: HubDockError | None = None, done: Report | None = None) -> None:
        """Draw the page, with what was just collected or why it was not."""
        report, problem = None, error
        try:
            report = await self.state.collecting.look_soon()
        except HubDockError as caught:
            problem = problem or caught
        builds = self.engine.builds
        rows = await builds.in_thread(self.engine.database.list_builds, 4 * ENDED)
        self.render_page(
            "admin.html", error.status if error else 200, error=problem, done=done, collects=self.state.collecting.collects, report=report,
            active=[describe_active(build) for build in builds.by_id.values() if not build.done.is_set()], queues=list_queues(builds.runner.queues),
            ended=[describe_ended(row) for row in rows if row.finished is not None][:ENDED], spaces=list_spaces(report.kept, report) if report else [],
        )  # fmt: skip


def describe_active(build: Build) -> dict[str, Any]:
    """Return what the page shows of a build under way: whose, of what, since when, and where its parts are in the queue."""
    options = build.assembly.options
    places = [f"{part}: number {position}{f', about {format_seconds(seconds)}' if seconds else ''}" for part, (position, seconds) in sorted(build.queue.items())]
    return {
        "id": build.identity, "repo": options.repo.short, "branch": options.branch, "users": sorted(build.users), "created": build.created,
        "phase": "waiting" if build.waits else str(build.phase), "places": places, "parts": sorted(build.attempts),
    }  # fmt: skip


def describe_ended(row: BuildRow) -> dict[str, Any]:
    """Return what the page shows of a build of the past."""
    options = json.loads(row.options)
    return {
        "id": row.id, "repo": row.repo.partition("://")[2], "branch": options.get("new_branch") or row.ref, "users": sorted({user for user, _ in read_waiters(row)}),
        "phase": row.status, "finished": row.finished, "seconds": format_seconds((row.finished or row.created) - row.created),
        "message": json.loads(row.error).get("message", "") if row.error else "",
    }  # fmt: skip


def list_queues(queues: dict[str, FairQueue]) -> list[dict[str, Any]]:
    """Return for each kind of work how many places it has, how many are taken, and how many tasks wait for one. Kinds with the same places are one."""
    found: dict[int, dict[str, Any]] = {}
    for kind, queue in queues.items():
        known = found.setdefault(id(queue), {"kinds": [], "places": queue.places, "taken": queue.running.total(), "waiting": len(queue.waiting)})
        known["kinds"].append(kind)
    return list(found.values())


def list_spaces(items: Iterable[Item], report: Report) -> list[Space]:
    """Return what each kind takes, what would be collected now included, in the order in which people think of it."""
    every = [*items, *(removal.item for removal in report.removals)]
    spaces = []
    for kind, name in KINDS.items():
        ours = [item for item in every if item.kind == kind]
        if ours:
            spaces.append(Space(name, len(ours), sum(item.size for item in ours), sum(item.size for item in ours if item.held), any(item.counts for item in ours)))
    return spaces
