"""From a build's events to what the hub's pending page shows: a percentage that never goes back, and one line at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from hubdock.core.events import Event, Kind, Phase

KEEP = 400
# Shares of the bar: what a part usually takes of the whole.
_SHARES = {"base": 30.0, "environment": 50.0, "data": 20.0, "image": 10.0}
_BUILD_END = 90


class Progress:
    """The messages of one start. They are kept while it lasts, so that a page that is loaded again shows them all."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.dropped = 0
        self.percent = 0
        self.position = ""
        self._parts: dict[str, float] = {}
        self._shares: dict[str, float] = {}
        self._news = asyncio.Event()
        self._ended = False

    def plan(self, parts: list[dict[str, Any]]) -> None:
        """Take in a plan: only what is to be made has a share."""
        self._shares = {part["name"]: part.get("seconds") or _SHARES.get(part["name"], 1.0) for part in parts if part["state"] in {"build", "running"}}

    def say(self, message: str, percent: int | None = None) -> None:
        """Tell a message of the spawner's own."""
        self.percent = max(self.percent, percent or 0)
        self.messages.append({"progress": self.percent, "message": message})
        if len(self.messages) > KEEP:
            del self.messages[0]
            self.dropped += 1
        self._news.set()

    def take(self, event: Event) -> None:
        """Take in one event of the build."""
        if event.kind is Kind.PROGRESS and event.percent is not None:
            self._parts[event.part] = event.percent
        if event.kind is Kind.PHASE and event.phase is Phase.READY and event.part:
            self._parts[event.part] = 100.0
        if event.kind is Kind.PHASE and event.phase is Phase.QUEUED and event.part:
            self.position = event.message
        total = sum(self._shares.values()) or 1.0
        done = sum(share * self._parts.get(name, 0.0) / 100.0 for name, share in self._shares.items())
        self.percent = max(self.percent, int(_BUILD_END * done / total))
        text = _describe(event)
        if text:
            self.say(text)

    def end(self) -> None:
        """Let the readers go."""
        self._ended = True
        self._news.set()

    async def read(self) -> AsyncIterator[dict[str, Any]]:
        """Yield all messages from the first that is kept, then each new one, until the end."""
        at = self.dropped
        while True:
            while at < self.dropped + len(self.messages):
                yield self.messages[max(at, self.dropped) - self.dropped]
                at = max(at, self.dropped) + 1
            if self._ended:
                return
            self._news.clear()
            await self._news.wait()


def _describe(event: Event) -> str:
    if event.kind is Kind.PHASE and event.part:
        return f"{event.part}: {event.phase}{f' ({event.message})' if event.message else ''}"
    if event.kind in {Kind.LOG, Kind.NOTICE} and event.message.strip():
        return f"{event.part}: {event.message}" if event.part else event.message
    return ""
