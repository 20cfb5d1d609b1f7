"""Where a server is, by the connection on which it asks: real requests, also such that claim to come from elsewhere."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from tornado.httpclient import AsyncHTTPClient
from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPHeaders
from tornado.testing import bind_unused_port
from tornado.web import Application, RequestHandler

from hubdock.service.arrivals import Arrivals, find_peer

KEY = ("b", "alice", "one")


class Peer(RequestHandler):
    def get(self) -> None:
        self.finish(find_peer(self.request))


async def ask(host: str, **headers: str) -> str:
    """Return what a service listening on an address takes for the other end."""
    socket, port = bind_unused_port(address=host)
    server = HTTPServer(Application([("/", Peer)]), xheaders=True)
    server.add_socket(socket)
    try:
        answer = await AsyncHTTPClient().fetch(f"http://{host}:{port}/", headers={name.replace("_", "-"): value for name, value in headers.items()})
    finally:
        server.stop()
    return answer.body.decode()


@pytest.mark.parametrize(
    ("forwarded", "peer"),
    [("10.1.2.3", "10.1.2.3"), ("9.9.9.9, 10.1.2.3", "10.1.2.3"), ("::ffff:10.1.2.3", "10.1.2.3"), ("fd00::7", "fd00::7"), ("", ""), ("10.1.2.3, x", ""), ("127.0.0.1", ""), ("::1", "")],
)
async def test_the_proxy_of_this_machine_is_believed_in_what_it_added(forwarded: str, peer: str) -> None:
    assert await ask("127.0.0.1", X_Forwarded_For=forwarded, X_Real_Ip="8.8.8.8") == peer


def test_whoever_asks_directly_is_where_they_ask_from() -> None:
    """Whatever they say."""

    request: Any = SimpleNamespace(headers=HTTPHeaders({"X-Forwarded-For": "9.9.9.9", "X-Real-Ip": "8.8.8.8"}), connection=SimpleNamespace(context=SimpleNamespace()))
    request.connection.context.address = ("10.1.2.3", 5000)
    assert find_peer(request) == "10.1.2.3"
    request.connection.context.address = None  # a unix socket
    assert find_peer(request) == ""


async def test_everybody_who_waits_is_told() -> None:
    arrivals = Arrivals()
    waiting = [asyncio.create_task(arrivals.wait(key, 5)) for key in (KEY, KEY, ("b", "alice", "two"))]
    await asyncio.sleep(0)
    arrivals.tell(KEY, "10.1.2.3")
    arrivals.tell(KEY, "10.1.2.4")
    assert await asyncio.gather(*waiting[:2]) == ["10.1.2.3"] * 2 and not waiting[2].done()
    waiting[2].cancel()
    assert await arrivals.wait(KEY, 0.05) == "", "what nobody waited for is not kept"
    with pytest.raises(asyncio.CancelledError):
        await waiting[2]
    assert not arrivals._waiting
