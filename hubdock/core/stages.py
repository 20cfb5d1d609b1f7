"""The stages of one start, each with its time, its steps, and how long it may still take by what it took before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from hubdock.core.events import Event, Phase

TITLES = {"queue": "Place in the queue", "base": "Base image", "environment": "Environment", "data": "Data", "image": "Code", "launch": "Server"}
# Seconds that a part counts for in the percentage where nothing was measured yet. They are never told as an estimate.
_GUESS = {"base": 60.0, "environment": 30.0, "data": 20.0, "image": 2.0, "launch": 5.0}
_LATE, _SLACK = 1.5, 5.0


class StageState(StrEnum):
    """How a stage, or a step of one, is."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    READY = "ready"


@dataclass
class Clock:
    """How long something took, in spans: it may begin again."""

    spent: float = 0.0
    since: float | None = None

    def start(self, now: float) -> None:
        """Run from now on."""
        self.since = now if self.since is None else self.since

    def stop(self, now: float) -> None:
        """Stand still from now on."""
        if self.since is not None:
            self.spent += max(0.0, now - self.since)
            self.since = None

    def seconds(self, now: float) -> float:
        """Return the seconds it ran until now."""
        return self.spent + (max(0.0, now - self.since) if self.since is not None else 0.0)


@dataclass
class StepTime:
    """One step of a stage; ``open`` counts what of it runs at this moment."""

    clock: Clock = field(default_factory=Clock)
    open: int = 0
    failed: bool = False

    @property
    def state(self) -> StageState:
        """How it is."""
        return StageState.FAILED if self.failed else StageState.RUNNING if self.open else StageState.DONE


@dataclass
class Stage:
    """One stage. ``expected`` is None where nothing like it was measured; ``past`` is seconds by step; ``percent`` is set where the stage itself knows (bytes).
    ``told`` is the percentage of the whole that was told beside a launch. ``joined``: what is expected was left at that moment, for it ran already."""

    name: str
    state: StageState = StageState.WAITING
    message: str = ""
    expected: float | None = None
    past: Mapping[str, float] = field(default_factory=dict)
    clock: Clock = field(default_factory=Clock)
    percent: float | None = None
    steps: dict[str, StepTime] = field(default_factory=dict)
    told: int = 0
    joined: float | None = None

    @property
    def weight(self) -> float:
        """Seconds that it counts for."""
        return max(self.expected if self.expected is not None else _GUESS.get(self.name, 1.0), 0.1)

    @property
    def ended(self) -> bool:
        """True if nothing more comes."""
        return self.state not in {StageState.WAITING, StageState.RUNNING}

    def begin(self, now: float, message: str = "") -> None:
        """It runs, or does something else from now on."""
        if self.joined is not None and self.expected is not None:
            self.expected += max(0.0, self.joined - now)
        self.state, self.message, self.joined = StageState.RUNNING, message, None
        self.clock.start(now)

    def end(self, now: float, state: StageState, message: str = "") -> None:
        """It ended, and its steps with it."""
        self.state, self.message = state, message
        self.clock.stop(now)
        for step in self.steps.values():
            step.clock.stop(now)
            step.failed = step.failed or (bool(step.open) and state is StageState.FAILED)
            step.open = 0

    def take_step(self, event: Event) -> None:
        """Take in that a step of it began or ended."""
        step = self.steps.setdefault(event.message, StepTime())
        if event.phase is Phase.BUILDING:
            step.open += 1
            step.failed = False
            step.clock.start(event.time)
            return
        step.open = max(0, step.open - 1)
        step.failed = step.failed or event.phase is Phase.FAILED
        if not step.open:
            step.clock.stop(event.time)

    def fraction(self, now: float) -> float:
        """Return how much of it is done, 0 to 1: its steps by how long each took before, the one that runs by the clock."""
        if self.ended:
            return 1.0
        if self.state is StageState.WAITING:
            return 0.0
        if self.percent is not None and not self.past:
            return min(self.percent, 99.0) / 100.0
        if not self.past:
            return _approach(self.clock.seconds(now), self.weight)
        names = {*self.past, *self.steps}
        total = sum(self._expect(name) for name in names)
        return sum(self._expect(name) * self._step_fraction(name, now) for name in names) / total

    def _expect(self, name: str) -> float:
        return max(self.past.get(name, 1.0), 0.05)

    def _step_fraction(self, name: str, now: float) -> float:
        step = self.steps.get(name)
        if step is None:
            return 0.0
        return 0.99 if not step.open else _approach(step.clock.seconds(now), self._expect(name))

    def left(self, now: float) -> float | None:
        """Return the seconds it still takes, None if nothing like it was measured."""
        if self.ended:
            return 0.0
        seconds = self.clock.seconds(now)
        if self.percent is not None and self.percent > 5 and not self.past:
            return seconds * (100.0 - self.percent) / self.percent
        if self.expected is None:
            return None
        if self.past and self.steps and self.state is StageState.RUNNING:
            names = {*self.past, *self.steps}
            scale = self.expected / max(sum(self.past.values()), 0.1)
            return scale * sum(self._expect(name) * (1.0 - self._step_fraction(name, now)) for name in names)
        return max(0.0, self.expected - seconds)

    def is_late(self, now: float) -> bool:
        """True if it runs clearly longer than it did before."""
        return self.state is StageState.RUNNING and self.expected is not None and self.clock.seconds(now) > self.expected * _LATE + _SLACK

    def as_dict(self, now: float) -> dict[str, Any]:
        """Return the JSON form. ``seconds`` go on while it runs."""
        steps = [{"title": name, "state": str(step.state), "seconds": round(step.clock.seconds(now), 1)} for name, step in self.steps.items()]
        values = {"name": self.name, "title": TITLES[self.name], "state": str(self.state), "message": self.message, "seconds": round(self.clock.seconds(now), 1)}
        return {**values, "steps": steps}


def _approach(seconds: float, expected: float) -> float:
    """Return a fraction that grows with time and stays below 1: nine tenths when the expected seconds are over."""
    expected = max(expected, 0.05)
    return 0.9 * seconds / expected if seconds <= expected else 0.99 - 0.09 * expected / seconds
