"""From which address a server asks for its start files: so a hub knows where a pod is before its node reports it, which looks once a second."""

from __future__ import annotations

import asyncio
import ipaddress
from collections import defaultdict

from tornado.httputil import HTTPServerRequest

Key = tuple[str, str, str]  # build, user, server


class Arrivals:
    """Who waits for which server. It belongs to one event loop."""

    def __init__(self) -> None:
        self._waiting: defaultdict[Key, set[asyncio.Future[str]]] = defaultdict(set)

    async def wait(self, key: Key, seconds: float) -> str:
        """Return the address from which a server asks next, empty if it does not within the time."""
        asked: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._waiting[key].add(asked)
        try:
            async with asyncio.timeout(seconds):
                return await asked
        except TimeoutError:
            return ""
        finally:
            self._waiting[key].discard(asked)
            if not self._waiting[key]:
                del self._waiting[key]

    def tell(self, key: Key, address: str) -> None:
        """Tell those who wait that a server asked."""
        for asked in self._waiting.get(key, ()):
            if not asked.done():
                asked.set_result(address)


def find_peer(request: HTTPServerRequest) -> str:
    """Return the address that a request comes from, empty if it can't be told.

    That is the connection's other end, and what it says of itself counts for nothing: a hub sends a user's requests there. Only the hub's own proxy on this
    machine is believed, in the part of ``X-Forwarded-For`` that it added itself, the last.
    """
    ends = getattr(getattr(request.connection, "context", None), "address", None)
    try:
        peer = _plain(ends[0]) if ends else None
        if peer is not None and peer.is_loopback:
            peer = _plain((request.headers.get_list("X-Forwarded-For") or [""])[-1].rpartition(",")[2].strip())
    except ValueError:
        return ""
    return str(peer) if peer is not None and not peer.is_loopback else ""


def _plain(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    address = ipaddress.ip_address(text)
    return getattr(address, "ipv4_mapped", None) or address
