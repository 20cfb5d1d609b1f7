"""Noticing a server: real sockets that open late, answer late, or never."""

from __future__ import annotations

import asyncio
import time

import pytest

from hubdock.core.errors import LaunchError
from hubdock.spawner.ready import wait_until_up
from tests.kit.ports import find_port

NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
FAILING = b"HTTP/1.1 503 Not yet\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


async def goes_on() -> bool:
    return False


async def serve(port: int, after: float, replies: list[bytes]) -> asyncio.Server:
    """Open a port after some seconds, and give these replies to requests in turn, the last for ever."""

    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if await reader.readline():
            writer.write(replies.pop(0) if len(replies) > 1 else replies[0])
            await writer.drain()
        writer.close()

    await asyncio.sleep(after)
    return await asyncio.start_server(reply, "127.0.0.1", port)


@pytest.mark.parametrize("replies", [[NOT_FOUND], [FAILING, FAILING, NOT_FOUND]], ids=["at once", "after errors"])
async def test_an_open_port_is_noticed_within_a_moment(replies: list[bytes]) -> None:
    port = find_port()
    opening = asyncio.create_task(serve(port, 0.3, replies))
    began = time.monotonic()
    await wait_until_up("127.0.0.1", port, "/user/x/api", 10, goes_on)
    assert 0.3 <= time.monotonic() - began < 1.5
    (await opening).close()


async def test_a_server_that_ended_is_not_waited_for() -> None:
    ended = time.monotonic() + 0.3

    async def find_end() -> bool:
        return time.monotonic() > ended

    with pytest.raises(LaunchError, match="ended while it was starting"):
        await asyncio.wait_for(wait_until_up("127.0.0.1", find_port(), "/", 60, find_end), 5)


async def test_the_limit_is_kept_and_said() -> None:
    with pytest.raises(LaunchError, match=r"within 0\.4 seconds"):
        await asyncio.wait_for(wait_until_up("127.0.0.1", find_port(), "/", 0.4, goes_on), 5)


async def test_fifty_that_boot_leave_the_loop_its_time() -> None:
    """A share of the processor's time, which does not depend on what else runs on the machine."""
    waiting = [asyncio.create_task(wait_until_up("127.0.0.1", find_port(), "/", 30, goes_on)) for _ in range(50)]
    await asyncio.sleep(0.2)
    busy, began = time.process_time(), time.monotonic()
    await asyncio.sleep(2)
    share = (time.process_time() - busy) / (time.monotonic() - began)
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)
    assert share < 0.6
