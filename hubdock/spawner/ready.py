"""Noticing that a server answers, at once and at little cost: the hub's own wait backs off, and loses seconds to that.

Until the port is open a bare connection is tried, which costs a tenth of a request: twenty servers that boot at once must not keep the hub's event
loop busy with asking. The pause between two looks grows with how many wait.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable

import httpx

from hubdock.core.errors import LaunchError

PAUSE, PAUSES = 0.02, (0.02, 0.1)  # seconds for each server that boots; the least and the most
LIFE = 0.5
_CONNECT = 2.0
_ANSWER = 5.0
_waiting: set[object] = set()


async def wait_until_up(ip: str, port: int, path: str, limit: float, find_end: Callable[[], Awaitable[bool]], worst: int = 499) -> None:
    """Return as soon as the server answers a request for a path, by a status that is no worse than ``worst``. ``find_end`` tells whether its container has ended,
    and is asked now and then.

    Raises LaunchError if it has, or if the server does not answer within ``limit`` seconds.
    """
    mark, deadline, looked, opened = object(), time.monotonic() + limit, time.monotonic(), False
    _waiting.add(mark)
    try:
        while time.monotonic() < deadline:
            opened = opened or await is_open(ip, port)
            if opened and await answers(f"http://{f'[{ip}]' if ':' in ip else ip}:{port}{path}", worst):
                return
            pause = min(max(PAUSE * len(_waiting), PAUSES[0]), PAUSES[1])
            if time.monotonic() - looked > max(LIFE, LIFE * len(_waiting) / 4):
                looked = time.monotonic()
                if await find_end():
                    raise LaunchError("The server ended while it was starting.")
            await asyncio.sleep(pause)
    finally:
        _waiting.discard(mark)
    raise LaunchError(f"The server did not answer within {limit:g} seconds.")


async def is_open(ip: str, port: int) -> bool:
    """Return whether something listens."""
    try:
        async with asyncio.timeout(_CONNECT):
            _, writer = await asyncio.open_connection(ip, port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True


async def answers(url: str, worst: int) -> bool:
    """Return whether the server answers, with whatever but an error of its own or what is worse than wanted."""
    try:
        async with httpx.AsyncClient(timeout=_ANSWER, trust_env=False, verify=False) as client:  # noqa: S501 (plain HTTP; the client would read all certificates)
            return (await client.get(url)).status_code <= worst
    except httpx.HTTPError:
        return False
