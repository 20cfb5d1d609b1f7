"""What both spawners have in common: ask the service, tell how it goes, launch what it made, notice at once when it answers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, ClassVar

from jupyterhub.spawner import Spawner
from tornado.web import HTTPError
from traitlets import Bool, Float, Unicode, default
from traitlets.config import LoggingConfigurable

from hubdock.core.errors import BuildError, DataGone, HubDockError, ImageGone, LaunchError, QueueFull, from_dict
from hubdock.core.lost import find_lost_key
from hubdock.core.options import Options, flatten_form, parse_options
from hubdock.drivers.secrets import read_secret
from hubdock.drivers.space import name_end
from hubdock.spawner.client import ServiceClient, find_token
from hubdock.spawner.form import FormMemory, render_form
from hubdock.spawner.progress import Progress
from hubdock.spawner.ready import wait_until_up

RETRY = 0.5


class Prefilled(Exception):
    """A link filled the form in. Nothing is started by a link: another site could have made it."""

    jupyterhub_message = "This link filled the form in. Check it, and press Start."


if TYPE_CHECKING:
    Base = Spawner
else:
    Base = LoggingConfigurable  # a Spawner's subclass must say how to start, stop and poll, which is the driver's part


class HubDockMixin(Base):  # type: ignore[misc, valid-type]
    """A spawner whose image is made from a repository and a branch.

    A driver below it implements `start` of its own (launch ``self.launch``), and what `Spawner` asks for.
    """

    service_url = Unicode(
        "http://127.0.0.1:9000/services/hubdock/",
        help="""Address of hubdock's service, as the hub reaches it. Default: what `hubdock.configure` sets, else port 9000 of this machine.""",
    ).tag(config=True)
    service_token_file = Unicode(
        "", help="""File that holds the service's token, readable by the hub alone. Default: the one that `hubdock.configure` makes; without one the token of the
        service in ``c.JupyterHub.services``."""
    ).tag(config=True)
    trim_boot = Bool(
        True,
        help="""Leave an optional import out of Jupyter's boot, which takes over a second (jsonschema's check of ``iri`` formats), put off
        what jupyterhub imports for the hub alone, and collect no garbage before it serves. Kernels are not touched. Default: True.""",
    ).tag(config=True)
    queue_patience = Float(
        30.0, min=0, help="""Seconds that a start may wait for its turn to build. Then the hub answers 503 and the build goes on: a start that waits takes
        one of the hub's ``concurrent_spawn_limit``. Starts from hubdock's page wait there, and take none. Default: 30."""
    ).tag(config=True)
    offers_gpu = Bool(False, help="""Show a field for GPUs in the hub's own form. Default: False.""").tag(config=True)

    disk = "the Docker host"
    forms: ClassVar[FormMemory] = FormMemory()
    clients: ClassVar[dict[tuple[str, str], ServiceClient]] = {}

    launch: dict[str, Any]
    build_id = ""
    chosen: Options | None = None

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.launch = {}
        self.start_progress = Progress()

    # --- options: the hub's form, links, REST ---

    @default("options_form")
    def _default_form(self) -> Any:
        return lambda spawner: render_form({**spawner.forms.read(spawner.user.name), **spawner.find_query()}, spawner.offers_gpu)

    def find_query(self) -> dict[str, str]:
        """Return the fields that a link carries."""
        handler = getattr(self, "handler", None)
        if handler is None or handler.request.method != "GET":
            return {}
        given = {name.removeprefix("opt-"): values[-1].decode("utf-8", "replace") for name, values in handler.request.query_arguments.items()}
        return {name: value for name, value in given.items() if value}

    @default("options_from_form")
    def _default_from_form(self) -> Any:
        def read(form: dict[str, list[str]]) -> dict[str, Any]:
            self.forms.keep(self.user.name, {name: values[-1] for name, values in form.items() if values and isinstance(values[-1], str)})
            with as_hub_error():
                return parse_options(flatten_form(form)).as_dict()

        return read

    def options_from_query(self, query_options: dict[str, list[str]]) -> dict[str, Any]:
        """Never start anything: a request from another site would look the same."""
        raise Prefilled

    @default("apply_user_options")
    def _default_apply(self) -> Any:
        def apply(spawner: HubDockMixin, options: dict[str, Any]) -> None:
            try:
                spawner.chosen = parse_options(options)
            except HubDockError as error:
                spawner.forget_options()
                raise make_hub_error(error) from None

        return apply

    def forget_options(self) -> None:
        """Take refused options out of the hub's database, where it has written them before it asked: there may be a password among them."""
        self.user_options: dict[str, Any] = {}
        if self.orm_spawner is not None:
            self.orm_spawner.user_options = {}
            self.db.commit()

    @default("start_timeout")
    def _default_start_timeout(self) -> int:
        return 2 * 3600 + 300  # a build may take as long as HubDock.build_timeout, and wait as long again

    @default("http_timeout")
    def _default_http_timeout(self) -> int:
        return 120  # a server that ended is noticed at once; one that boots beside twenty others takes its time

    # --- the service ---

    @property
    def client_of_service(self) -> ServiceClient:
        """The connection to the service, shared by all spawners of the hub."""
        key = (self.service_url, self.service_token_file)
        if key not in self.clients:
            token = read_secret(self.service_token_file) if self.service_token_file else find_token(self.config)
            self.clients[key] = ServiceClient(self.service_url, token)
        return self.clients[key]

    async def ensure_launch(self, lost: str = "") -> None:
        """Have everything made, and set ``launch``. ``lost`` is the key of data that was not in the store. Raises HubDockError."""
        client, user, server = self.client_of_service, self.user.name, self.name
        options = (self.chosen or parse_options(self.user_options)).as_dict()
        self.start_progress.say("Looking at the branch")
        while True:
            answer = await client.begin(user, [group.name for group in self.user.groups], server, options, lost)
            lost = ""
            self.build_id = answer["build"]["id"]
            if answer["launch"] is None:
                await self._follow(client, answer)
                answer = await client.read_launch(self.build_id, user, server) or {"build": {"finished": None}}
            if answer.get("told"):
                self.start_progress.take(answer["told"])
            if answer.get("launch"):
                self.launch = answer["launch"]
                return
            if answer["build"]["finished"]:
                raise _find_error(answer["build"])
            self.start_progress.say("hubdock's service was restarted; the build goes on")
            await asyncio.sleep(RETRY)

    async def _follow(self, client: ServiceClient, answer: dict[str, Any]) -> None:
        """Take in how a build goes until it ends. Whoever cancels the start leaves the build."""
        for notice in answer["build"]["notices"]:
            self.start_progress.say(notice)
        try:
            async with asyncio.timeout(None) as patience:
                async for told in client.watch(self.build_id):
                    self.start_progress.take(told)
                    self._set_patience(patience, bool(told["queued"]))
        except TimeoutError:
            raise QueueFull(
                f"Your build waits for its turn: {self.start_progress.position}. It goes on without you; start again when it is done. hubdock's own page waits for you."
            ) from None
        except asyncio.CancelledError:
            with contextlib.suppress(HubDockError):
                await asyncio.shield(client.leave(self.build_id, self.user.name, self.name))
            raise

    def _set_patience(self, patience: asyncio.Timeout, queued: bool) -> None:
        """A start that only waits for its turn gives its place among the hub's own starts back: ``concurrent_spawn_limit`` counts it."""
        if not queued:
            patience.reschedule(None)
        elif patience.when() is None:
            patience.reschedule(asyncio.get_running_loop().time() + self.queue_patience)

    async def start(self) -> Any:
        """Have the image made, launch it, and return when it answers."""
        self.start_progress = Progress()
        try:
            with as_hub_error():
                try:
                    return await self._make_and_launch()
                except ImageGone:
                    self.start_progress.say("The image was removed meanwhile: it is made anew")
                    return await self._make_and_launch()
                except DataGone as error:
                    self.start_progress.say("The data was removed meanwhile: it is fetched anew")
                    return await self._make_and_launch(find_lost_key(error, self.launch))
        finally:
            self.start_progress.end()

    async def _make_and_launch(self, lost: str = "") -> Any:
        await self.ensure_launch(lost)
        self.start_progress.say("Starting the server", self.start_progress.percent)
        return await self.launch_server()

    async def launch_server(self) -> Any:
        """Start ``launch`` and wait until it answers; return what `Spawner.start` returns. The driver's part."""
        raise RuntimeError("a driver must say how to launch")

    async def progress(self) -> AsyncIterator[dict[str, Any]]:
        """Yield the messages of this start, from its first: the hub keeps none."""
        async for message in self.start_progress.read():
            yield message

    # --- noticing readiness ---

    async def wait_until_up(self, ip: str, port: int) -> None:
        """Return as soon as the server answers. Raises LaunchError with its last words if it ends first, or takes longer than ``http_timeout``."""
        try:
            await wait_until_up(ip, port, f"{self.server.base_url}api", self.http_timeout, self.has_ended)
        except LaunchError as error:
            raise name_end(error.message, await self.read_last_words(), self.disk) from None

    async def has_ended(self) -> bool:
        """Tell whether the server that is being started has ended."""
        return await self.poll() is not None

    async def read_last_words(self) -> str:
        """Return the end of the server's log, for an error. The driver's part."""
        return ""

    # --- what survives a restart of the hub ---

    def get_env(self) -> dict[str, str]:
        """Add what the guest reads."""
        env: dict[str, str] = super().get_env()
        env |= self.launch.get("env", {})
        if not self.notebook_dir and self.launch:
            env["JUPYTERHUB_ROOT_DIR"] = self.launch["workspace"]
        if not self.trim_boot:
            env["HUBDOCK_TRIM"] = "0"
        return env

    def get_state(self) -> dict[str, Any]:
        """Keep what was launched."""
        state: dict[str, Any] = super().get_state()
        if self.launch:
            state["hubdock"] = {name: self.launch[name] for name in ("image", "workspace", "labels", "resources")} | {"build": self.build_id}
        return state

    def load_state(self, state: dict[str, Any]) -> None:
        """Know again what was launched before the hub restarted."""
        super().load_state(state)
        kept = state.get("hubdock") or {}
        self.launch = {name: value for name, value in kept.items() if name != "build"}
        self.build_id = kept.get("build", "")

    def clear_state(self) -> None:
        """Forget what was launched."""
        super().clear_state()
        self.launch, self.build_id = {}, ""


def _find_error(build: dict[str, Any]) -> HubDockError:
    return from_dict(build["error"]) if build.get("error") else BuildError("The build ended without a result. Start again.")


@contextlib.contextmanager
def as_hub_error() -> Any:
    """Turn a HubDockError into what the hub shows: SpawnException where it has it (6.x), else HTTPError with ``jupyterhub_message``."""
    try:
        yield
    except HubDockError as error:
        raise make_hub_error(error) from None


def make_hub_error(error: HubDockError) -> HTTPError:
    """Return the hub's own kind of exception for an error."""
    message = str(error)
    try:
        from jupyterhub.spawner import SpawnException
    except ImportError:
        made = HTTPError(error.status, message.replace("%", "%%"), reason=error.code)
        made.jupyterhub_message = message  # type: ignore[attr-defined]
        return made
    log_message = f"{message} {error.detail}".strip()
    found: HTTPError = SpawnException(message, reason=error.code, status_code=error.status, log_message=log_message)
    found.jupyterhub_message = message  # type: ignore[attr-defined]  # its pages show this alone; without it nothing, or the detail too
    return found
