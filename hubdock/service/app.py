"""The service's process: configuration, lock, engine, routes."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import secrets
import signal
import sys
from pathlib import Path
from urllib.parse import urlsplit

from jupyterhub.services.auth import HubOAuthCallbackHandler
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, StaticFileHandler

from hubdock.core.errors import HubDockError
from hubdock.drivers.process import MARK
from hubdock.engine.config import HubDock, load_config, make_settings
from hubdock.engine.engine import Engine
from hubdock.engine.feed import Feeds
from hubdock.engine.tasks import end_strays
from hubdock.engine.telling import Tellers
from hubdock.service import admin, api, board, choose, compare, disk, events, lock, watch
from hubdock.service.base import MAX_BODY, SECURITY
from hubdock.service.boards import Boards
from hubdock.service.collecting import Collecting
from hubdock.service.hub import HubAPI
from hubdock.service.metrics import Metrics
from hubdock.service.offers import Offers
from hubdock.service.servers import Servers
from hubdock.service.starts import Starts
from hubdock.service.state import State

log = logging.getLogger("hubdock")
STATIC = Path(__file__).parent / "static"


class StaticHandler(StaticFileHandler):
    """Files of hubdock itself."""

    def set_default_headers(self) -> None:
        for name, value in SECURITY.items():
            if name != "Cache-Control":
                self.set_header(name, value)


def make_routes(prefix: str) -> list[tuple[object, ...]]:
    """Return the routes of the service below its prefix."""
    identity = r"([0-9a-f]{32})"
    volume = r"([A-Za-z0-9][A-Za-z0-9_.-]{0,250})"
    return [
        (f"{prefix}", choose.ChooseHandler),
        (f"{prefix}plan", choose.PlanPage),
        (f"{prefix}builds/{identity}", watch.WatchHandler),
        (f"{prefix}builds/{identity}/log", watch.LogPage),
        (f"{prefix}servers/([^/]*)", watch.ServerHandler),
        (f"{prefix}board", board.BoardPage),
        (f"{prefix}admin", admin.AdminPage),
        (f"{prefix}compare", compare.ComparePage),
        (f"{prefix}compare/notebook", compare.NotebookPage),
        (f"{prefix}compare/outputs", compare.OutputsFrame),
        (f"{prefix}workspaces", disk.WorkspacesPage),
        (f"{prefix}oauth_callback", HubOAuthCallbackHandler),
        (f"{prefix}static/(.*)", StaticHandler, {"path": str(STATIC)}),
        (f"{prefix}api/?", api.RootHandler),
        (f"{prefix}api/openapi.json", api.OpenAPIHandler),
        (f"{prefix}api/health", api.HealthHandler),
        (f"{prefix}api/metrics", api.MetricsHandler),
        (f"{prefix}api/branches", api.BranchesHandler),
        (f"{prefix}api/board", board.BoardHandler),
        (f"{prefix}api/plan", api.PlanHandler),
        (f"{prefix}api/builds", api.BuildsHandler),
        (f"{prefix}api/builds/{identity}", api.BuildHandler),
        (f"{prefix}api/builds/{identity}/events", events.EventsHandler),
        (f"{prefix}api/builds/{identity}/log", events.LogHandler),
        (f"{prefix}api/images", api.ImagesHandler),
        (f"{prefix}api/collection", disk.CollectionHandler),
        (f"{prefix}api/compare", compare.CompareHandler),
        (f"{prefix}api/compare/notebook", compare.NotebookHandler),
        (f"{prefix}api/workspaces", disk.WorkspacesHandler),
        (f"{prefix}api/workspaces/{volume}", disk.WorkspaceHandler),
        (f"{prefix}api/workspaces/{volume}/restore", disk.RestoreHandler),
        (f"{prefix}api/launches", api.LaunchesHandler),
        (f"{prefix}api/launches/{identity}", api.LaunchHandler),
        (f"{prefix}api/launches/{identity}/address", api.AddressHandler),
        (f"{prefix}api/launches/{identity}/archive", api.ArchiveHandler),
    ]


def make_app(engine: Engine, environ: dict[str, str]) -> Application:
    """Return the application over an engine, with the environment that a hub gives its services."""
    prefix = environ.get("JUPYTERHUB_SERVICE_PREFIX", "/services/hubdock/")
    base_url = environ.get("JUPYTERHUB_BASE_URL", "/")
    hub = HubAPI(environ["JUPYTERHUB_API_URL"])
    metrics = Metrics(engine)
    servers = Servers(hub, environ["JUPYTERHUB_API_TOKEN"])
    state = State(
        engine, hub, metrics, Starts(hub, engine.builds), environ["JUPYTERHUB_API_TOKEN"], prefix, f"{base_url}hub/", base_url, Collecting(engine, metrics),
        servers, Boards(engine, servers), Offers(engine), Tellers(engine), Feeds(engine),
    )
    return Application(make_routes(prefix), state=state, cookie_secret=read_cookie_secret(engine.settings.state))  # type: ignore[arg-type]


def read_cookie_secret(state: Path) -> str:
    """Return the key of the login cookies, made once: with a new one at each start everybody would be logged out."""
    path = state / "cookie_secret"
    if not path.exists():
        work = path.with_name(f".cookie_secret.{os.getpid()}")
        work.touch(mode=0o600)
        work.write_text(secrets.token_hex(32), encoding="ascii")
        work.replace(path)
    return path.read_text(encoding="ascii").strip()


async def serve(settings: HubDock) -> None:
    """Serve until SIGTERM or SIGINT. Workers go on afterwards."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):  # a hub started with nohup passes on an ignored SIGINT
        loop.add_signal_handler(number, stop.set)
    held = lock.take(settings.state)
    mark = settings.state / "service"
    end_strays(mark)  # what an earlier service was running when it was killed
    os.environ[MARK] = str(mark)
    engine = Engine(settings)
    app = make_app(engine, dict(os.environ))
    server = HTTPServer(app, xheaders=True, max_body_size=MAX_BODY)
    address = urlsplit(os.environ.get("JUPYTERHUB_SERVICE_URL", "http://127.0.0.1:9000"))
    server.add_sockets(bind_sockets(address.port or 9000, address.hostname or "127.0.0.1"))
    resumed = await engine.resume()
    log.info("serving on %s%s", address.netloc, f", {resumed} builds taken up again" if resumed else "")
    refreshing = asyncio.create_task(engine.bases.run())
    collecting = asyncio.create_task(app.settings["state"].collecting.run())
    await stop.wait()
    collecting.cancel()
    refreshing.cancel()
    server.stop()
    await engine.close()
    held.close()


def main() -> None:
    """Entry of ``python -m hubdock.service``."""
    parser = argparse.ArgumentParser(prog="python -m hubdock.service", description="The hubdock service, as a hub starts it.")
    parser.add_argument("--config", help="a .json or .py configuration file; `hubdock.configure` writes one")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="[%(levelname)1.1s %(asctime)s hubdock] %(message)s", datefmt="%Y-%m-%d %H:%M:%S")
    for noisy in ("httpx", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        settings = make_settings(load_config(options.config))
        asyncio.run(serve(settings))
    except HubDockError as error:
        log.critical("%s %s", error, error.detail)
        sys.exit(1)
