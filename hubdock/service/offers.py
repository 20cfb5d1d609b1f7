"""Which repositories of the catalogue a person sees: those that they can read now. Their remotes are asked at once, and none of them is waited for for long."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass

from hubdock.core.asker import Asker
from hubdock.core.catalogue import Entry
from hubdock.core.errors import HubDockError, RepoUnreachable
from hubdock.core.options import parse_options
from hubdock.engine.engine import Engine
from hubdock.engine.rows import read_waiters

MAX_AGE = 60.0
UNREACHABLE_AGE = 15.0
PATIENCE = 1.0
_MOST = 10_000
_RECENT = 10


@dataclass(frozen=True)
class Offer:
    """One repository to choose: of the catalogue, or one that this person started lately."""

    url: str
    title: str
    description: str = ""
    recent: bool = False


class Offers:
    """The catalogue of one service. It belongs to one event loop."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.entries = engine.settings.entries
        self._known: dict[tuple[Asker, str], tuple[float, bool]] = {}
        self._asking: dict[tuple[Asker, str], asyncio.Task[None]] = {}

    async def find(self, asker: Asker) -> list[Offer]:
        """Return what a person may choose, the repositories that they used last first."""
        recent, listed = await asyncio.gather(self._find_recent(asker.name), self.find_readable(asker))
        entries = {entry.repo.canonical: entry for entry in listed}
        kept = {canonical: url for canonical, url in recent.items() if canonical in entries or self.engine.settings.free_choice}
        first = [self._make(url, entries.get(canonical), True) for canonical, url in list(kept.items())[:_RECENT]]
        return first + [self._make(entry.repo.url, entry, False) for entry in listed if entry.repo.canonical not in kept]

    def _make(self, url: str, entry: Entry | None, recent: bool) -> Offer:
        return Offer(url, entry.title if entry else "", entry.description if entry else "", recent)

    async def find_readable(self, asker: Asker) -> list[Entry]:
        """Return the entries that a person can read, as known for a minute at most. What does not answer at once is left out this time."""
        asked = [self._ask(asker, entry) for entry in self.entries if not self._is_known(asker, entry)]
        if asked:
            await asyncio.wait(asked, timeout=PATIENCE)
        return [entry for entry in self.entries if self._known.get((asker, entry.repo.canonical), (0.0, False))[1] and self._is_known(asker, entry)]

    def _is_known(self, asker: Asker, entry: Entry) -> bool:
        until, _ = self._known.get((asker, entry.repo.canonical), (0.0, False))
        return time.monotonic() < until

    def _ask(self, asker: Asker, entry: Entry) -> asyncio.Task[None]:
        key = (asker, entry.repo.canonical)
        if key not in self._asking:
            self._asking[key] = asyncio.create_task(self._look(asker, entry))
            self._asking[key].add_done_callback(lambda _: self._asking.pop(key, None))
        return self._asking[key]

    async def _look(self, asker: Asker, entry: Entry) -> None:
        """Find out whether a person can read a repository, and remember it."""
        age, readable = MAX_AGE, True
        try:
            await self.engine.list_branches(entry.repo, asker)
        except HubDockError as error:
            age, readable = UNREACHABLE_AGE if isinstance(error, RepoUnreachable) else MAX_AGE, False
        now = time.monotonic()
        if len(self._known) >= _MOST:
            self._known = {key: value for key, value in self._known.items() if value[0] > now}
        self._known[asker, entry.repo.canonical] = (now + age, readable)

    async def _find_recent(self, user: str) -> dict[str, str]:
        """Return the addresses that a user started, by identity, the last first."""
        rows = await self.engine.builds.in_thread(self.engine.database.list_builds, 200)
        found: dict[str, str] = {}
        for row in rows:
            if any(waiter == user for waiter, _ in read_waiters(row)):
                repo = parse_options(json.loads(row.options)).repo
                found.setdefault(repo.canonical, repo.url)
        return found
