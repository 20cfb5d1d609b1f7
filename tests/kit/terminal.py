"""A terminal of JupyterLab, typed into over its websocket, as the browser does."""

from __future__ import annotations

import asyncio
import json
import re

from tornado.httpclient import HTTPRequest
from tornado.websocket import websocket_connect

from tests.kit.hub import Server


def run_in_terminal(server: Server, line: str, until: str, timeout: float = 60) -> str:
    """Type a line into a new terminal, and return what it shows until a text appears."""
    name = server.ask("terminals", "POST", {}).json()["name"]
    url = f"{server.hub.url.replace('http', 'ws', 1)}/user/{server.user}/{server.name}/terminals/websocket/{name}"

    async def talk() -> str:
        socket = await websocket_connect(HTTPRequest(url, headers={"Authorization": f"token {server.hub.token}"}))
        await socket.write_message(json.dumps(["stdin", f"{line}\r"]))
        shown = ""
        while until not in shown:
            message = json.loads(await socket.read_message() or "[]")
            shown += message[1] if message[:1] == ["stdout"] else ""
        socket.close()
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)

    async def bounded() -> str:
        return await asyncio.wait_for(talk(), timeout)

    return asyncio.run(bounded())
