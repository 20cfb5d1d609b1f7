"""The JSON API. It is described in `hubdock.service.openapi`, which a test holds to these handlers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from typing import Any

from tornado.web import HTTPError

from hubdock import __version__
from hubdock.core.asker import Asker
from hubdock.core.errors import HubDockError, InvalidOption
from hubdock.core.options import parse_options
from hubdock.core.repo import parse_repo_url
from hubdock.drivers import archive as archives
from hubdock.engine.assembly import Assembly, describe_source
from hubdock.engine.build import Build
from hubdock.engine.engine import Engine
from hubdock.engine.images import list_made_images
from hubdock.engine.launch import Launch, find_start_files, make_launch
from hubdock.engine.store import forget_view
from hubdock.service.arrivals import find_peer
from hubdock.service.base import APIHandler
from hubdock.service.events import describe_watched
from hubdock.service.openapi import make_openapi

ARRIVAL = 30.0  # seconds that one question after a server's address may wait


class RootHandler(APIHandler):
    """Name and version."""

    public = True

    def get(self) -> None:
        self.write_json({"name": "hubdock", "version": __version__})


class OpenAPIHandler(APIHandler):
    """The description of this API."""

    public = True

    def get(self) -> None:
        self.write_json(make_openapi(self.state.prefix))


class HealthHandler(APIHandler):
    """Whether the service and what it stands on answer. 503 if not."""

    public = True

    async def get(self) -> None:
        checks = {"database": lambda: self.engine.database.list_builds(1), **self.engine.planner.backend.list_checks()}
        told = {}
        for name, check in checks.items():
            try:
                await self.engine.builds.in_thread(check)
                told[name] = "ok"
            except HubDockError as error:
                told[name] = error.code
        healthy = set(told.values()) == {"ok"}
        self.write_json({"status": "ok" if healthy else "failing", "checks": told}, 200 if healthy else 503)


class MetricsHandler(APIHandler):
    """Prometheus' text format, to anybody who may use the service."""

    def get(self) -> None:
        self.set_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
        self.finish(self.state.metrics.render())


class BranchesHandler(APIHandler):
    """The branches and tags of a repository, as they are now."""

    async def get(self) -> None:
        refs = await self.engine.list_branches(parse_repo_url(self.get_query_argument("repo", "")), self.asker)
        self.write_json({"branches": refs.branches, "tags": refs.tags, "default": refs.default})


async def make_plan(handler: APIHandler, body: dict[str, Any], asker: Asker | None = None, **kwargs: bool) -> Assembly:
    """Return the plan of a body's options for whoever asks, or is asked for, counted."""
    try:
        assembly = await handler.engine.plan(parse_options(body), asker or handler.asker, **kwargs)
    except HubDockError as error:
        handler.state.metrics.plans.labels(error.code).inc()
        raise
    handler.state.metrics.plans.labels("ready" if assembly.plan.ready else "build").inc()
    return assembly


def pop_rebuild(body: dict[str, Any]) -> bool:
    """Take out of a body whether the newest base and packages are wanted. Raises InvalidOption."""
    rebuild = body.pop("rebuild", False)
    if not isinstance(rebuild, bool):
        raise InvalidOption("“rebuild” must be true or false.", field="rebuild")
    return rebuild


class PlanHandler(APIHandler):
    """What a start would do. Nothing is done."""

    async def post(self) -> None:
        body = self.read_json()
        rebuild = pop_rebuild(body)
        assembly = await make_plan(self, body, new_must_be_new=True, preview=True, rebuild=rebuild)
        self.write_json({**assembly.plan.as_dict(), "source": describe_source(assembly.source)})


class BuildsHandler(APIHandler):
    """Your builds, and new ones."""

    async def get(self) -> None:
        rows = await self.engine.builds.in_thread(self.engine.database.list_builds, 200)
        seen = [build for row in rows if (build := await self.engine.read_build(row.id)) and self.may_see(build["askers"])]
        self.write_json({"builds": seen})

    async def post(self) -> None:
        body = self.read_json()
        rebuild = pop_rebuild(body)
        timeout = body.pop("timeout", None)
        if timeout is not None and (isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 < timeout < 1e9):
            raise InvalidOption("“timeout” must be a number of seconds.", field="timeout")
        assembly = await make_plan(self, body, rebuild=rebuild)
        build = await self.engine.ensure(assembly, self.name or "hub")
        if timeout is not None:
            self.state.in_background(self.engine.builds.leave_after(build, self.name or "hub", timeout))
        with contextlib.suppress(TimeoutError):  # a hit ends within the same moment, and is answered as done
            async with asyncio.timeout(0.02):
                await build.done.wait()
        self.write_json(build.as_dict(), 200 if build.done.is_set() else 202)


class BuildHandler(APIHandler):
    """One build."""

    async def get(self, identity: str) -> None:
        build = await self.engine.read_build(identity)
        if build is None or not self.may_see(build["askers"]):
            raise HTTPError(404, "There is no such build, or it is somebody else's.")
        self.write_json(build)

    async def delete(self, identity: str) -> None:
        build = self.find_build(identity)
        if build is None:
            raise HTTPError(404, "There is no such build under way, or it is somebody else's.")
        self.state.in_background(self.engine.builds.leave(build, self.name or "hub", self.get_query_argument("server", "")))
        self.set_status(204)


class ImagesHandler(APIHandler):
    """The images that hubdock made. For administrators."""

    async def get(self) -> None:
        if not self.is_admin:
            raise HTTPError(403, "Listing images needs the scope custom:hubdock:admin.")
        images = await self.engine.builds.in_thread(list_made_images, self.engine.planner.backend)
        self.write_json({"images": [image.as_dict() for image in images]})


class LaunchesHandler(APIHandler):
    """For the hub's spawners alone: have everything made for a user's server."""

    async def post(self) -> None:
        require_internal(self)
        body = self.read_json()
        user, server = str(body.get("user", "")), str(body.get("server", ""))
        if body.get("lost"):
            await self.engine.builds.in_thread(forget_view, self.engine.tasks, str(body["lost"]))
        assembly = await make_plan(self, body.get("options") or {}, Asker(user, frozenset(map(str, body.get("groups") or []))))
        build = await self.engine.ensure(assembly, user, server)
        if assembly.plan.ready:
            await build.done.wait()
        self.write_json(await describe_launch(self, build, user, server))


class LaunchHandler(APIHandler):
    """For the hub's spawners alone: how to launch what a build made."""

    async def get(self, identity: str) -> None:
        require_internal(self)
        build = self.find_build(identity)
        if build is None:
            raise HTTPError(404, "There is no such build.")
        self.write_json(await describe_launch(self, build, self.get_query_argument("user"), self.get_query_argument("server")))

    async def delete(self, identity: str) -> None:
        require_internal(self)
        build = self.find_build(identity)
        if build is not None:
            self.state.in_background(self.engine.builds.leave(build, self.get_query_argument("user"), self.get_query_argument("server", "")))
        self.set_status(204)


class AddressHandler(APIHandler):
    """For the hub's spawners alone: where a server is that was just launched, once it asks for its start files."""

    async def get(self, identity: str) -> None:
        require_internal(self)
        key = identity, self.get_query_argument("user"), self.get_query_argument("server", "")
        self.write_json({"address": await self.state.arrivals.wait(key, ARRIVAL)})


class ArchiveHandler(APIHandler):
    """What a server is given when it starts: for the hub's spawners, which put it into a container, and for that server itself, which says whose it is."""

    any_login = True

    async def get(self, identity: str) -> None:
        user, server = self.get_query_argument("user") if self.internal else self.name, self.get_query_argument("server", "")
        own = self.internal or may_open((self.user or {}).get("scopes", ()), user, server)
        files = await self.engine.builds.in_thread(self.engine.handovers.find, identity, user, server) if own else None
        if files is None:
            raise HTTPError(404, "This server was not launched from that build.")
        if not self.internal:
            self.state.arrivals.tell((identity, user, server), find_peer(self.request))
        self.set_header("Content-Type", "application/x-tar")
        self.finish(await self.engine.builds.in_thread(archives.make_archive, files))


def may_open(scopes: Iterable[str], user: str, server: str) -> bool:
    """False for the token of another server of this user's: what runs in one has no business with another."""
    bound = {scope for scope in scopes if scope.startswith("access:servers")}
    wider = {"access:servers", f"access:servers!user={user}", f"access:servers!server={user}/{server}"}
    return not bound or bool(bound & wider)


def require_internal(handler: APIHandler) -> None:
    """Refuse everybody but the hub."""
    if not handler.internal:
        raise HTTPError(403, "Only the hub itself may ask this.")


async def describe_launch(handler: APIHandler, build: Build, user: str, server: str) -> dict[str, Any]:
    """Return a build, and the launch once it has ended well."""
    told = await describe_watched(handler.state, build, None, launches=True)
    described: dict[str, Any] = {"build": build.as_dict(), "told": told, "launch": None}
    if build.done.is_set() and build.error is None:
        launch = await handler.engine.builds.in_thread(hand_over, handler.engine, build, user, server)
        described["launch"] = launch.as_dict()
    return described


def hand_over(engine: Engine, build: Build, user: str, server: str) -> Launch:
    """Return how to launch what a build made, and keep what the server is given then."""
    launch = make_launch(engine.settings, build.assembly, engine.database, engine.tasks, user, server)
    engine.handovers.keep(build.identity, user, server, find_start_files(engine.settings.state, build.assembly, launch))
    return launch
