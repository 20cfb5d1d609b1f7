"""The queue of tasks: bounded, and fair between users.

A place is given to the waiting task that is wanted by the user who has the fewest tasks running; among equals to the user who got a place longest
ago, then to the task that waits longest. One user's ten builds so delay nobody's first. The last free place is kept for users who have none, so
that a first build need not even wait for one of the ten to end.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

Users = Callable[[], Iterable[str]]


@dataclass(eq=False)
class Ticket:
    """One waiting task. ``users`` tells who wants it at this moment; ``admitted`` is set when it has its place, ``owner`` whose place it is."""

    users: Users
    number: int
    told: Callable[[int], None]
    owner: str = ""
    admitted: asyncio.Event = field(default_factory=asyncio.Event)


class FairQueue:
    """At most ``places`` tasks at once. It belongs to one event loop."""

    def __init__(self, places: int) -> None:
        self.places = places
        self.waiting: list[Ticket] = []
        self.running: Counter[str] = Counter()
        self._turns: dict[str, int] = {}
        self._numbers = itertools.count()

    @asynccontextmanager
    async def place(self, users: Users, told: Callable[[int], None]) -> AsyncIterator[None]:
        """Hold a place, once there is one. ``told`` is called with the position in the queue, from 1, while it waits, and with 0 at its end."""
        ticket = Ticket(users, next(self._numbers), told)
        self.waiting.append(ticket)
        self._admit()
        try:
            await ticket.admitted.wait()
            yield
        finally:
            if ticket.admitted.is_set():
                self._release(ticket.owner)
            else:
                self.waiting.remove(ticket)
            self._admit()

    def _release(self, owner: str) -> None:
        self.running[owner] -= 1
        if not self.running[owner]:
            del self.running[owner]

    def _admit(self) -> None:
        """Give the free places away, and tell those who go on waiting where they are."""
        while (ticket := self._next()) is not None:
            self.waiting.remove(ticket)
            self.running[ticket.owner] += 1
            self._turns[ticket.owner] = next(self._numbers)
            ticket.admitted.set()
            ticket.told(0)
        self.announce()

    def announce(self) -> None:
        """Tell all who wait where they are."""
        for position, waiting in enumerate(self.order(), 1):
            waiting.told(position)

    @property
    def free(self) -> int:
        """How many more tasks may run."""
        return self.places - self.running.total()

    def _next(self) -> Ticket | None:
        if self.free < 1 or not self.waiting:
            return None
        ticket, users = self._find_first(self._list_wanted(), self.running)
        ticket.owner = self._choose_owner(users, self.running)
        kept = self.free == 1 and self.places > 1 and self.running[ticket.owner] > 0
        return None if kept else ticket

    def foresee(self, user: str) -> int:
        """Return the position that a task of this user would have if it came now; 0: it would not wait."""
        ticket = Ticket(lambda: [user], next(self._numbers), lambda _: None)
        self.waiting.append(ticket)
        try:
            return 0 if self._next() is ticket else self.order().index(ticket) + 1
        finally:
            self.waiting.remove(ticket)

    def order(self) -> list[Ticket]:
        """Return the waiting tasks in the order in which they get a place, if nobody else comes."""
        running, left, order = Counter(self.running), self._list_wanted(), []
        while left:
            first = self._find_first(left, running)
            left.remove(first)
            order.append(first[0])
            running[self._choose_owner(first[1], running)] += 1
        return order

    def _list_wanted(self) -> list[tuple[Ticket, list[str]]]:
        return [(ticket, sorted(ticket.users()) or [""]) for ticket in self.waiting]

    def _find_first(self, wanted: list[tuple[Ticket, list[str]]], running: Counter[str]) -> tuple[Ticket, list[str]]:
        return min(wanted, key=lambda pair: (*self._rank(self._choose_owner(pair[1], running), running), pair[0].number))

    def _choose_owner(self, users: list[str], running: Counter[str]) -> str:
        """Return whose turn it is most among those who want a task: the place counts as theirs."""
        return min(users, key=lambda user: self._rank(user, running))

    def _rank(self, user: str, running: Counter[str]) -> tuple[int, int]:
        return running[user], self._turns.get(user, -1)
