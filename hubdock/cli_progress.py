"""How a build looks in a terminal (a bar for each part) and in a pipe (a line for each step)."""

from __future__ import annotations

import re
import time
from collections import deque
from types import TracebackType
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Column

from hubdock.cli_output import format_event
from hubdock.core.events import Event, Kind, Phase
from hubdock.core.plan import Plan, State
from hubdock.core.text import format_seconds

TAIL = 15
_STEP = "▸ "
_NOISE = re.compile(r"--mount=\S+ |/opt/conda/bin/python -I \S+/(?=install\.py)|(?<=[:/][0-9a-f]{12})[0-9a-f]{52}(?![0-9a-f])|docker\.io/(?=hubdock/)")


class Display(Protocol):
    """Shows one build."""

    def plan(self, plan: Plan) -> None:
        """Take in what is to be made, at first and whenever more is known."""

    def take(self, event: Event) -> None:
        """Take in one event."""

    def say(self, message: str) -> None:
        """Tell something beside the events."""

    def close(self) -> None:
        """End the display."""


def shorten_step(text: str) -> str:
    """Return BuildKit's name of a step without mounts and the tails of keys."""
    return _NOISE.sub("", text)


class PlainDisplay:
    """A line for each phase and step; with ``verbose`` for each line of output too."""

    def __init__(self, console: Console, verbose: bool) -> None:
        self._console, self._verbose = console, verbose
        self._began: dict[str, float] = {}

    def plan(self, plan: Plan) -> None:
        return

    def take(self, event: Event) -> None:
        if event.kind is Kind.PHASE and event.part:
            self._began.setdefault(event.part, event.time)
            ready = f" in {event.time - self._began[event.part]:.1f} s" if event.phase is Phase.READY else ""
            self.say(f"{format_event(event)}{ready}")
        elif event.kind is Kind.NOTICE or (event.kind is Kind.LOG and (self._verbose or event.message.startswith(_STEP))):
            self.say(format_event(event) if self._verbose else shorten_step(format_event(event)))

    def say(self, message: str) -> None:
        self._console.print(message, soft_wrap=True)

    def close(self) -> None:
        return


class BarDisplay:
    """A bar for each part that is to be made, with what happens now beside it; with ``verbose`` the output above the bars."""

    def __init__(self, console: Console, verbose: bool) -> None:
        self._console, self._verbose = console, verbose
        self._bars: dict[str, TaskID] = {}
        self._progress = Progress(
            TextColumn("{task.fields[part]:<11}"), BarColumn(bar_width=24), TaskProgressColumn(), TimeElapsedColumn(),
            TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1)),
            console=console, expand=True,
        )  # fmt: skip
        self._progress.start()

    def plan(self, plan: Plan) -> None:
        for part in plan.parts:
            if part.state in {State.BUILD, State.RUNNING} and part.name not in self._bars:
                estimate = f"waits; takes about {format_seconds(part.seconds)}" if part.seconds else "waits"
                self._bars[part.name] = self._progress.add_task(estimate, total=100.0, start=False, part=part.name)

    def take(self, event: Event) -> None:
        if event.kind is Kind.NOTICE or (event.kind is Kind.LOG and self._verbose):
            self.say(format_event(event))
        bar = self._bars.get(event.part)
        if bar is None:
            return
        if event.kind is Kind.PHASE:
            self._show_phase(bar, event)
        elif event.kind is Kind.LOG and event.message.startswith(_STEP):
            self._progress.update(bar, description=shorten_step(event.message.removeprefix(_STEP)))
        elif event.percent is not None:
            told = event.message if event.part == "data" else ""  # the others' are steps, which the log tells whole
            self._progress.update(bar, completed=event.percent, description=told or None)

    def _show_phase(self, bar: TaskID, event: Event) -> None:
        self._begin(bar)
        ended = event.phase is not None and event.phase.ended
        self._progress.update(bar, description=str(event.phase) if ended else f"{event.phase} {event.message}".strip())
        if event.phase is Phase.READY:
            self._progress.update(bar, completed=100.0)
        if ended:
            self._progress.stop_task(bar)

    def _begin(self, bar: TaskID) -> None:
        task = self._progress.tasks[self._progress.task_ids.index(bar)]
        if task.start_time is None:
            self._progress.start_task(bar)

    def say(self, message: str) -> None:
        self._progress.console.print(message, soft_wrap=True)

    def close(self) -> None:
        self._progress.stop()


class Watch:
    """A display that also keeps what a failure needs: which part failed, and its last lines."""

    def __init__(self, console: Console, verbose: bool) -> None:
        self.display: Display = (BarDisplay if console.is_terminal else PlainDisplay)(console, verbose)
        self.started = time.monotonic()
        self.failed = ""
        self._tails: dict[str, deque[str]] = {}

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.display.close()

    @property
    def tail(self) -> list[str]:
        """The last lines of the part that failed."""
        return list(self._tails.get(self.failed, ()))

    @property
    def seconds(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self.started

    def take(self, event: Event) -> None:
        """Take in one event."""
        if event.kind is Kind.LOG and event.message.startswith(_STEP):
            self._tails[event.part] = deque([shorten_step(event.message)], maxlen=TAIL)
        elif event.kind is Kind.LOG:
            self._tails.setdefault(event.part, deque(maxlen=TAIL)).append(event.message)
        if event.phase is Phase.FAILED and event.part and not self.failed:
            self.failed = event.part
        self.display.take(event)
