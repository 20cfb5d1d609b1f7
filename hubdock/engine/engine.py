"""The engine: plans, builds and launches, for the service and for the command line alike."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

from hubdock.core.asker import Asker, load_asker
from hubdock.core.errors import BackendError, HubDockError, from_dict
from hubdock.core.events import Event, Kind, Phase
from hubdock.core.options import Options, parse_options
from hubdock.core.repo import RepoURL
from hubdock.drivers import git, space
from hubdock.drivers.git import RemoteRefs
from hubdock.engine.assembly import Assembly
from hubdock.engine.bases import BaseRefresher
from hubdock.engine.build import Build
from hubdock.engine.builds import Builds
from hubdock.engine.collect import Collector
from hubdock.engine.config import HubDock
from hubdock.engine.database import BuildRow, Database
from hubdock.engine.handover import Handovers
from hubdock.engine.logs import stream_log
from hubdock.engine.planner import Planner
from hubdock.engine.rows import read_waiters
from hubdock.engine.tasks import Attempt, TaskStore

log = logging.getLogger("hubdock")


class Engine:
    """One engine over one state directory. Create it inside a running event loop."""

    def __init__(self, settings: HubDock) -> None:
        settings.check()
        self.settings = settings
        self.database = Database(settings.database_url)
        self.tasks = TaskStore(settings.state)
        self.planner = Planner(settings, self.database, self.tasks)
        self.collector = Collector(settings, self.database, self.tasks)
        self.builds = Builds(settings, self.database, self.tasks, self.planner)
        self.bases = BaseRefresher(settings, self.database, self.tasks)
        self.handovers = Handovers(settings.state)

    async def plan(self, options: Options, asker: Asker, **kwargs: bool) -> Assembly:
        """Return the plan of a choice (`Planner.plan`)."""
        with space.noticed():
            return await self.builds.remotes.ask(options.repo.origin, self.planner.plan, options, asker, **kwargs)

    async def list_branches(self, repo: RepoURL, asker: Asker) -> RemoteRefs:
        """Return the branches and tags of a repository, as they are now. Raises ResolveError's children if this person may not read it."""
        self.settings.check_choice(repo)
        return await self.builds.remotes.ask(repo.origin, lambda: git.list_branches(self.planner.reader.make_remote(repo, asker)))

    async def ensure(self, assembly: Assembly, user: str, server: str = "") -> Build:
        """Return the build that makes what is missing (`Builds.ensure`)."""
        return await self.builds.ensure(assembly, user, server)

    async def resume(self) -> int:
        """Take up the builds that an earlier process of this state directory left: their workers go on, or have ended meanwhile. Return how many."""
        rows = await self.builds.in_thread(self.database.list_left, self.settings.identity)
        for row in rows:
            asyncio.get_running_loop().create_task(self._resume(row))
        return len(rows)

    async def _resume(self, row: BuildRow) -> None:
        waiters = read_waiters(row) or {("", "")}
        try:
            assembly = await self.plan(parse_options(json.loads(row.options)), load_asker(json.loads(row.asker)))
            build = await self.builds.ensure(assembly, *min(waiters), row.id)
            build.waiters |= waiters
            log.info("build %s is taken up again", row.id)
        except HubDockError as error:
            row.status, row.error, row.finished = str(Phase.FAILED), json.dumps(error.as_dict()), row.created
            with contextlib.suppress(BackendError):
                await self.builds.in_thread(self.database.write_build, row)

    def find_build(self, identity: str) -> Build | None:
        """Return a build of this process."""
        return self.builds.by_id.get(identity)

    async def read_build(self, identity: str) -> dict[str, Any] | None:
        """Return the JSON form of any build, of this process or of the past."""
        build = self.find_build(identity)
        if build is not None:
            return {**build.as_dict(), "users": sorted(build.users), "askers": sorted(build.askers)}
        row = await self.builds.in_thread(self.database.read_build, identity)
        return None if row is None else describe_row(row)

    async def find_log(self, identity: str) -> tuple[list[Attempt], list[Event]]:
        """Return the logs of a build's tasks in the order in which they were made, and its own last words."""
        build = self.find_build(identity)
        if build is not None:
            return list(build.attempts.values()), build.events
        row = await self.builds.in_thread(self.database.read_build, identity)
        places = json.loads(row.tasks).values() if row else []
        found = [await self.builds.in_thread(self.tasks.find, *map(str, place)) for place in places]
        return [attempt for attempt in found if attempt is not None], describe_end(row)

    async def read_log(self, identity: str) -> AsyncIterator[str]:
        """Yield the whole log of a build as text, in pieces."""
        attempts, last = await self.find_log(identity)
        async for text in stream_log(attempts, last, self.builds.in_thread):
            yield text

    async def close(self) -> None:
        """Stop watching. Workers go on, and `resume` finds them."""
        self.builds.closing = True
        for build in list(self.builds.by_id.values()):
            if build.runner is not None and not build.done.is_set():
                build.runner.cancel()
        self.builds.runner.pool.shutdown(wait=False, cancel_futures=True)
        self.builds.remotes.close()


def describe_row(row: BuildRow) -> dict[str, Any]:
    """Return the JSON form of a build of the past."""
    users, options = sorted({user for user, _ in read_waiters(row)}), json.loads(row.options)
    return {
        "id": row.id, "phase": row.status, "repo": row.repo, "ref": row.ref, "commit": row.commit, "image": row.image, "created": row.created,
        "finished": row.finished, "error": json.loads(row.error) if row.error else None, "users": users, "askers": users, "parts": [], "notices": [],
        "options": options, "new_branch": options.get("new_branch", ""), "tasks": {part: "-".join(place) for part, place in json.loads(row.tasks).items()},
    }  # fmt: skip


def describe_end(row: BuildRow | None) -> list[Event]:
    """Return the last event of a build of the past, none if it has not ended."""
    if row is None or row.finished is None:
        return []
    error = from_dict(json.loads(row.error)) if row.error else None
    return [Event(Kind.PHASE, row.finished, "", Phase(row.status), str(error) if error else "", error=error.as_dict() if error else None)]
