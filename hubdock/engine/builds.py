"""Builds: everything that one start waits for, made by tasks that are shared by key.

A `Build` is one hypothesis at one commit, for everybody who asked for it; a task is the work on one key, for every build that needs it. Builds live in
the event loop of whoever asks (the service, the CLI); tasks are processes of their own, so they outlive it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
import uuid
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from hubdock.core.errors import BuildCancelled, BuildError, HubDockError, ImageGone, QueueFull
from hubdock.core.events import Phase
from hubdock.core.text import format_seconds
from hubdock.drivers import space
from hubdock.engine import assembly as specs
from hubdock.engine.assembly import Assembly
from hubdock.engine.build import Build
from hubdock.engine.config import HubDock
from hubdock.engine.database import Database
from hubdock.engine.planner import Planner
from hubdock.engine.remotes import RemoteThreads
from hubdock.engine.rows import make_row
from hubdock.engine.runner import Runner
from hubdock.engine.tasks import TaskStore

log = logging.getLogger("hubdock")
T = TypeVar("T")


class Builds:
    """All builds of one process."""

    def __init__(self, settings: HubDock, database: Database, tasks: TaskStore, planner: Planner) -> None:
        self.settings, self.database, self.planner = settings, database, planner
        self.closing, self.home = False, settings.identity
        self.remotes = RemoteThreads()
        self.by_id: dict[str, Build] = {}
        self.active: dict[str, Build] = {}
        self.runner = Runner(database, tasks, settings.max_parallel_builds, self.find_waiting, self.remember)

    async def in_thread(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Run something that blocks, beside the event loop."""
        return await self.runner.in_thread(function, *args, **kwargs)

    async def ensure(self, assembly: Assembly, user: str, server: str = "", identity: str = "") -> Build:
        """Return the build that makes what an assembly lacks: one that runs already, or a new one. A build that ended well lacks nothing.

        The user waits for it, or one of their servers does, until `leave`. ``identity`` takes up a build of an earlier process. Raises QueueFull if it would have to wait and there is no room for it.
        """
        build = next((b for b in self.active.values() if b.assembly.identity == assembly.identity and assembly.image), None)
        if build is None:
            if not identity:
                self._check_room(assembly, user)
            build = Build(assembly, identity or uuid.uuid4().hex)
            self.by_id[build.identity] = self.active[build.identity] = build
            build.waiters.add((user, server))
            self._forget_old()
            build.runner = asyncio.create_task(self._run(build))
        build.waiters.add((user, server))
        return build

    def _check_room(self, assembly: Assembly, user: str) -> None:
        """Raise QueueFull if a new build would wait, and too many wait already. What is ready, or is being made, needs no room."""
        missing = [key for key in assembly.task_keys if assembly.needs(key[0]) and not self.runner.is_known(*key)]
        if not missing:
            return
        free = max(0, min(self.runner.queues[kind].free for kind, _ in missing))
        waiting = [build for build in self.active.values() if build.waits]
        mine, limit = sum(user in build.users for build in waiting) - free, self.settings.max_queued_builds_per_user
        if mine >= limit:
            raise QueueFull(f"{mine} builds of yours wait in the queue, and no more may. Wait until one of them is done, or cancel one.")
        if len(waiting) - free >= self.settings.max_queued_builds:
            times = [seconds for build in waiting for _, seconds in build.queue.values() if seconds]
            expected = f" in about {format_seconds(min(times))}" if times else " in some minutes"
            raise QueueFull(f"The queue is full: {len(waiting)} builds wait. Try again{expected}. What is ready starts at once all the same.")

    async def foresee(self, a: Assembly, user: str) -> tuple[int, float | None]:
        """Return the place in the queue that a start would have now (0: none waits before it), and the seconds that this takes, None if not known."""
        worst: tuple[int, float | None] = (0, 0.0)
        for kind, key in a.task_keys:
            position = self.runner.queues[kind].foresee(user) if a.needs(kind) and not self.runner.is_known(kind, key) else 0
            if position > worst[0]:
                seconds, _ = await self.in_thread(self.database.estimate, kind)
                worst = position, seconds * math.ceil(position / self.runner.queues[kind].places) if seconds else None
        return worst

    def find_waiting(self, kind: str, key: str) -> list[Build]:
        """Return the builds that wait for a task, or will."""
        return [build for build in self.active.values() if not build.done.is_set() and (kind, key) in build.assembly.task_keys]

    async def leave(self, build: Build, user: str, server: str = "") -> None:
        """Take a user's server out, or the user who waits for none: their other servers go on waiting. When nobody is left after the grace time, the tasks that no other build needs are ended."""
        if (user, server) in build.waiters:
            build.waiters.discard((user, server))
            build.left.add((user, server))
        if build.waiters or build.done.is_set():
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.settings.cancel_grace):
                await build.done.wait()
        if not build.waiters and not build.done.is_set():
            await self.cancel(build)

    async def leave_after(self, build: Build, user: str, seconds: float) -> None:
        """Take a user out who wants to wait so long and no longer. The build goes on for the others."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await build.done.wait()
        await self.leave(build, user)

    async def cancel(self, build: Build) -> None:
        """End a build now, and its tasks unless another build needs them, in this process or in another."""
        if build.runner is not None:
            build.runner.cancel()
            await asyncio.wait([build.runner])
        for kind, key in build.assembly.task_keys:
            if not self.find_waiting(kind, key):
                await self.runner.leave(kind, key, build.attempts.get(kind))

    def _forget_old(self, keep: int = 500) -> None:
        ended = [build for build in self.by_id.values() if build.done.is_set()]
        for build in ended[: max(0, len(self.by_id) - keep)]:
            del self.by_id[build.identity]

    # --- one build ---

    async def _run(self, build: Build) -> None:
        try:
            with space.noticed():
                await self._make(build)
            build.finished = time.time()
            build.tell(Phase.READY)
        except HubDockError as error:
            self._fail(build, error)
        except asyncio.CancelledError:
            if self.closing:  # the workers go on, and the next process takes the build up
                return
            self._fail(build, BuildCancelled("The build was cancelled."))
        except Exception:
            log.exception("build %s", build.identity)
            self._fail(build, BuildError("The build failed for a reason that hubdock does not know. Tell an administrator."))
        finally:
            build.done.set()
            build.queue.clear()
            self.active.pop(build.identity, None)
            if not self.closing:
                await self.remember(build)

    async def remember(self, build: Build) -> None:
        """Write down how a build is. The lock keeps an older state from being written over a newer one."""
        async with build.writing:
            with contextlib.suppress(HubDockError):
                await self.in_thread(self.database.write_build, make_row(build, self.home))

    def _fail(self, build: Build, error: HubDockError) -> None:
        build.finished, build.error = time.time(), error
        log.warning("build %s of %s: %s %s", build.identity, build.assembly.plan.repo, error, error.detail)
        build.tell(Phase.CANCELLED if isinstance(error, BuildCancelled) else Phase.FAILED, str(error), error)

    async def _make(self, build: Build) -> None:
        """Make what is missing; once more if what it stands on was removed since the plan."""
        try:
            await self._make_planned(build)
        except ImageGone:
            build.assembly = await self.in_thread(self.planner.refresh, build.assembly)
            await self._make_planned(build)

    async def _make_planned(self, build: Build) -> None:
        if build.assembly.plan.ready:
            await self._history(build)
            await self._remember_epoch(build.assembly)
            return
        build.tell(Phase.BUILDING)
        await self.in_thread(self.database.write_build, make_row(build, self.home))
        await self.prepare_base(build)
        # The first failure ends the waiting, not the other tasks: their results are kept.
        await asyncio.gather(self._history(build), self._parts(build))
        await self._remember_epoch(build.assembly)

    async def _remember_epoch(self, a: Assembly) -> None:
        if a.renews and a.environment:
            await self.in_thread(self.database.write_epoch, a.renews, a.environment.epoch)

    async def prepare_base(self, build: Build) -> None:
        """Look into the base image, prepare it, and bring the build's keys up to date, if that was not done before or was undone."""
        if not build.assembly.needs("base"):
            return
        reference = build.assembly.base_reference
        await self.runner.do(build, "base", build.assembly.base_key, specs.make_base_spec(self.settings, reference, build.assembly.base_digest))
        build.assembly = await self.in_thread(self.planner.refresh, build.assembly)
        if build.assembly.needs("base"):
            raise BuildError(f"The base image {reference} changed while it was looked into. Start again.")

    async def _history(self, build: Build) -> None:
        mirror = self.planner.reader.make_mirror(build.assembly.remote)
        await self.remotes.ask(build.assembly.remote.repo.origin, mirror.ensure_history, build.assembly.ref)

    async def _data(self, build: Build) -> None:
        a = build.assembly
        if a.dataset is not None and a.needs("data"):
            await self.runner.do(build, "data", a.dataset.inputs.key, specs.make_data_spec(self.settings, a))

    async def _parts(self, build: Build) -> None:
        """Make data, environment and image: what becomes part of the image comes before it, all else goes on beside it."""
        a = build.assembly
        assert a.image
        before, beside = ([self._data(build)], []) if a.image.data else ([], [self._data(build)])
        await asyncio.gather(*beside, self._image(build, before))

    async def _image(self, build: Build, before: list[Coroutine[Any, Any, None]]) -> None:
        await asyncio.gather(self._environment(build), *before)
        a = build.assembly
        assert a.image
        if a.needs("image"):
            await self.runner.do(build, "image", a.image.key, specs.make_image_spec(self.settings, a))

    async def _environment(self, build: Build) -> None:
        a = build.assembly
        assert a.environment
        if a.needs("environment"):
            await self.runner.do(build, "environment", a.environment.key, specs.make_environment_spec(self.settings, a))
