"""A build's events as a stream: replayed from where a reader left off, then live, for any number of readers at no cost to the build."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import math
from collections.abc import AsyncIterator, Iterable, Iterator

from hubdock.core.events import Event
from hubdock.engine.build import Build
from hubdock.engine.logs import Block, find_size, read_block

PARTS = ("base", "environment", "data", "image")
REPLAY = 256 * 1024


class Cursor:
    """Where a reader of a build's events is: a count of its own events and a byte offset in each task's log. Its text is an SSE event id."""

    def __init__(self, text: str = "") -> None:
        numbers = text.split(".")
        valid = len(numbers) == len(PARTS) + 1 and all(n.isascii() and n.isdigit() and len(n) < 16 for n in numbers)
        self.positions = [int(n) for n in numbers] if valid else [0] * (len(PARTS) + 1)
        self.fresh = not valid

    def __str__(self) -> str:
        return ".".join(map(str, self.positions))


def _mark(number: int, events: Iterable[tuple[int, Event]]) -> Iterator[tuple[int, int, Event]]:
    """Yield (number of the log, position after the event, event)."""
    for position, event in events:
        yield number, position, event


async def stream_events(build: Build, cursor: Cursor, poll: float = 0.1) -> AsyncIterator[tuple[str, Event]]:
    """Yield (cursor after it, event) of a build, from the cursor on, until its last.

    They come in the order of their times. A fresh cursor starts `REPLAY` bytes before the end of each log at most: memory and time are bounded whatever
    was logged. Files are read in threads, a block of each at a time, so that a long log keeps nobody else waiting.
    """
    started: set[str] = set()
    while True:
        ended = build.done.is_set()
        blocks = await _read_blocks(build, cursor, started)
        own = cursor.positions[0]
        sources = [_mark(number, block.events) for number, block in blocks.items()]
        sources.append(_mark(0, enumerate(build.events[own:], own + 1)))
        limit = min((max(event.time for _, event in block.events) for block in blocks.values() if block.cut), default=math.inf)
        for number, position, event in heapq.merge(*sources, key=lambda found: found[2].time):
            if event.time > limit:  # what comes before it is not read yet
                break
            cursor.positions[number] = position
            yield str(cursor), event
        if any(block.cut for block in blocks.values()):
            continue
        if ended:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(poll):
                await build.done.wait()


async def _read_blocks(build: Build, cursor: Cursor, started: set[str]) -> dict[int, Block]:
    """Return a block of each log that has grown, by its number."""
    grown = {}
    for number, part in enumerate(PARTS, 1):
        attempt = build.attempts.get(part)
        if attempt is None:
            continue
        if cursor.fresh and part not in started:
            cursor.positions[number] = await asyncio.to_thread(attempt.tail_offset, REPLAY)
        started.add(part)
        if find_size(attempt.events_path) > cursor.positions[number]:
            grown[number] = attempt
    if not grown:
        return {}
    return await asyncio.to_thread(lambda: {number: read_block(attempt, cursor.positions[number]) for number, attempt in grown.items()})
