"""What is told of one start while it goes on: its stages with their times, a percentage of the whole that never goes back, and what is left in words.

Fed with a build's events (`hubdock.core.events`), it says the same to hubdock's page, to the hub's pending page and to the API. A stage's expected
seconds, and those of its steps, are how long they took before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hubdock.core.events import Event, Kind, Phase
from hubdock.core.stages import TITLES, Stage, StageState
from hubdock.core.text import format_seconds

_DOING = {
    "base": "Preparing the base image", "environment": "Making the environment", "data": "Fetching the data", "image": "Adding the code", "launch": "Starting the server",
}  # fmt: skip
_ENDS = {Phase.READY: "Ready", Phase.FAILED: "It failed", Phase.CANCELLED: "Cancelled"}
NOTICES = 20


class Account:
    """The account of one build. ``past`` is seconds by step, for each part; `plan` may be called again when the plan is known better."""

    def __init__(self, past: Mapping[str, Mapping[str, float]] | None = None) -> None:
        self.past = past or {}
        self.stages: dict[str, Stage] = {}
        self.phase = Phase.QUEUED
        self.notices: list[str] = []
        self._queued: dict[str, str] = {}
        self._reached = 0.0

    def plan(self, parts: Sequence[Mapping[str, Any]], now: float = 0.0) -> None:
        """Take in a plan's parts in their JSON form, made at ``now``. Of a part that ran already they tell the seconds that were left."""
        for part in parts:
            name, state = part["name"], part["state"]
            if state == "none" or name not in TITLES:
                continue
            stage = self._stage(name)
            stage.expected, stage.joined = part.get("seconds"), now if state == "running" else None
            if stage.state in {StageState.WAITING, StageState.READY}:
                stage.state = StageState.READY if state == "ready" else StageState.WAITING

    def _stage(self, name: str) -> Stage:
        if name not in self.stages:
            self.stages[name] = Stage(name, past=self.past.get(name, {}))
        return self.stages[name]

    def take(self, event: Event) -> None:
        """Take in one event of the build."""
        if self.phase.ended:
            return
        if event.kind is Kind.NOTICE:
            self.notices = self.notices if event.message in self.notices else [*self.notices, event.message][-NOTICES:]
        elif event.kind is Kind.PHASE and not event.part and event.phase:
            self._end_all(event) if event.phase.ended else None
            self.phase = event.phase
        elif event.part not in TITLES:
            return
        elif event.kind is Kind.PHASE:
            self._take_phase(event)
        elif event.kind is Kind.STEP:
            self._stage(event.part).take_step(event)
        elif event.kind is Kind.PROGRESS:
            self._take_progress(event)

    def _take_progress(self, event: Event) -> None:
        stage = self._stage(event.part)
        if not stage.ended and event.part == "data":  # of bytes; the other parts' is of their steps, which are known here better
            stage.percent = event.percent or stage.percent
            stage.message = event.message or stage.message

    def _take_phase(self, event: Event) -> None:
        stage = self._stage(event.part)
        if event.phase is Phase.QUEUED:
            self._queued[event.part] = event.message
            self._stage("queue").begin(event.time, event.message)
            return
        self._leave_queue(event.part, event.time)
        states = {Phase.READY: StageState.DONE, Phase.FAILED: StageState.FAILED, Phase.CANCELLED: StageState.CANCELLED}
        if event.phase in states:
            stage.end(event.time, states[event.phase])
        else:
            stage.begin(event.time, event.message)

    def _leave_queue(self, part: str, now: float) -> None:
        if self._queued.pop(part, None) is not None and not self._queued:
            self._stage("queue").end(now, StageState.DONE)

    def _end_all(self, event: Event) -> None:
        """The whole ended: what still waits will not come, and what was joined too late to be heard is over."""
        over = StageState.DONE if event.phase is Phase.READY else StageState.CANCELLED
        self._queued.clear()
        for stage in self.stages.values():
            if stage.state is StageState.RUNNING:
                stage.end(event.time, over)
            elif stage.state is StageState.WAITING:
                stage.state = StageState.READY if over is StageState.DONE else StageState.CANCELLED

    # --- what is told ---

    def as_dict(self, now: float, launch: Stage | None = None, failed: bool = False) -> dict[str, Any]:
        """Return the JSON form at a moment. ``launch`` is the start of the server that follows, None where none does; ``failed``: that start failed."""
        shown = [self.stages[name] for name in TITLES if name in self.stages]
        if self.phase in {Phase.FAILED, Phase.CANCELLED} and launch is not None and launch.state is StageState.WAITING:
            launch.state = StageState.CANCELLED
        shown += [launch] if launch is not None else []
        over = self.phase in {Phase.FAILED, Phase.CANCELLED} or failed or (self.phase is Phase.READY and (launch is None or launch.ended))
        phase = Phase.FAILED if failed else self.phase if over or self.phase is not Phase.READY else Phase.LAUNCHING
        late = [] if over else [stage for stage in shown if stage.is_late(now)]
        return {
            "phase": str(phase), "over": over, "words": _ENDS[phase] if over else self._find_words(shown), "percent": self.percent(now, launch),
            "queued": "" if over else self._find_position(shown), "left": "" if over else self._describe_left(shown, late, now), "late": bool(late), "stages": [stage.as_dict(now) for stage in shown],
            "notices": list(self.notices),
        }  # fmt: skip

    def percent(self, now: float, launch: Stage | None = None) -> int:
        """Return how much of the whole is done: 100 only when all is, and never less than it was."""
        parts = [stage for stage in self.stages.values() if stage.name != "queue" and stage.state is not StageState.READY]
        total = sum(stage.weight for stage in parts)
        if self.phase is Phase.READY:
            self._reached = 1.0
        elif total and not self.phase.ended:
            self._reached = max(self._reached, min(0.99, sum(stage.weight * stage.fraction(now) for stage in parts) / total))
        if launch is None:
            return int(100 * self._reached)
        whole = total + launch.weight
        done = self._reached * total + launch.weight * (launch.fraction(now) if launch.state is not StageState.FAILED else 0.0)
        ready = self.phase is Phase.READY and launch.state is StageState.DONE
        launch.told = 100 if ready else max(launch.told, min(99, int(100 * done / whole)))
        return launch.told

    def _find_position(self, shown: Sequence[Stage]) -> str:
        """Return where it is in the queue, empty if anything of it is done meanwhile."""
        running = {stage.name: stage for stage in shown if stage.state is StageState.RUNNING}
        return running["queue"].message if set(running) == {"queue"} else ""

    def _find_words(self, shown: Sequence[Stage]) -> str:
        if position := self._find_position(shown):
            return f"Waiting for a free place: {position}"
        stage = next((stage for stage in shown if stage.state is StageState.RUNNING and stage.name != "queue"), None)
        if stage is None:
            return _DOING["launch"] if self.phase is Phase.READY else "Looking at what is there"
        step = next((name for name, step in stage.steps.items() if step.open), "") or stage.message
        return f"{_DOING[stage.name]}{f': {step}' if step else ''}"

    def _describe_left(self, shown: Sequence[Stage], late: Sequence[Stage], now: float) -> str:
        if late:
            stage = late[0]
            return f"longer than usual: {format_seconds(stage.clock.seconds(now))} so far, {format_seconds(stage.expected or 0.0)} before"
        parts = {stage.name: stage.left(now) for stage in shown if stage.name != "queue"}
        if any(left is None for left in parts.values()):
            return "how long it takes is not known yet: nothing like it was done here before"
        known = {name: left or 0.0 for name, left in parts.items()}
        chain = sum(known.get(name, 0.0) for name in ("environment", "image"))
        return describe_left(known.get("base", 0.0) + max(chain, known.get("data", 0.0)) + known.get("launch", 0.0))


def describe_left(seconds: float) -> str:
    """Return remaining seconds in words, no more exact than they are known."""
    if seconds < 3:
        return "a few seconds left"
    if seconds < 90:
        return f"about {round(seconds) if seconds < 20 else 5 * round(seconds / 5)} s left"
    return f"about {format_seconds(seconds)} left"
