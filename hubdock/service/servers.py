"""Who runs what, on the whole hub. Show it only for a repository that whoever asks was just found to be able to read."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import Any

from hubdock.core.errors import HubDockError
from hubdock.core.repo import parse_repo_url
from hubdock.service.hub import HubAPI

log = logging.getLogger("hubdock")
MAX_AGE = 3.0


@dataclass(frozen=True)
class RunningServer:
    """One server of one user. ``repo`` is the identity of its repository, ``url`` a path on the hub, ``started`` ISO 8601 in UTC."""

    user: str
    name: str
    repo: str
    branch: str
    url: str
    ready: bool
    pending: bool
    started: str


class Servers:
    """The servers of the hub, asked for at most every `MAX_AGE` seconds with the service's own token."""

    def __init__(self, hub: HubAPI, token: str) -> None:
        self.hub, self.token = hub, token
        self._known: list[RunningServer] = []
        self._asked = 0.0
        self._asking = asyncio.Lock()

    def forget(self) -> None:
        """Ask anew next time: something was just stopped or started."""
        self._asked = -MAX_AGE

    async def find(self, repo: str | None = None) -> list[RunningServer]:
        """Return the servers that run or start, on one repository (`RepoURL.canonical`) or on all; none if the hub does not say."""
        async with self._asking:
            if time.monotonic() - self._asked > MAX_AGE:
                try:
                    self._known = read_servers(await self.hub.list_active(self.token))
                except HubDockError as error:
                    log.info("who runs what is not known: %s %s", error, error.detail)
                    self._known = []
                self._asked = time.monotonic()
        return [server for server in self._known if repo is None or server.repo == repo]


def read_servers(users: list[dict[str, Any]]) -> list[RunningServer]:
    """Return the hypotheses that run, of the hub's models of its users. A server of another kind is none."""
    found = []
    for user in users:
        for name, server in sorted((user.get("servers") or {}).items()):
            options = server.get("user_options") or {}
            try:
                repo = parse_repo_url(str(options.get("repo", ""))).canonical
            except HubDockError:
                continue
            if server.get("ready") or server.get("pending"):
                branch = str(options.get("new_branch") or options.get("ref", ""))
                state: dict[str, Any] = {"url": str(server.get("url") or ""), "ready": bool(server.get("ready")), "pending": bool(server.get("pending"))}
                found.append(RunningServer(str(user["name"]), name, repo, branch, started=str(server.get("started") or ""), **state))
    return found
