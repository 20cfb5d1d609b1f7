"""The queue: bounded, fair between users, never stuck."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubdock.engine.queue import FairQueue


class Work:
    """One task in a queue, which goes on until it is ended."""

    def __init__(self, queue: FairQueue, *users: str) -> None:
        self.users, self.positions, self.ending = set(users), list[int](), asyncio.Event()
        self.task = asyncio.create_task(self._run(queue))

    async def _run(self, queue: FairQueue) -> None:
        async with queue.place(lambda: self.users, self.positions.append):
            await self.ending.wait()

    @property
    def runs(self) -> bool:
        return bool(self.positions) and self.positions[-1] == 0 and not self.task.done()

    async def end(self) -> None:
        self.ending.set()
        await self.task


async def start(queue: FairQueue, *owners: str) -> list[Work]:
    found = []
    for owner in owners:
        found.append(Work(queue, *owner.split("+")))
        await asyncio.sleep(0)
    return found


async def test_ten_builds_of_one_delay_nobodys_first() -> None:
    queue = FairQueue(3)
    ten = await start(queue, *["ann"] * 10)
    assert sum(work.runs for work in ten) == 2  # the last place is kept for somebody who has none
    (bob,) = await start(queue, "bob")
    assert bob.runs
    cid, dee = await start(queue, "cid", "dee")
    assert not cid.runs and cid.positions[-1] == 1 and dee.positions[-1] == 2
    await ten[0].end()
    assert cid.runs and not dee.runs
    await cid.end()
    assert dee.runs and sum(work.runs for work in ten) == 1


async def test_where_one_would_be() -> None:
    queue = FairQueue(2)
    assert queue.foresee("ann") == 0
    works = await start(queue, "ann")  # held: a loop alone keeps no task that waits
    assert (queue.foresee("ann"), queue.foresee("bob")) == (1, 0), "the last place is kept for somebody who has none"
    works += await start(queue, "bob", "ann", "ann")
    assert (queue.foresee("ann"), queue.foresee("cid")) == (3, 1)
    works += await start(queue, "cid")
    assert works[-1].positions[-1] == 1 and len(queue.waiting) == 3, "asking takes no place"


async def test_users_take_turns() -> None:
    queue = FairQueue(1)
    works = await start(queue, "ann", "ann", "ann", "bob", "bob", "cid")
    order = []
    while any(not work.task.done() for work in works):
        (running,) = (work for work in works if work.runs)
        order.append(next(iter(running.users)))
        await running.end()
    assert order == ["ann", "bob", "cid", "ann", "bob", "ann"]


async def test_what_several_want_has_the_best_turn_of_them() -> None:
    queue = FairQueue(1)
    first, alone, shared = await start(queue, "ann", "ann", "ann+bob")
    await first.end()
    assert shared.runs and not alone.runs


async def test_positions_are_the_order_of_the_turns() -> None:
    queue = FairQueue(2)
    works = await start(queue, "ann", "ann", "ann", "bob", "cid")
    assert [work.positions[-1] for work in works] == [0, 2, 3, 0, 1]


async def test_who_leaves_takes_no_place() -> None:
    queue = FairQueue(1)
    first, second, third = await start(queue, "ann", "bob", "cid")
    second.task.cancel()
    await asyncio.wait([second.task])
    assert third.positions[-1] == 1
    first.task.cancel()
    await asyncio.wait([first.task])
    assert third.runs
    await third.end()
    assert queue.free == 1 and not queue.waiting and not queue.running


async def test_a_task_that_fails_gives_its_place_back() -> None:
    queue = FairQueue(1)
    with pytest.raises(ZeroDivisionError):
        async with queue.place(lambda: {"ann"}, lambda position: None):
            raise ZeroDivisionError
    assert queue.free == 1


@given(st.integers(1, 4), st.lists(st.sampled_from("abcde"), max_size=30), st.randoms())
def test_everybody_has_a_turn_and_no_more_run_than_may(places: int, owners: list[str], random: object) -> None:
    async def try_it() -> None:
        queue = FairQueue(places)
        works = await start(queue, *owners)
        while left := [work for work in works if not work.task.done()]:
            running = [work for work in left if work.runs]
            assert 0 < len(running) <= places
            count = Counter(next(iter(work.users)) for work in running)
            waiting = {next(iter(work.users)) for work in left} - set(count)
            assert not waiting or len(running) == places  # nobody who has nothing waits beside a free place
            await running[random.randrange(len(running))].end()  # type: ignore[attr-defined]
        assert queue.free == places

    asyncio.run(try_it())
