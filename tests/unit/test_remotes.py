"""Who asks a remote waits for it, and nobody else does."""

from __future__ import annotations

import asyncio
import threading

from hubdock.engine.remotes import EACH, THREADS, RemoteThreads


async def test_a_remote_that_hangs_has_a_share_of_the_threads() -> None:
    threads, over, running = RemoteThreads(), threading.Event(), []

    def hang(number: int) -> int:
        running.append(number)
        over.wait(20)
        return number

    waiting = [asyncio.create_task(threads.ask("https://hangs.example.org", hang, number)) for number in range(2 * THREADS)]
    async with asyncio.timeout(5):
        assert await threads.ask("https://well.example.org", lambda: "well") == "well"
        while len(running) < EACH:
            await asyncio.sleep(0.01)
    waiting[0].cancel()  # whoever asked is gone, the thread is not
    await asyncio.sleep(0.05)
    assert len(running) == EACH
    over.set()
    async with asyncio.timeout(10):
        found = await asyncio.gather(*waiting, return_exceptions=True)
    assert [value for value in found if isinstance(value, int)] == list(range(1, 2 * THREADS)) and len(threads._doors) <= 1
    threads.close()


async def test_what_goes_wrong_comes_back() -> None:
    threads = RemoteThreads()
    try:
        await threads.ask("https://a.example.org", lambda: 1 / 0)
    except ZeroDivisionError:
        threads.close()
    else:
        raise AssertionError
