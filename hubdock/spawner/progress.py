"""What the hub's pending page shows of a start: hubdock's own words and percentage, kept for as long as it lasts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

KEEP = 400


class Progress:
    """The messages of one start. They are kept while it lasts, so that a page that is loaded again shows them all."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.dropped = 0
        self.percent = 0
        self.words = ""
        self.position = ""
        self._told: set[str] = set()
        self._news = asyncio.Event()
        self._ended = False

    def say(self, message: str = "", percent: int = 0) -> None:
        """Tell a message, or a percentage alone. It never goes back, and 100 is the hub's to tell."""
        before, self.percent = self.percent, max(self.percent, min(percent, 99))
        if not message and self.percent == before:
            return
        self.words = message or self.words
        self.messages.append({"progress": self.percent, **({"message": message} if message else {})})
        if len(self.messages) > KEEP:
            del self.messages[0]
            self.dropped += 1
        self._news.set()

    def take(self, told: Mapping[str, Any]) -> None:
        """Take in how the start is (`hubdock.core.account.Account.as_dict`): what changed is told."""
        self.position = str(told["queued"])
        for notice in told["notices"]:
            if notice not in self._told:
                self._told.add(notice)
                self.say(notice, told["percent"])
        words = "" if told["over"] or told["words"] == self.words else str(told["words"])
        self.say(words, told["percent"])

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
