"""The hub's REST API, as far as the service needs it (https://jupyterhub.readthedocs.io/en/stable/reference/rest-api.html)."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import httpx

from hubdock.core.errors import BackendError, CapacityError, HubDockError, RequestError

TIMEOUT = 30.0
PAGE = 200


class HubAPI:
    """Calls with a user's own token, so that the hub decides what that user may do."""

    def __init__(self, url: str) -> None:
        limits = httpx.Limits(max_connections=None)  # each start that is followed holds two, and must not keep others out
        self.client = httpx.AsyncClient(base_url=url.rstrip("/") + "/", timeout=TIMEOUT, limits=limits)

    async def _call(self, method: str, path: str, token: str, body: dict[str, Any] | None = None) -> httpx.Response:
        try:
            return await self.client.request(method, path, headers={"Authorization": f"token {token}"}, json=body)
        except httpx.HTTPError as error:
            raise BackendError("The hub does not answer. Try again in a moment.", str(error)) from error

    async def read_servers(self, token: str, user: str) -> dict[str, dict[str, Any]]:
        """Return a user's servers by name, running and stopped."""
        answer = await self._call("GET", f"users/{quote(user, safe='')}?include_stopped_servers", token)
        if answer.status_code != 200:
            raise _make_error(answer)
        servers: dict[str, dict[str, Any]] = answer.json().get("servers") or {}
        return servers

    async def list_active(self, token: str) -> list[dict[str, Any]]:
        """Return the models of all users that have a server, with their servers."""
        users: list[dict[str, Any]] = []
        while True:
            answer = await self._call("GET", f"users?state=active&limit={PAGE}&offset={len(users)}", token)
            if answer.status_code != 200:
                raise _make_error(answer)
            users += answer.json()
            if len(answer.json()) < PAGE:
                return users

    async def follow_server(self, token: str, user: str, server: str) -> AsyncIterator[dict[str, Any]]:
        """Yield what the hub tells of a server that starts, until it is ``ready`` or has ``failed``; nothing if it does not start."""
        headers = {"Authorization": f"token {token}"}
        try:
            async with self.client.stream("GET", f"{_name_server(user, server)}/progress", headers=headers, timeout=TIMEOUT) as answer:
                async for line in answer.aiter_lines():
                    if answer.status_code == 200 and line.startswith("data:"):
                        yield json.loads(line.removeprefix("data:"))
        except (httpx.HTTPError, ValueError):
            return

    async def start_server(self, token: str, user: str, server: str, options: dict[str, Any]) -> bool:
        """Ask for a server, and return once the hub has taken it up, or has it already; True if it is ready.

        Raises RequestError, CapacityError or BackendError with the hub's own words.
        """
        try:
            answer = await self._call("POST", _name_server(user, server), token, options)
        except BackendError as error:
            if isinstance(error.__cause__, httpx.ReadTimeout):  # the hub waits for the server, and may do so for long
                return False
            raise
        if answer.status_code in {201, 202}:
            return answer.status_code == 201
        if answer.status_code == 400 and ("already" in answer.text or "pending spawn" in answer.text):
            return False
        raise _make_error(answer)

    async def stop_server(self, token: str, user: str, server: str) -> None:
        """Have a server stopped, or its start; one that does not run is stopped. Raises RequestError or BackendError with the hub's own words."""
        answer = await self._call("DELETE", _name_server(user, server), token)
        if answer.status_code not in {202, 204, 404}:
            raise _make_error(answer, "stop")

    async def close(self) -> None:
        """Close the connections."""
        await self.client.aclose()


def read_time(text: str) -> float:
    """Return seconds since the epoch of the hub's ISO 8601, 0 for anything else."""
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return 0.0
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _name_server(user: str, server: str) -> str:
    """Return the path of one server. The default one has a path of its own: no slip of a name ever leads there."""
    return f"users/{quote(user, safe='')}/" + (f"servers/{quote(server, safe='')}" if server else "server")


def _make_error(answer: httpx.Response, what: str = "start") -> HubDockError:
    try:
        message = str(answer.json().get("message") or answer.reason_phrase)
    except ValueError:
        message = answer.reason_phrase
    if answer.status_code in {429, 503}:
        return CapacityError(f"The hub is busy: {message} Try again in a moment.")
    if answer.status_code in {401, 403}:
        return RequestError("The hub did not accept your login. Log in again.", message)
    if answer.status_code < 500:
        return RequestError(f"The hub did not {what} the server: {message}")
    return BackendError(f"The hub could not {what} the server: {message}")
