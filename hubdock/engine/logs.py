"""The logs of tasks as their readers want them: whole, the end, or all but the output. However long a log is, little of it is held at once.

What is here reads files and blocks: call it in a thread.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from hubdock.core.events import Event, Kind, parse_event
from hubdock.engine.tasks import Attempt

T = TypeVar("T")
InThread = Callable[..., Awaitable[T]]
BLOCK = 64 * 1024
WINDOW = 64 * 1024  # how much of a log a page is given at once; what it is behind by more is left out
MAX_SHOWN = 500
_OUTPUT = b'{"kind":"log"'  # how `Event.as_line` begins a line of output


@dataclass(frozen=True)
class Block:
    """Some events of one log, each with the offset after it. ``cut``: more are there already."""

    events: list[tuple[int, Event]]
    cut: bool = False


def read_block(attempt: Attempt, offset: int, most: int = BLOCK) -> Block:
    """Return the events from a byte offset on, of about ``most`` bytes."""
    events: list[tuple[int, Event]] = []
    for position, event in attempt.read_events(offset):
        events.append((position, event))
        if position - offset > most:
            return Block(events, True)
    return Block(events)


def read_told(attempt: Attempt, offset: int = 0) -> tuple[int, list[Event]]:
    """Return (offset after them, events) of all but output: they are few, whatever was printed."""
    found = []
    with suppress(FileNotFoundError), attempt.events_path.open("rb") as file:
        file.seek(offset)
        for line in file:
            if not line.endswith(b"\n"):
                break
            offset += len(line)
            if not line.startswith(_OUTPUT):
                with suppress(ValueError, KeyError):
                    found.append(parse_event(line))
    return offset, found


def show_line(event: Event) -> str:
    """Return a line of output as pages show it."""
    message = event.message if len(event.message) <= MAX_SHOWN else f"{event.message[:MAX_SHOWN]}…"
    return f"[{event.part}] {message}"


@dataclass
class Tail:
    """Where a page is in the logs of a build, by part: byte offsets. Its text is an SSE event id."""

    positions: dict[str, int] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> Tail:
        """Return what `__str__` gave; a fresh one for anything else."""
        try:
            pairs = [pair.split("-") for pair in text.split("_")] if text.isascii() else []
            return cls({part: int(number) for part, number in pairs if part.isalpha() and number.isdigit() and len(number) < 16})
        except ValueError:
            return cls()

    def __str__(self) -> str:
        return "_".join(f"{part}-{number}" for part, number in sorted(self.positions.items()))

    def find_grown(self, attempts: dict[str, Attempt]) -> dict[str, Attempt]:
        """Return the logs that hold something new. It costs a look at each file's size."""
        return {part: attempt for part, attempt in attempts.items() if find_size(attempt.events_path) != self.positions.get(part, 0)}

    def read(self, attempts: dict[str, Attempt], window: int = WINDOW, until: dict[str, int] | None = None) -> tuple[list[str], int]:
        """Return (lines of output, bytes left out) since the last time, at most ``window`` bytes of each log, and none after the offsets of ``until``."""
        lines: list[tuple[float, str]] = []
        skipped = 0
        for part, attempt in attempts.items():
            size = find_size(attempt.events_path)
            end = size if until is None else min(size, until.get(part, 0))
            at = self.positions.get(part, 0)
            at = 0 if size < at else at  # another attempt's log
            begin = attempt.find_line(end - window) if end - at > window else at
            skipped += begin - at
            at = begin
            for position, event in attempt.read_events(at) if at < end else ():
                if position > end and until is not None:
                    break
                at = position
                if event.kind is Kind.LOG:
                    lines.append((event.time, show_line(event)))
            self.positions[part] = at
        return [line for _, line in sorted(lines, key=lambda line: line[0])], skipped


def find_size(path: Path) -> int:
    """Return the size of a file in bytes, 0 where there is none."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def format_events(events: Iterable[Event]) -> str:
    """Return events as the lines of a whole log."""
    shown = [event for event in events if event.kind not in {Kind.PROGRESS, Kind.STEP}]
    return "".join(f"[{event.part or 'start'}] {f'{event.phase}: ' if event.phase else ''}{event.message}\n" for event in shown)


async def stream_log(attempts: Sequence[Attempt], last: Sequence[Event], in_thread: InThread[Block]) -> AsyncIterator[str]:
    """Yield the whole log of a build in pieces: its tasks' one after the other, then its own last words."""
    for attempt in attempts:
        offset, cut = 0, True
        while cut:
            block = await in_thread(read_block, attempt, offset, 4 * BLOCK)
            offset, cut = block.events[-1][0] if block.events else offset, block.cut
            yield format_events(event for _, event in block.events)
    yield format_events(last)
