"""The spawner's side of the service's API."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx

from hubdock.core.errors import BackendError, ConfigError, from_dict

TIMEOUT = httpx.Timeout(120.0, connect=5.0)
RETRIES = 5
PATIENCE = 45.0  # seconds: a hub looks every 30 whether its services live, and starts a dead one again


def find_token(config: Mapping[str, Any]) -> str:
    """Return the token of the service that the hub itself is configured with. Raises ConfigError."""
    services = (config.get("JupyterHub") or {}).get("services")
    for service in services if isinstance(services, list) else ():
        if service.get("name") == "hubdock" and service.get("api_token"):
            return str(service["api_token"])
    raise ConfigError("The hub does not know hubdock's service. Call hubdock.configure(c), or hubdock.join(c, …), in jupyterhub_config.py.")


class ServiceClient:
    """Asks the service in the hub's own name. Every method raises the HubDockError that the service answers, or BackendError."""

    def __init__(self, url: str, token: str) -> None:
        limits = httpx.Limits(max_connections=None)  # each start that waits for a build holds one, and must not keep others out
        self.client = httpx.AsyncClient(base_url=url.rstrip("/") + "/", headers={"Authorization": f"token {token}"}, timeout=TIMEOUT, limits=limits)

    async def _send(self, method: str, path: str, **kwargs: Any) -> httpx.Response:
        """Ask, and ask again while the service restarts: every request here may be repeated."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                return await self.client.request(method, path, **kwargs)
            except httpx.HTTPError as error:
                if isinstance(error, httpx.TimeoutException) or time.monotonic() > deadline:
                    raise BackendError("hubdock's service does not answer. Try again in a moment.", f"{type(error).__name__}: {error}") from error
            await asyncio.sleep(0.2)

    async def _ask(self, method: str, path: str, **kwargs: Any) -> httpx.Response:
        return self._check(await self._send(method, path, **kwargs))

    def _check(self, answer: httpx.Response) -> httpx.Response:
        if answer.is_success:
            return answer
        try:
            told = answer.json()["error"]
        except (ValueError, KeyError) as error:
            raise BackendError("hubdock's service answers with an error. Tell an administrator.", f"{answer.status_code} {answer.text[:500]}") from error
        raise from_dict(told)

    async def begin(self, user: str, groups: list[str], server: str, options: dict[str, Any], lost: str = "") -> dict[str, Any]:
        """Have everything made for a user's server, with what they may read. Return ``build``, and ``launch`` if it is ready.

        ``lost`` is the key of data that was not in the store.
        """
        answer = await self._ask("POST", "api/launches", json={"user": user, "groups": groups, "server": server, "options": options, "lost": lost})
        found: dict[str, Any] = answer.json()
        return found

    async def read_launch(self, build: str, user: str, server: str) -> dict[str, Any] | None:
        """Return ``build`` and ``launch`` of a build; None if the service does not know it, for it was restarted meanwhile."""
        answer = await self._send("GET", f"api/launches/{build}", params={"user": user, "server": server})
        if answer.status_code == 404:
            return None
        found: dict[str, Any] = self._check(answer).json()
        return found

    async def read_archive(self, build: str, user: str, server: str) -> bytes:
        """Return the tar that goes into the container."""
        return (await self._ask("GET", f"api/launches/{build}/archive", params={"user": user, "server": server})).content

    async def wait_for_address(self, build: str, user: str, server: str) -> str:
        """Return the address from which a server, once it runs, asks for its start files."""
        while True:
            answer = await self._ask("GET", f"api/launches/{build}/address", params={"user": user, "server": server})
            if address := answer.json()["address"]:
                return str(address)

    async def leave(self, build: str, user: str, server: str) -> None:
        """Stop waiting for a build in a server's name."""
        await self._ask("DELETE", f"api/launches/{build}", params={"user": user, "server": server})

    async def watch(self, build: str) -> AsyncIterator[dict[str, Any]]:
        """Yield how a build is (`hubdock.core.account.Account.as_dict`) whenever that changes, until it ends.

        A broken connection is taken up again; nothing more comes if the service is restarted.
        """
        failures = 0
        while failures <= RETRIES:
            try:
                async with self.client.stream("GET", f"api/builds/{build}/events", params={"view": "page"}, timeout=httpx.Timeout(60.0)) as answer:
                    if answer.status_code != 200:
                        return
                    async for kind, data in _read_events(answer):
                        failures = 0
                        if kind == "end":
                            return
                        if kind == "state":
                            yield json.loads(data)
            except httpx.HTTPError:
                await asyncio.sleep(0.2)
            failures += 1

    async def close(self) -> None:
        """Close the connections."""
        await self.client.aclose()


async def _read_events(answer: httpx.Response) -> AsyncIterator[tuple[str, str]]:
    """Yield (event, data) of a server-sent event stream."""
    fields = {"event": "", "data": ""}
    async for line in answer.aiter_lines():
        if not line:
            if fields["data"]:
                yield fields["event"], fields["data"]
            fields = {"event": "", "data": ""}
            continue
        name, _, value = line.partition(":")
        if name in fields:
            fields[name] = value.removeprefix(" ")
