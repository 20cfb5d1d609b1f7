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
from typing import Any, TypeVar

from hubdock.core.errors import BuildCancelled, BuildError, HubDockError
from hubdock.core.events import Event, Kind, Phase
from hubdock.core.plan import State
from hubdock.engine import assembly as specs
from hubdock.engine.assembly import Assembly
from hubdock.engine.config import HubDock
from hubdock.engine.database import BuildRow, Database, TaskRow
from hubdock.engine.planner import Planner, make_base_key
from hubdock.engine.tasks import Attempt, Result, TaskStore, reap

log = logging.getLogger("hubdock")
T = TypeVar("T")
THREADS = 32
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
        """End a build now, and its tasks unless another build needs them."""
        needed = {a.path for other in self.by_id.values() if other is not build and not other.done.is_set() for a in other.attempts.values()}
        for attempt in build.attempts.values():
            if attempt.path not in needed:
                await self.in_thread(attempt.cancel)
        if build.runner is not None:
            build.runner.cancel()

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
            if latest is not None:
                build.attempts[kind] = latest
        result = await asyncio.shield(known)
        if result.error is not None:
            raise result.error
        return result

    async def _do(self, kind: str, key: str, spec: dict[str, Any], build: Build) -> Result:
        past = await self.in_thread(self.database.last_task, kind)
        spec["past"] = json.loads(past.steps) if past else {}
        async with self.slots:
            attempt = await self.in_thread(self.tasks.start, kind, key, spec)
            for other in self.by_id.values():
                if other is build or (not other.done.is_set() and _wants(other, kind, key)):
                    other.attempts[kind] = attempt
            result = await self._follow(attempt)
        await self.in_thread(self._record, attempt, result, build)
        for listener in self.listeners:
            listener(attempt, result)
        return result

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
        """Remember a finished task: its duration for estimates, its inputs to explain the next one; a base's record."""
        inputs: dict[str, Any] = {}
        a = build.assembly
        if attempt.kind == "environment" and a.environment:
            inputs = {"inputs": a.environment.as_dict(), "recipe": specs.describe_recipe(a.source)}
        row = TaskRow(
            id=attempt.identity, kind=attempt.kind, key=attempt.key, repo=a.remote.repo.canonical, status=str(result.status), finished=result.finished,
            seconds=round(result.finished - result.started, 3), steps=json.dumps(result.steps), inputs=json.dumps(inputs),
        )  # fmt: skip
        self.database.record_task(row)
        if attempt.kind == "base" and result.error is None:
            base = result.data["base"]
            self.database.write_base(base["reference"], result.data["prepared"], json.dumps(base))


def _wants(build: Build, kind: str, key: str) -> bool:
    a = build.assembly
    keys = {"environment": a.environment and a.environment.key, "image": a.image and a.image.key, "data": a.dataset and a.dataset.inputs.key}
    return keys.get(kind) == key


def make_row(build: Build) -> BuildRow:
    """Return what the database keeps of a build."""
    a = build.assembly
    return BuildRow(
        id=build.identity, created=build.created, finished=build.finished, status=str(build.phase), repo=a.remote.repo.canonical, ref=a.options.ref,
        commit=a.ref.commit, image=a.image.key if a.image else "", options=json.dumps(a.options.as_dict()), users=json.dumps(sorted(build.users)),
        tasks=json.dumps({part: [attempt.kind, attempt.key, attempt.path.name] for part, attempt in build.attempts.items()}),
        error=json.dumps(build.error.as_dict()) if build.error else "",
    )  # fmt: skip
