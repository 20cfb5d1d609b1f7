"""The account of each build that somebody watches, read once for all of them."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from weakref import WeakKeyDictionary

from sqlalchemy import select

from hubdock.core.account import Account
from hubdock.core.events import Event
from hubdock.core.progress import name_steps
from hubdock.engine.build import Build
from hubdock.engine.database import Database, TaskRow
from hubdock.engine.engine import Engine
from hubdock.engine.logs import find_size, read_told
from hubdock.engine.stream import PARTS
from hubdock.engine.tasks import Attempt

LAST = 5
PACE = 0.2  # seconds between two looks at the logs


class Teller:
    """One build's account, and how far its logs are read."""

    def __init__(self, past: Mapping[str, Mapping[str, float]]) -> None:
        self.account = Account(past)
        self.reading = asyncio.Lock()
        self.looked = 0.0
        self._offsets: dict[Path, int] = {}
        self._own = 0
        self._planned: object = None

    def find_grown(self, build: Build) -> list[Attempt]:
        """Return the logs that hold something new."""
        return [attempt for attempt in build.attempts.values() if find_size(attempt.events_path) != self._offsets.get(attempt.path, 0)]

    def read(self, grown: Iterable[Attempt]) -> list[Event]:
        """Return what the logs tell since the last time, but for output. It blocks."""
        found: list[Event] = []
        for attempt in grown:
            self._offsets[attempt.path], events = read_told(attempt, self._offsets.get(attempt.path, 0))
            found += events
        return found

    def take(self, build: Build, told: Iterable[Event]) -> None:
        """Take in a build's plan, what its tasks told, and its own events."""
        plan = build.assembly.plan
        if plan is not self._planned:
            self.account.plan([part.as_dict() for part in plan.parts], build.created if self._planned is None else time.time())
            self._planned = plan
        events, self._own = build.events[self._own :], len(build.events)
        for event in sorted([*told, *events], key=lambda event: event.time):
            self.account.take(event)


class Tellers:
    """The tellers of one engine's builds."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._known: WeakKeyDictionary[Build, Teller] = WeakKeyDictionary()

    async def tell(self, build: Build) -> Account:
        """Return the account of a build as it is now."""
        in_thread = self.engine.builds.in_thread
        teller = self._known.get(build)
        if teller is None:
            past = await in_thread(read_past, self.engine.database)
            teller = self._known.setdefault(build, Teller(past))
        async with teller.reading:
            if time.monotonic() - teller.looked < PACE and not build.done.is_set():
                return teller.account
            teller.looked = time.monotonic()
            grown = teller.find_grown(build)
            teller.take(build, await in_thread(teller.read, grown) if grown else [])
        return teller.account


def read_past(database: Database) -> dict[str, dict[str, float]]:
    """Return how long the steps of each part took, the medians of its last tasks."""
    return {part: _find_medians(database, part) for part in PARTS}


def _find_medians(database: Database, part: str) -> dict[str, float]:
    query = select(TaskRow.steps).where(TaskRow.kind == part, TaskRow.status == "ready").order_by(TaskRow.finished.desc()).limit(LAST)
    with database.reading() as session:
        rows = [name_steps(json.loads(text)) for text in session.scalars(query)]
    rows = [row for row in rows if row]
    if not rows:
        return {}
    return {name: statistics.median(row[name] for row in rows if name in row) for name in rows[0]}


def tell_past(attempts: Iterable[Attempt], last: Iterable[Event]) -> Account:
    """Return the account of a build of the past, from what is kept of its tasks. It blocks."""
    account = Account()
    told = [event for attempt in attempts for event in read_told(attempt)[1]]
    for event in [*sorted(told, key=lambda event: event.time), *last]:
        account.take(event)
    return account
