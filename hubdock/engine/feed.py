"""The newest output of a build for all who watch it: read and packed once, however many they are and however much is printed."""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from hubdock.engine.build import Build
from hubdock.engine.engine import Engine
from hubdock.engine.logs import Tail

PACE = 0.25  # seconds between two looks at the logs
MOST = 16 * 1024  # bytes of each log that one look takes: who watches a flood sees its newest part
KEPT = 16


@dataclass(frozen=True)
class Chunk:
    """What one look found: ``text`` is JSON (``lines``, and ``skipped``: bytes left out), ``position`` a `Tail` after it."""

    number: int
    text: str
    position: str


class Feed:
    """One build's output."""

    def __init__(self) -> None:
        self.tail = Tail()
        self.chunks: deque[Chunk] = deque(maxlen=KEPT)
        self.count = 0
        self.looking = asyncio.Lock()
        self.looked = 0.0

    def take(self, lines: list[str], skipped: int) -> None:
        """Keep what was found."""
        self.count += 1
        self.chunks.append(Chunk(self.count, json.dumps({"lines": lines, "skipped": skipped}), str(self.tail)))

    def find_after(self, number: int) -> list[Chunk]:
        """Return the chunks after a number that are still kept."""
        return [chunk for chunk in self.chunks if chunk.number > number]


class Feeds:
    """The feeds of one engine's builds."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._known: WeakKeyDictionary[Build, Feed] = WeakKeyDictionary()

    async def look(self, build: Build) -> Feed:
        """Return the feed of a build, looked at within the last `PACE` seconds."""
        feed = self._known.setdefault(build, Feed())
        async with feed.looking:
            if time.monotonic() - feed.looked < PACE and not build.done.is_set():
                return feed
            grown = feed.tail.find_grown(build.attempts)
            if grown:
                lines, skipped = await self.engine.builds.in_thread(feed.tail.read, grown, MOST)
                if lines or skipped:
                    feed.take(lines, skipped)
            feed.looked = time.monotonic()
        return feed

    async def join(self, build: Build, position: str) -> tuple[int, Chunk | None]:
        """Return (number to go on from, what a reader who is at a position has missed until then)."""
        feed = await self.look(build)
        number, until = feed.count, dict(feed.tail.positions)
        tail = Tail.parse(position)
        if tail.positions == until:
            return number, None
        lines, skipped = await self.engine.builds.in_thread(tail.read, dict(build.attempts), until=until)
        return number, Chunk(number, json.dumps({"lines": lines, "skipped": skipped}), str(tail)) if lines or skipped else None
