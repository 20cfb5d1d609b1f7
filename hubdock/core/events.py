"""What a build tells while it runs: one JSON object a line, in its log file, on the API's event stream and on the hub's pending page."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Phase(StrEnum):
    """Where a start is. One enum for builds, the API, the pages, the spawners and the metrics."""

    QUEUED = "queued"
    RESOLVING = "resolving"
    FETCHING = "fetching"
    BUILDING = "building"
    PUSHING = "pushing"
    LAUNCHING = "launching"
    READY = "ready"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """True if nothing follows this phase."""
        return self in {Phase.READY, Phase.FAILED, Phase.CANCELLED}


class Kind(StrEnum):
    """What an event tells."""

    PHASE = "phase"
    STEP = "step"
    PROGRESS = "progress"
    LOG = "log"
    NOTICE = "notice"


@dataclass(frozen=True)
class Event:
    """One event.

    ``part`` is what the event is about: ``base``, ``environment``, ``data``, ``image`` or the empty string for the whole start.
    A step's ``message`` is its name, its ``phase`` `Phase.BUILDING` where it begins, and `Phase.READY` or `Phase.FAILED` where it ends.
    ``percent`` is 0 to 100 of that part, or None. ``time`` is seconds since the epoch. ``error`` is an error's `as_dict`, only beside
    `Phase.FAILED`.
    """

    kind: Kind
    time: float
    part: str = ""
    phase: Phase | None = None
    message: str = ""
    percent: float | None = None
    error: dict[str, Any] | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form, without empty fields."""
        values: dict[str, Any] = {"kind": str(self.kind), "time": round(self.time, 3)}
        if self.phase is not None:
            values["phase"] = str(self.phase)
        rest = {"part": self.part, "message": self.message, "percent": self.percent, "error": self.error}
        return values | {name: value for name, value in rest.items() if value not in ("", None)}

    def as_line(self) -> str:
        """Return the event as one line of JSON with its newline."""
        return json.dumps(self.as_dict(), ensure_ascii=False, separators=(",", ":")) + "\n"


def parse_event(line: str | bytes) -> Event:
    """Return the event of one line of a log.

    Raises ValueError for anything that `Event.as_line` did not write.
    """
    values = json.loads(line)
    if not isinstance(values, dict):
        raise ValueError("an event is a JSON object")
    phase, percent, error = values.get("phase"), values.get("percent"), values.get("error")
    if not (error is None or isinstance(error, dict)):
        raise ValueError("an event's error is a JSON object")
    try:
        return Event(
            kind=Kind(values["kind"]),
            time=float(values["time"]),
            part=str(values.get("part", "")),
            phase=None if phase is None else Phase(phase),
            message=str(values.get("message", "")),
            percent=None if percent is None else float(percent),
            error=error,
        )
    except (KeyError, TypeError) as problem:
        raise ValueError("an event lacks its kind or time, or has a wrong type") from problem
