"""Builds as they go on: their events for programs, their account and the end of their output for pages, and the whole log."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Sequence
from typing import Any

from tornado.iostream import StreamClosedError
from tornado.web import HTTPError

from hubdock.core.events import Phase
from hubdock.core.stages import Stage
from hubdock.engine.build import Build
from hubdock.engine.feed import Chunk
from hubdock.engine.stream import Cursor, stream_events
from hubdock.service.base import APIHandler, BaseHandler
from hubdock.service.starts import Start
from hubdock.service.state import State

KEEPALIVE = 15.0
TICK, LAUNCH_TICK, TELL = 0.25, 0.05, 1.0
UNKNOWN = "There is no such build, or it is somebody else's. Logs are kept for as long as the administrator says."


async def send_log(handler: BaseHandler, identity: str) -> None:
    """Answer with the whole log of a build as text, piece by piece, for as long as the build is known."""
    build = await handler.engine.read_build(identity)
    if build is None or not handler.may_see(build["askers"]):
        raise HTTPError(404, UNKNOWN)
    handler.set_header("Content-Type", "text/plain; charset=utf-8")
    handler.set_header("Content-Disposition", f'inline; filename="hubdock-{identity[:12]}.log"')
    with contextlib.suppress(StreamClosedError):
        async for text in handler.engine.read_log(identity):
            handler.write(text)
            await handler.flush()  # no more is read than the reader takes
        await handler.finish()


async def describe_watched(state: State, build: Build, start: Start | None, *, launches: bool = False) -> dict[str, Any]:
    """Return what is told of a build to who watches it (`Account.as_dict`). ``launches``: a server follows, whose start is not known here."""
    account = await state.tellers.tell(build)
    launch = start.launch if start else Stage("launch", expected=build.assembly.plan.launch.seconds) if launches else None
    told = account.as_dict(time.time(), launch, failed=start is not None and start.phase is Phase.FAILED)
    if start is not None and start.phase is Phase.CANCELLED:
        stages = [{**stage, "state": "cancelled"} if stage["state"] in {"running", "waiting"} else stage for stage in told["stages"]]  # for this user
        told |= {"phase": str(Phase.CANCELLED), "over": True, "words": "Cancelled", "left": "", "stages": stages}
    return {**told, "url": start.hub_path(state.hub_prefix) if start and start.phase is Phase.READY else ""}


class LogHandler(APIHandler):
    """The whole log of a build as text, for as long as the build is known."""

    async def get(self, identity: str) -> None:
        await send_log(self, identity)


class EventsHandler(APIHandler):
    """A build's events as server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html), replayed, then live."""

    async def get(self, identity: str) -> None:
        build = self.find_build(identity)
        if build is None:
            raise HTTPError(404, "There is no such build under way, or it is somebody else's.")
        self.set_header("Content-Type", "text/event-stream")
        self.set_header("X-Accel-Buffering", "no")
        keepalive = asyncio.create_task(self._keep_alive())
        try:
            if self.get_query_argument("view", "") == "page":
                await self._send_view(build)
            else:
                await self._send_events(build)
            await self.finish()
        except StreamClosedError:
            return
        finally:
            keepalive.cancel()

    async def _send(self, kind: str, text: str, identifier: str = "") -> None:
        self.write((f"id: {identifier}\n" if identifier else "") + f"event: {kind}\ndata: {text}\n\n")
        await self.flush()

    async def _send_events(self, build: Build) -> None:
        cursor = Cursor(self.request.headers.get("Last-Event-ID", ""))
        async for identifier, event in stream_events(build, cursor):
            await self._send(str(event.kind), json.dumps(event.as_dict()), identifier)
        await self._send("end", json.dumps({"phase": str(build.phase)}))

    async def _send_view(self, build: Build) -> None:
        """Send the account whenever it is another, and output as it comes: of a flood its newest part, and how much was left out."""
        start = await self.state.starts.resume(self.name, self.user_token, build) if self.user else None
        number, missed = await self.state.feeds.join(build, self.request.headers.get("Last-Event-ID") or self.get_query_argument("from", ""))
        await self._send_chunks([missed] if missed else [])
        before, told_at = "", 0.0
        while True:
            told = await describe_watched(self.state, build, start, launches=self.internal)
            feed = await self.state.feeds.look(build)
            chunks, before_it, number = feed.find_after(number), number, feed.count
            if chunks and chunks[0].number > before_it + 1:  # a reader who is slower than the log
                await self._send("lines", json.dumps({"lines": [], "skipped": 1}))
            await self._send_chunks(chunks)
            shape = json.dumps({**told, "stages": [{**stage, "seconds": 0, "steps": [{**step, "seconds": 0} for step in stage["steps"]]} for stage in told["stages"]]})
            if shape != before or time.monotonic() - told_at > TELL:
                before, told_at = shape, time.monotonic()
                await self._send("state", json.dumps(told))
            if build.done.is_set() and build.finished is None:
                return  # the service ends, and the page asks the next one
            if told["over"] or (build.done.is_set() and start is None):
                if start is not None:
                    start.entered = True
                await self._send("end", json.dumps({"phase": told["phase"]}))
                return
            await self._wait(build)

    async def _send_chunks(self, chunks: Sequence[Chunk]) -> None:
        for chunk in chunks:
            await self._send("lines", chunk.text, chunk.position)

    async def _wait(self, build: Build) -> None:
        if build.done.is_set():
            await asyncio.sleep(LAUNCH_TICK)
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(TICK):
                await build.done.wait()

    async def _keep_alive(self) -> None:
        with contextlib.suppress(StreamClosedError):
            while True:
                await asyncio.sleep(KEEPALIVE)
                self.write(":\n\n")
                await self.flush()
