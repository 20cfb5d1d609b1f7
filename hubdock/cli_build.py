"""Building from the command line: watch, and end in order when the user asks."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from hubdock.cli_errors import Failed
from hubdock.cli_plan import find_user, quiet_logs
from hubdock.cli_progress import Watch
from hubdock.core.naming import make_tag
from hubdock.drivers import process
from hubdock.drivers.job import make_image_gone
from hubdock.engine.assembly import Assembly
from hubdock.engine.backend import open_backend
from hubdock.engine.build import Build
from hubdock.engine.config import HubDock
from hubdock.engine.engine import Engine
from hubdock.engine.stream import Cursor, stream_events
from hubdock.interrupt import Interrupted, listening

SETTLE = 20.0


@dataclass(frozen=True)
class Built:
    """What a build made. ``image_id`` is the engine's."""

    build: str
    assembly: Assembly
    tag: str
    image_id: str
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form of ``hubdock build --json``."""
        key = self.assembly.image.key if self.assembly.image else ""
        image = {"key": key, "tag": self.tag, "id": self.image_id}
        return {"build": self.build, "seconds": round(self.seconds, 3), "image": image, "plan": self.assembly.plan.as_dict()}


def build_here(settings: HubDock, assembly: Assembly, console: Console, verbose: bool) -> Built:
    """Make what an assembly lacks, and show how it goes.

    Raises Failed, BackendError if the image is gone at once, and Interrupted after the tasks that nobody else needs have been ended.
    """
    quiet_logs(verbose)
    with Watch(console, verbose) as watch:
        build = asyncio.run(_build(settings, assembly, watch))
    if build.error is not None:
        log = build.attempts[watch.failed].events_path if watch.failed in build.attempts else None
        going_on = [part for part, attempt in build.attempts.items() if attempt.running()]
        raise Failed(build.error, watch.tail, build.identity, log, going_on)
    image = build.assembly.image
    assert image
    image_id = open_backend(settings.backend_values).find_image("image", image.key, image.canonical)
    if image_id is None:
        raise make_image_gone()
    return Built(build.identity, build.assembly, make_tag("image", image.key), image_id, watch.seconds)


async def _build(settings: HubDock, assembly: Assembly, watch: Watch) -> Build:
    engine, loop, stop = Engine(settings), asyncio.get_running_loop(), asyncio.Event()

    def ask_to_stop() -> None:
        loop.call_soon_threadsafe(stop.set)

    with listening(ask_to_stop):
        build = await engine.ensure(assembly, find_user())
        showing, stopping = asyncio.create_task(_show(build, watch)), asyncio.create_task(stop.wait())
        await asyncio.wait({showing, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not showing.done() or showing.exception():  # asked to stop, or nobody reads what is shown any more
            await _cancel(engine, build, watch)
            if showing.done():
                await showing
            raise Interrupted
        assert build.runner
        await asyncio.wait([build.runner])  # the last of it: the build is written down
    if build.error is not None:
        process.kill_all()  # a fetch of the history, which this process would wait for
    return build


async def _show(build: Build, watch: Watch) -> None:
    watch.display.plan(build.assembly.plan)
    known = build.assembly
    async for _, event in stream_events(build, Cursor(), poll=0.05):
        if build.assembly is not known:
            known = build.assembly
            watch.display.plan(known.plan)
        watch.take(event)


async def _cancel(engine: Engine, build: Build, watch: Watch) -> None:
    """End what nobody else waits for, and wait until it has cleaned up."""
    with contextlib.suppress(OSError):
        watch.display.say("Stopping …")
    await engine.builds.cancel(build)
    process.kill_all()  # git, for threads that would go on waiting for it
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(SETTLE):
            await engine.builds.runner.settle()
