"""One build: one hypothesis at one commit, for everybody who asked for it."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any

from hubdock.core.errors import HubDockError
from hubdock.core.events import Event, Kind, Phase
from hubdock.core.text import format_seconds
from hubdock.engine.assembly import Assembly
from hubdock.engine.tasks import Attempt

Waiter = tuple[str, str]  # a user, and the server that waits; an empty one: the user themself, by API or command line


@dataclass(eq=False)
class Build:
    """One build. ``waiters`` are who wants it, and for which of their servers; ``left`` are who wanted it before; ``attempts`` are its tasks by part; ``done`` is set when it ended; ``error`` says why it failed.

    ``queue`` holds the parts that wait for a place: (position from 1, expected seconds or None).
    """

    assembly: Assembly
    identity: str
    waiters: set[Waiter] = field(default_factory=set)
    left: set[Waiter] = field(default_factory=set)
    created: float = field(default_factory=time.time)
    finished: float | None = None
    phase: Phase = Phase.QUEUED
    error: HubDockError | None = None
    attempts: dict[str, Attempt] = field(default_factory=dict)
    queue: dict[str, tuple[int, float | None]] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    done: asyncio.Event = field(default_factory=asyncio.Event)
    writing: asyncio.Lock = field(default_factory=asyncio.Lock)
    runner: asyncio.Task[None] | None = None

    @property
    def users(self) -> set[str]:
        """The names of those who want it."""
        return {user for user, _ in self.waiters}

    @property
    def askers(self) -> set[str]:
        """The names of those who ever wanted it, and so may see how it ends."""
        return {user for user, _ in self.waiters | self.left}

    @property
    def waits(self) -> bool:
        """True while nothing of it has begun, or a part waits for a place."""
        return bool(self.queue) or not (self.attempts or self.assembly.plan.ready or self.done.is_set())

    def tell(self, phase: Phase, message: str = "", error: HubDockError | None = None) -> None:
        """Record a phase of the whole start."""
        self.phase = phase
        self.events.append(Event(Kind.PHASE, time.time(), "", phase, message, error=error.as_dict() if error else None))

    def tell_position(self, part: str, position: int, seconds: float | None) -> None:
        """Record where a part is in the queue, once for each position; 0: it has its place."""
        before = self.queue.get(part)
        if position == (before[0] if before else 0):
            return
        if position:
            self.queue[part] = (position, seconds)
            message = f"number {position} in the queue{f', about {format_seconds(seconds)}' if seconds else ''}"
            self.events.append(Event(Kind.PHASE, time.time(), part, Phase.QUEUED, message))
        else:
            del self.queue[part]
            self.events.append(Event(Kind.PHASE, time.time(), part, Phase.BUILDING))

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form of the API."""
        plan = self.assembly.plan
        return {
            "id": self.identity, "phase": str(self.phase), "repo": plan.repo, "ref": plan.ref, "new_branch": plan.new_branch, "commit": plan.commit,
            "image": self.assembly.image.key if self.assembly.image else "", "created": self.created, "finished": self.finished,
            "error": self.error.as_dict() if self.error else None, "options": self.assembly.options.as_dict(), "parts": [part.as_dict() for part in plan.parts], "notices": list(plan.notices),
            "tasks": {part: attempt.identity for part, attempt in self.attempts.items()},
            "queue": {part: {"position": position, "seconds": seconds} for part, (position, seconds) in self.queue.items()},
        }  # fmt: skip
