"""The board's view: the repositories that somebody may read now, and their branches, with what is known of each.

A repository is shown only to whom its remote answered within the last minute. One that can't be reached is named only to those who read it before; of
all others nothing is said, whether they are missing, forbidden or silent. Nothing waits long for a remote: what is read later is there at the next look.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

from hubdock.core.asker import Asker
from hubdock.core.board import Page, Row, Runs, Wanted, add_shared, make_page
from hubdock.core.errors import AccessDenied, HubDockError, RepoNotAllowed, RepoUnreachable
from hubdock.core.naming import make_server_name
from hubdock.core.refs import make_short
from hubdock.core.repo import RepoURL, parse_repo_url
from hubdock.drivers.git import RemoteRefs
from hubdock.engine.board import BoardReader, Details, find_makers, find_repositories
from hubdock.engine.engine import Engine
from hubdock.service.readable import Answer, Readable
from hubdock.service.servers import RunningServer, Servers

log = logging.getLogger("hubdock")
ASK, READ = 3.0, 0.8  # seconds that a page waits for remotes' names, and for what is fetched of their branches
REPOSITORIES = 50  # that are asked for one page
AHEAD = 200  # newest branches of a repository that are read even if they are on no page yet
RETRY = 30.0  # seconds until what could not be read is tried again
MOST = 1000
PARALLEL = 4
Makers = Mapping[tuple[str, str], tuple[str, ...]]


@dataclass(frozen=True)
class Repository:
    """One repository on the board. ``message`` says why it can't be read now, empty if it can; ``title`` is the catalogue's."""

    repo: RepoURL
    refs: RemoteRefs
    message: str = ""
    title: str = ""

    def make_ref(self, branch: str) -> str:
        """Return the name that stands for a branch and nothing else."""
        return f"refs/heads/{branch}" if branch in self.refs.tags else branch


@dataclass(frozen=True)
class View:
    """What the board shows. ``waiting`` counts the branches on the page that are not read yet; ``more`` says that some repositories were not asked."""

    repositories: tuple[Repository, ...]
    page: Page
    waiting: int = 0
    more: bool = False

    def find(self, canonical: str) -> Repository:
        """Return the repository of a row."""
        return next(known for known in self.repositories if known.repo.canonical == canonical)


class Boards:
    """The boards of one service. It belongs to one event loop."""

    def __init__(self, engine: Engine, servers: Servers) -> None:
        self.engine, self.servers = engine, servers
        self.readable = Readable(engine)
        self.reader = BoardReader(engine.planner.reader)
        self._door = asyncio.Semaphore(PARALLEL)
        self._reading: dict[object, asyncio.Task[None]] = {}
        self._done: dict[object, float] = {}

    async def look(self, asker: Asker, wanted: Wanted, only: RepoURL | None = None) -> View:
        """Return what somebody wants to see: of one repository, or of all that they may read. Raises HubDockError if the one can't be read."""
        repos, more = ([only], False) if only else await self._find_candidates(asker)
        answers = await self.readable.ask(asker, repos, ASK)
        if only is not None and (answer := answers.get(only, _slow(only))).error is not None:
            raise answer.error
        titles = {entry.repo.canonical: entry.title for entry in self.engine.settings.entries}
        found = [replace(known, title=titles.get(repo.canonical, "")) for repo in repos if (known := self._judge(asker, repo, answers.get(repo))) is not None]
        await self._wait(self._begin("tips", asker, known, known.refs.heads) for known in found if self._lacks_tips(known))
        servers = await self.servers.find()
        makers = await self.engine.builds.in_thread(find_makers, self.engine.database, [known.repo.canonical for known in found])
        rows = await self.engine.builds.in_thread(self._make_rows, found, servers, makers)
        page = make_page(rows, wanted, asker.name)
        await self._wait(self._begin("details", asker, known, heads) for known, heads in self._list_unread(found, page.rows))
        rows = await self.engine.builds.in_thread(self._make_rows, found, servers, makers)
        page = make_page(rows, wanted, asker.name)
        page = replace(page, rows=add_shared(page.rows, rows))
        self._read_ahead(asker, found, rows)
        waiting = sum(not (row.detailed and row.time) for row in page.rows)
        return View(tuple(found), page, waiting, more)

    async def _find_candidates(self, asker: Asker) -> tuple[list[RepoURL], bool]:
        """Return what is asked for a board of all: what this person started something of, and the admin's catalogue; and whether there is more."""
        mine = await self.engine.builds.in_thread(find_repositories, self.engine.database, asker.name)
        found: dict[str, RepoURL] = {}
        for address in mine:
            with suppress(HubDockError):
                repo = parse_repo_url(address)
                found.setdefault(repo.canonical, repo)
        for entry in self.engine.settings.entries:
            found.setdefault(entry.repo.canonical, entry.repo)
        return list(found.values())[:REPOSITORIES], len(found) > REPOSITORIES

    def _judge(self, asker: Asker, repo: RepoURL, answer: Answer | None) -> Repository | None:
        """Return what may be told of a repository; None: nothing, not even that it is there."""
        if answer is not None and answer.refs is not None:
            return Repository(repo, answer.refs)
        if answer is not None and isinstance(answer.error, AccessDenied | RepoNotAllowed):
            return None
        if not self.readable.was_readable(asker, repo):
            return None
        why = answer.error.message if answer is not None and answer.error is not None else f"{repo.host} has not answered yet."
        return Repository(repo, RemoteRefs((), (), ""), why)

    # --- reading ---

    def _lacks_tips(self, known: Repository) -> bool:
        return len(self.reader.find_tips(known.repo, known.refs.heads.values())) < len(set(known.refs.heads.values()))

    def _list_unread(self, found: Iterable[Repository], rows: Iterable[Row]) -> list[tuple[Repository, dict[str, str]]]:
        """Return by repository the branches (name to commit) of rows that were not looked into yet."""
        unread: dict[str, dict[str, str]] = {}
        for row in rows:
            if not row.detailed:
                unread.setdefault(row.repo, {})[row.branch] = row.commit
        return [(known, heads) for known in found if (heads := unread.get(known.repo.canonical))]

    def _read_ahead(self, asker: Asker, found: Iterable[Repository], rows: list[Row]) -> None:
        """Have the newest branches read that are on no page yet, so that it is known what shares an environment."""
        newest: dict[str, list[Row]] = {}
        for row in sorted(rows, key=lambda row: -row.time):
            newest.setdefault(row.repo, []).append(row)
        ahead = [row for of_one in newest.values() for row in of_one[:AHEAD]]
        for known, heads in self._list_unread(found, ahead):
            self._begin("details", asker, known, heads)

    def _begin(self, what: str, asker: Asker, known: Repository, heads: Mapping[str, str]) -> asyncio.Task[None] | None:
        """Have something read of branches, once at a time whoever asks; None if that was tried a moment ago."""
        key = (what, known.repo.canonical, frozenset(heads.items()))
        now = time.monotonic()
        if now - self._done.get(key, -RETRY) < RETRY:
            return None
        if len(self._done) > MOST:
            self._done = {old: when for old, when in self._done.items() if now - when < RETRY}
        running = self._reading.get(key)
        if running is None:
            running = self._reading[key] = asyncio.create_task(self._read(what, asker, known.repo, heads, key))
            running.add_done_callback(lambda _: self._reading.pop(key, None))
        return running

    async def _read(self, what: str, asker: Asker, repo: RepoURL, heads: Mapping[str, str], key: object) -> None:
        def work() -> None:
            remote = self.engine.planner.reader.make_remote(repo, asker)
            (self.reader.read_tips if what == "tips" else self.reader.read_details)(remote, heads)

        try:
            async with self._door:
                await self.engine.builds.remotes.ask(repo.origin, work)
        except HubDockError as error:
            log.info("%s of %s were not read: %s %s", what, repo, error, error.detail)
        except Exception:
            log.exception("%s of %s", what, repo)
        self._done[key] = time.monotonic()  # well or not: a branch that moved meanwhile is another time's

    async def _wait(self, tasks: Iterable[asyncio.Task[None] | None]) -> None:
        running = [task for task in tasks if task is not None]
        if running:
            await asyncio.wait(running, timeout=READ)

    # --- rows ---

    def _make_rows(self, found: Iterable[Repository], servers: Iterable[RunningServer], makers: Makers) -> list[Row]:
        running: dict[tuple[str, str], list[Runs]] = {}
        for server in servers:
            running.setdefault((server.repo, make_short(server.branch)), []).append(Runs(server.user, server.name, server.url if server.ready else ""))
        rows = []
        for known in found:
            repo, heads = known.repo.canonical, known.refs.heads
            tips, details = self.reader.find_tips(known.repo, heads.values()), self.reader.find_details(known.repo, heads.values())
            for branch, commit in heads.items():
                tip, seen = tips.get(commit), details.get(commit)
                runs = tuple(server for server in running.get((repo, branch), ()) if server.server != make_server_name(known.repo, f"tag:{branch}"))
                row = Row(repo, branch, commit, branch == known.refs.default, makers=makers.get((repo, branch), ()), servers=runs)
                row = row if tip is None else replace(row, subject=tip.subject, author=tip.author, time=tip.time)
                rows.append(row if seen is None else add_details(row, seen))
        return rows


def _slow(repo: RepoURL) -> Answer:
    return Answer(None, RepoUnreachable(f"{repo.host} has not answered yet. Load the page again in a moment.", field="repo"), 0.0)


def add_details(row: Row, seen: Details) -> Row:
    """Return a row with what the files of its commit say."""
    return replace(row, detailed=True, environment=seen.environment, problem=seen.problem, metrics=seen.metrics)
