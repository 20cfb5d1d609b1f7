"""The tasks under way in this process: each is followed once however many builds want it, and has a place in its queue first."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import IO, Any, TypeVar

from hubdock.core.errors import BuildCancelled
from hubdock.core.events import Phase
from hubdock.engine.build import Build
from hubdock.engine.database import Database
from hubdock.engine.queue import FairQueue, Users
from hubdock.engine.rows import make_task_row
from hubdock.engine.tasks import Attempt, Result, TaskStore, end_strays, reap

T = TypeVar("T")
THREADS = 32
CANCELS = 3
_POLL = 0.05


class Runner:
    """Does tasks. ``find_waiting`` tells which builds want one, ``remember`` writes a build down.

    Code and data don't wait for environments: each kind of work has places of its own.
    """

    def __init__(
        self, database: Database, tasks: TaskStore, places: int, find_waiting: Callable[[str, str], list[Build]], remember: Callable[[Build], Awaitable[None]]
    ) -> None:
        self.database, self.tasks, self.find_waiting, self.remember = database, tasks, find_waiting, remember
        self.pool = ThreadPoolExecutor(THREADS, thread_name_prefix="hubdock")
        self.queues = {"environment": FairQueue(places), "data": FairQueue(places), "image": FairQueue(places)}
        self.queues["base"] = self.queues["environment"]
        self.listeners: list[Callable[[Attempt, Result], None]] = []
        self._running: dict[tuple[str, str], asyncio.Task[Result]] = {}
        self._queued: set[tuple[str, str]] = set()
        self._holds: dict[Path, IO[bytes]] = {}

    async def in_thread(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Run something that blocks, beside the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self.pool, partial(function, *args, **kwargs))

    def is_known(self, kind: str, key: str) -> bool:
        """True if this process has the task under way, or waiting."""
        return (kind, key) in self._running

    async def do(self, build: Build, kind: str, key: str, spec: dict[str, Any]) -> Result:
        """Have a task done for a build, and return its result. Raises the error that it ended with."""
        known = self._running.get((kind, key))
        if known is None:
            known = asyncio.create_task(self._do(kind, key, spec, build))
            self._running[kind, key] = known
            known.add_done_callback(lambda _: self._running.pop((kind, key), None))
        else:
            latest = await self.in_thread(self.tasks.latest, kind, key)
            if latest is not None and latest.running():
                build.attempts[kind] = latest
            if (kind, key) in self._queued:
                self.queues[kind].announce()
        result = await asyncio.shield(known)
        if result.error is not None:
            raise result.error
        return result

    async def _do(self, kind: str, key: str, spec: dict[str, Any], build: Build) -> Result:
        past = await self.in_thread(self.database.last_task, kind)
        spec["past"] = json.loads(past.steps) if past else {}
        seconds, _ = await self.in_thread(self.database.estimate, kind)

        def find_users() -> set[str]:
            return {user for waiting in self.find_waiting(kind, key) for user in waiting.users}

        def tell(position: int) -> None:
            expected = seconds * math.ceil(position / self.queues[kind].places) if seconds else None
            for waiting in self.find_waiting(kind, key):
                waiting.tell_position(kind, position, expected)

        async with self._place(kind, key, find_users, tell):
            for _ in range(CANCELS):  # an attempt that somebody else cancelled a moment ago is no answer for those who want it now
                if not self.find_waiting(kind, key):
                    return Result(Phase.CANCELLED, 0.0, 0.0, BuildCancelled("The build was cancelled."))
                attempt = await self.in_thread(self.tasks.start, kind, key, spec)
                result = await self._attend(attempt)
                if result.status is not Phase.CANCELLED:
                    break
        await self.in_thread(self._record, attempt, result, build)
        for listener in self.listeners:
            listener(attempt, result)
        return result

    @contextlib.asynccontextmanager
    async def _place(self, kind: str, key: str, users: Users, tell: Callable[[int], None]) -> AsyncIterator[None]:
        self._queued.add((kind, key))
        try:
            async with self.queues[kind].place(users, tell):
                self._queued.discard((kind, key))
                yield
        finally:
            self._queued.discard((kind, key))

    async def leave(self, kind: str, key: str, attempt: Attempt | None) -> None:
        """End a task that no build wants any more, unless another process does. One that is being started sees by itself that nobody waits."""
        follower = self._running.get((kind, key))
        if attempt is None:
            if follower is not None and (kind, key) in self._queued:
                follower.cancel()
            return
        hold = self._holds.pop(attempt.path, None)
        if hold is not None:
            hold.close()
        if not await self.in_thread(attempt.cancel) and follower is not None:
            follower.cancel()

    async def settle(self) -> None:
        """Wait until no task is under way in this process: after a cancel, until the workers have cleaned up."""
        await asyncio.gather(*self._running.values(), return_exceptions=True)

    async def _attend(self, attempt: Attempt) -> Result:
        """Hold an attempt until it ends. If everybody left while it was being started, end it."""
        self._holds[attempt.path] = attempt.hold()
        waiting = self.find_waiting(attempt.kind, attempt.key)
        for build in waiting:
            build.attempts[attempt.kind] = attempt
        try:
            for build in waiting:
                await self.remember(build)
            if not self.find_waiting(attempt.kind, attempt.key):
                await self.leave(attempt.kind, attempt.key, attempt)
            return await self._follow(attempt)
        finally:
            hold = self._holds.pop(attempt.path, None)
            if hold is not None:
                hold.close()

    async def _follow(self, attempt: Attempt) -> Result:
        """Wait for a worker's end without asking all the time: its pidfd becomes readable."""
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        descriptor = attempt.open_pid()
        if descriptor is not None:
            loop.add_reader(descriptor, ended.set)
        try:
            while (result := attempt.result()) is None:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(1.0 if descriptor is not None else _POLL):
                        await ended.wait()
                if ended.is_set():
                    await asyncio.sleep(0.005)  # the lock is released a moment before or after
        finally:
            if descriptor is not None:
                loop.remove_reader(descriptor)
                os.close(descriptor)
        reap()
        if result.interrupted:
            await self.in_thread(end_strays, attempt.path)
        return result

    def _record(self, attempt: Attempt, result: Result, build: Build) -> None:
        """Remember a finished task, and a base's record."""
        self.database.record_task(make_task_row(attempt, result, build.assembly))
        if attempt.kind == "base" and result.error is None:
            base = result.data["base"]
            self.database.write_base(base["reference"], attempt.key, result.data["prepared"], json.dumps(base))
