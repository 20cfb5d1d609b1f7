"""Threads for whatever asks a remote. They are their own, so that nothing else waits for a remote that hangs; and one remote never has them all."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar
from weakref import WeakValueDictionary

T = TypeVar("T")
THREADS = 64
EACH = 16  # at a time for one origin; the rest wait their turn


class RemoteThreads:
    """Runs what blocks on remotes. Its tasks belong to one event loop."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="hubdock-remote")
        self._doors: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    async def ask(self, origin: str, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Run a function that asks an origin (`RepoURL.origin`), and return what it returns."""
        door = self._doors.get(origin)
        if door is None:
            door = self._doors[origin] = asyncio.Semaphore(EACH)
        await door.acquire()
        loop = asyncio.get_running_loop()

        def leave(_: object) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(door.release)

        running = self._pool.submit(partial(function, *args, **kwargs))
        running.add_done_callback(leave)  # when the thread is free, which for a caller that was cancelled is later
        return await asyncio.wrap_future(running)

    def close(self) -> None:
        """Start nothing more; what runs goes on to its own deadline."""
        self._pool.shutdown(wait=False, cancel_futures=True)
