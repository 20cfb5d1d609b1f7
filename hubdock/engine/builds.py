"""Builds: everything that one start waits for, made by tasks that are shared by key.

A `Build` is one hypothesis at one commit, for everybody who asked for it; a task is the work on one key, for every build that needs it. Builds live in
the event loop of whoever asks (the service, the CLI); tasks are processes of their own, so they outlive it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any, TypeVar

from hubdock.core.errors import BuildCancelled, BuildError, HubDockError
from hubdock.core.events import Event, Kind, Phase
from hubdock.core.plan import State
from hubdock.engine import assembly as specs
from hubdock.engine.assembly import Assembly
from hubdock.engine.config import HubDock
from hubdock.engine.database import Database
from hubdock.engine.planner import Planner, make_base_key
from hubdock.engine.rows import make_row, make_task_row
from hubdock.engine.tasks import Attempt, Result, TaskStore, reap

log = logging.getLogger("hubdock")
T = TypeVar("T")
THREADS = 32
CANCELS = 3
_POLL = 0.05


@dataclass
class Build:
    """One build. ``attempts`` are its tasks by part; ``done`` is set when it ended; ``error`` says why it failed."""

    assembly: Assembly
    identity: str
    users: set[str] = field(default_factory=set)
    created: float = field(default_factory=time.time)
    finished: float | None = None
    phase: Phase = Phase.QUEUED
    error: HubDockError | None = None
    attempts: dict[str, Attempt] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    done: asyncio.Event = field(default_factory=asyncio.Event)
    writing: asyncio.Lock = field(default_factory=asyncio.Lock)
    runner: asyncio.Task[None] | None = None

    def tell(self, phase: Phase, message: str = "", error: HubDockError | None = None) -> None:
        """Record a phase of the whole start."""
        self.phase = phase
        self.events.append(Event(Kind.PHASE, time.time(), "", phase, message, error=error.as_dict() if error else None))

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form of the API."""
        plan = self.assembly.plan
        return {
            "id": self.identity, "phase": str(self.phase), "repo": plan.repo, "ref": plan.ref, "new_branch": plan.new_branch, "commit": plan.commit,
            "image": self.assembly.image.key if self.assembly.image else "", "created": self.created, "finished": self.finished,
            "error": self.error.as_dict() if self.error else None, "parts": [part.as_dict() for part in plan.parts], "notices": list(plan.notices),
            "tasks": {part: attempt.identity for part, attempt in self.attempts.items()},
        }  # fmt: skip


class Builds:
    """All builds of one process."""

    def __init__(self, settings: HubDock, database: Database, tasks: TaskStore, planner: Planner) -> None:
        self.settings, self.database, self.tasks, self.planner = settings, database, tasks, planner
        self.pool = ThreadPoolExecutor(THREADS, thread_name_prefix="hubdock")
        self.slots = asyncio.Semaphore(settings.max_parallel_builds)
        self.closing = False
        self.by_id: dict[str, Build] = {}
        self.listeners: list[Callable[[Attempt, Result], None]] = []
        self._running: dict[tuple[str, str], asyncio.Task[Result]] = {}
        self._holds: dict[Path, IO[bytes]] = {}

    async def in_thread(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Run something that blocks, beside the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self.pool, partial(function, *args, **kwargs))

    async def ensure(self, assembly: Assembly, user: str, identity: str = "") -> Build:
        """Return the build that makes what an assembly lacks: one that runs already, or a new one. A build that ended well lacks nothing."""
        build = next((b for b in self.by_id.values() if not b.done.is_set() and b.assembly.identity == assembly.identity and assembly.image), None)
        if build is None:
            build = Build(assembly, identity or uuid.uuid4().hex)
            self.by_id[build.identity] = build
            build.users.add(user)
            self._forget_old()
            build.runner = asyncio.create_task(self._run(build))
        build.users.add(user)
        return build

    async def leave(self, build: Build, user: str) -> None:
        """Take a user out. When nobody is left after the grace time, the tasks that no other build needs are ended."""
        build.users.discard(user)
        if build.users or build.done.is_set():
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.settings.cancel_grace):
                await build.done.wait()
        if not build.users and not build.done.is_set():
            await self.cancel(build)

    async def cancel(self, build: Build) -> None:
        """End a build now, and its tasks unless another build needs them, in this process or in another."""
        if build.runner is not None:
            build.runner.cancel()
            await asyncio.wait([build.runner])
        for attempt in build.attempts.values():
            if not self._find_waiting(attempt.kind, attempt.key):
                await self._end(attempt)

    async def _end(self, attempt: Attempt) -> None:
        """Let go of an attempt, and end it if no other process holds it."""
        hold = self._holds.pop(attempt.path, None)
        if hold is not None:
            hold.close()
        follower = self._running.get((attempt.kind, attempt.key))
        if not await self.in_thread(attempt.cancel) and follower is not None:
            follower.cancel()

    async def settle(self) -> None:
        """Wait until no task is under way in this process: after `cancel`, until the workers have cleaned up."""
        await asyncio.gather(*self._running.values(), return_exceptions=True)

    def _forget_old(self, keep: int = 500) -> None:
        ended = [build for build in self.by_id.values() if build.done.is_set()]
        for build in ended[: max(0, len(self.by_id) - keep)]:
            del self.by_id[build.identity]

    # --- one build ---

    async def _run(self, build: Build) -> None:
        try:
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
            if not self.closing:
                await self._remember(build)

    async def _remember(self, build: Build) -> None:
        """Write down how a build is. The lock keeps an older state from being written over a newer one."""
        async with build.writing:
            with contextlib.suppress(HubDockError):
                await self.in_thread(self.database.write_build, make_row(build))

    def _fail(self, build: Build, error: HubDockError) -> None:
        build.finished, build.error = time.time(), error
        log.warning("build %s of %s: %s %s", build.identity, build.assembly.plan.repo, error, error.detail)
        build.tell(Phase.CANCELLED if isinstance(error, BuildCancelled) else Phase.FAILED, str(error), error)

    async def _make(self, build: Build) -> None:
        if build.assembly.plan.ready:
            await self._history(build)
            return
        build.tell(Phase.BUILDING)
        await self.in_thread(self.database.write_build, make_row(build))
        await self.prepare_base(build)
        # The first failure ends the waiting, not the other tasks: their results are kept.
        await asyncio.gather(self._history(build), self._data(build), self._image(build))

    async def prepare_base(self, build: Build) -> None:
        """Look into the base image, and bring the build's keys up to date, if that was not done before."""
        if build.assembly.base is not None:
            return
        reference = build.assembly.base_reference
        spec = specs.make_base_spec(self.settings, reference, False)
        await self._task(build, "base", make_base_key(self.settings, reference), spec)
        build.assembly = await self.in_thread(self.planner.refresh, build.assembly)
        if build.assembly.base is None:
            raise BuildError(f"The base image {reference} changed while it was looked into. Start again.")

    async def _history(self, build: Build) -> None:
        mirror = self.planner.reader.make_mirror(build.assembly.remote)
        await self.in_thread(mirror.ensure_history, build.assembly.ref)

    async def _data(self, build: Build) -> None:
        a = build.assembly
        if a.dataset is not None and a.plan.part("data").state in {State.BUILD, State.RUNNING}:
            await self._task(build, "data", a.dataset.inputs.key, specs.make_data_spec(self.settings, a))

    async def _image(self, build: Build) -> None:
        a = build.assembly
        assert a.environment and a.image
        for part, key, make in (("environment", a.environment.key, specs.make_environment_spec), ("image", a.image.key, specs.make_image_spec)):
            if a.plan.part(part).state in {State.BUILD, State.RUNNING}:
                await self._task(build, part, key, make(self.settings, a))

    # --- one task ---

    async def _task(self, build: Build, kind: str, key: str, spec: dict[str, Any]) -> Result:
        """Have a task done, once however many builds ask, and return its result. Raises the error that it ended with."""
        known = self._running.get((kind, key))
        if known is None:
            known = asyncio.create_task(self._do(kind, key, spec, build))
            self._running[kind, key] = known
            known.add_done_callback(lambda _: self._running.pop((kind, key), None))
        else:
            latest = await self.in_thread(self.tasks.latest, kind, key)
            if latest is not None and latest.running():
                build.attempts[kind] = latest
        result = await asyncio.shield(known)
        if result.error is not None:
            raise result.error
        return result

    async def _do(self, kind: str, key: str, spec: dict[str, Any], build: Build) -> Result:
        past = await self.in_thread(self.database.last_task, kind)
        spec["past"] = json.loads(past.steps) if past else {}
        async with self.slots:
            for _ in range(CANCELS):  # an attempt that somebody else cancelled a moment ago is no answer for those who want it now
                if not self._find_waiting(kind, key):
                    return Result(Phase.CANCELLED, 0.0, 0.0, BuildCancelled("The build was cancelled."))
                attempt = await self.in_thread(self.tasks.start, kind, key, spec)
                result = await self._attend(attempt)
                if result.status is not Phase.CANCELLED:
                    break
        await self.in_thread(self._record, attempt, result, build)
        for listener in self.listeners:
            listener(attempt, result)
        return result

    def _find_waiting(self, kind: str, key: str) -> list[Build]:
        """Return the builds that wait for a task, or will."""
        return [build for build in self.by_id.values() if not build.done.is_set() and self._wants(build, kind, key)]

    def _wants(self, build: Build, kind: str, key: str) -> bool:
        a = build.assembly
        if kind == "base":
            return a.base is None and make_base_key(self.settings, a.base_reference) == key
        keys = {"environment": a.environment and a.environment.key, "image": a.image and a.image.key, "data": a.dataset and a.dataset.inputs.key}
        return keys.get(kind) == key

    async def _attend(self, attempt: Attempt) -> Result:
        """Hold an attempt until it ends. If everybody left while it was being started, end it."""
        self._holds[attempt.path] = attempt.hold()
        waiting = self._find_waiting(attempt.kind, attempt.key)
        for build in waiting:
            build.attempts[attempt.kind] = attempt
        try:
            for build in waiting:
                await self._remember(build)
            if not waiting:
                await self._end(attempt)
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
        return result

    def _record(self, attempt: Attempt, result: Result, build: Build) -> None:
        """Remember a finished task, and a base's record."""
        self.database.record_task(make_task_row(attempt, result, build.assembly))
        if attempt.kind == "base" and result.error is None:
            base = result.data["base"]
            self.database.write_base(base["reference"], result.data["prepared"], json.dumps(base))
