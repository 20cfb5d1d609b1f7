"""A real JupyterHub with its proxy and hubdock's service, on free ports and in a directory of its own."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import docker
import httpx
import psutil
import pytest

from tests.kit.ports import find_port

ROOT = Path(__file__).parent.parent.parent
PASSWORD = "only-for-tests-" + secrets.token_hex(4)
USERS = ("alice", "bob", "carol", "dave", "erin")


def find_gateway() -> str:
    """Return the address of this machine on Docker's default bridge."""
    configs = docker.from_env().networks.get("bridge").attrs["IPAM"]["Config"]
    return next(config["Gateway"] for config in configs if ":" not in config["Gateway"])


def find_proxy() -> str | None:
    local = ROOT / "node_modules" / ".bin" / "configurable-http-proxy"
    return str(local) if local.exists() else shutil.which("configurable-http-proxy")


def find_base() -> str:
    """Return the base image that tests build on."""
    return os.environ.get("HUBDOCK_TEST_BASE", "hubdock-base:latest")


# JupyterHub without an import of jsonschema's that takes a second and is optional: a grammar for `iri` formats, which no hub has.
PROGRAM = "import runpy, sys; sys.modules['rfc3987_syntax'] = None; runpy.run_module('jupyterhub', run_name='__main__')"
CONFIG = """
import json, os
c = get_config()
given = json.loads(os.environ["HUBDOCK_TEST_CONFIG"])
c.JupyterHub.authenticator_class = "shared-password"
c.SharedPasswordAuthenticator.user_password = given["password"]
c.Authenticator.allowed_users = set(given["users"])
c.JupyterHub.bind_url = given["url"]
c.JupyterHub.hub_port = given["hub_port"]
c.JupyterHub.cleanup_servers = False
c.ConfigurableHTTPProxy.command = [given["proxy"]]
c.ConfigurableHTTPProxy.api_url = f"http://127.0.0.1:{given['proxy_port']}"
c.ConfigurableHTTPProxy.pid_file = os.path.abspath("proxy.pid")
c.ConfigurableHTTPProxy.should_start = True
c.JupyterHub.services = [{"name": "test", "api_token": given["token"]}]
c.JupyterHub.load_roles = [{"name": "test", "services": ["test"], "scopes": ["admin:users", "admin:groups", "admin:servers", "access:servers", "tokens", "access:services", "custom:hubdock:admin"]}]
c.DockerSpawner.prefix = given["prefix"]
for section, values in given["settings"].items():
    for name, value in values.items():
        setattr(c[section], name, value)
import hubdock
hubdock.configure(c, port=given["service_port"])
"""


class Hub:
    """One hub. ``settings`` are traits by class, such as ``{"HubDock": {"gpu_limit": 2}}``; ``more`` goes to the end of its configuration."""

    def __init__(
        self, directory: Path, settings: dict[str, dict[str, Any]], python: str = sys.executable, users: Sequence[str] = USERS, more: str = ""
    ) -> None:
        self.directory, self.python, self.users = directory, python, users
        self.prefix = f"hdtest{secrets.token_hex(3)}"
        self.port, self.service_port = find_port(), find_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.token = secrets.token_hex(16)
        self.state = directory / "state"
        engine = {"state_dir": str(self.state), "base_image": find_base(), "gpu_base_image": "", "volume_prefix": self.prefix}
        self.settings = {**settings, "HubDock": {**engine, **settings.get("HubDock", {})}}
        self.ports = {"hub_port": find_port(find_gateway()), "proxy_port": find_port(), "service_port": self.service_port}
        self.environment: dict[str, str] = {}
        self.process: subprocess.Popen[bytes] | None = None
        self.engine = docker.from_env()
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "jupyterhub_config.py").write_text(CONFIG + more)

    # --- life ---

    def start(self) -> Hub:
        given = {
            "password": PASSWORD, "users": list(self.users), "url": self.url, "proxy": find_proxy(), "token": self.token, "prefix": self.prefix,
            "settings": self.settings, **self.ports,
        }  # fmt: skip
        env = {**os.environ, "HUBDOCK_TEST_CONFIG": json.dumps(given), "PYTHONPATH": str(ROOT), **self.environment}
        env.pop("JUPYTERHUB_API_TOKEN", None)
        with (self.directory / "hub.log").open("ab") as log:
            self.process = subprocess.Popen(
                [self.python, "-c", PROGRAM, "-f", "jupyterhub_config.py"], cwd=self.directory, env=env, stdout=log, stderr=log, start_new_session=True
            )
        self.wait_for(lambda: self.service_answers(), 60, "the hub and its service answer")
        return self

    def service_answers(self) -> bool:
        assert self.process and self.process.poll() is None, f"the hub ended:\n{self.log[-3000:]}"
        try:
            answers = httpx.get(f"{self.url}/services/hubdock/api/health").status_code == 200 and self.api("GET", "").status_code == 200
            return answers and psutil.Process(self.service_pid).ppid() == self.process.pid  # not that of a hub which was killed
        except (httpx.HTTPError, OSError, ValueError, psutil.NoSuchProcess):
            return False

    @property
    def service_pid(self) -> int:
        """The process of hubdock's service."""
        return int(json.loads((self.state / "service.lock").read_text())["pid"])

    def stop(self) -> None:
        """End hub, proxy and service in order."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(30)

    def kill(self) -> None:
        """kill -9 the hub alone: its service and proxy live on, as after a crash."""
        assert self.process
        self.process.kill()
        self.process.wait(10)

    def kill_all(self) -> None:
        """kill -9 the hub, its service and the workers of builds, as when their machine is lost."""
        self.kill()
        os.kill(self.service_pid, signal.SIGKILL)
        for process in psutil.process_iter(["cmdline"]):
            if any(word.startswith(f"{self.state}/tasks/") for word in process.info["cmdline"] or ()):
                process.kill()

    @property
    def log(self) -> str:
        return (self.directory / "hub.log").read_text(errors="replace")

    def clean(self) -> None:
        """Remove what this hub made on the engine: containers, volumes, images of keys in its state."""
        for container in self.engine.containers.list(all=True, filters={"name": f"{self.prefix}-"}):
            container.remove(force=True, v=True)
        for volume in self.engine.volumes.list(filters={"name": f"{self.prefix}-"}):
            volume.remove(force=True)
        for kind in ("image", "environment"):
            for key in (self.state / "tasks" / kind).glob("*"):
                try:
                    self.engine.images.remove(f"hubdock/{kind}:{key.name}", force=True)
                except docker.errors.APIError:
                    continue

    # --- asking ---

    def wait_for(self, condition: Any, timeout: float, what: str, pause: float = 0.1) -> Any:
        until = time.monotonic() + timeout
        while time.monotonic() < until:
            if found := condition():
                return found
            time.sleep(pause)
        raise AssertionError(f"not within {timeout} s: {what}\n{self.log[-3000:]}")

    def api(self, method: str, path: str, body: Any = None, token: str = "", timeout: float = 120) -> httpx.Response:
        """Ask the hub's REST API."""
        return httpx.request(method, f"{self.url}/hub/api/{path}", json=body, headers={"Authorization": f"token {token or self.token}"}, timeout=timeout)

    def service(self, method: str, path: str, body: Any = None, token: str = "", timeout: float = 120, **kwargs: Any) -> httpx.Response:
        """Ask the service's API through the proxy."""
        headers = {"Authorization": f"token {token or self.token}", **kwargs.pop("headers", {})}
        return httpx.request(method, f"{self.url}/services/hubdock/api/{path}", json=body, headers=headers, timeout=timeout, **kwargs)

    def make_token(self, user: str, scopes: list[str] | None = None) -> str:
        """Return a token of a user's own."""
        body = {"scopes": scopes} if scopes else {}
        return str(self.api("POST", f"users/{user}/tokens", body).json()["token"])

    def start_server(self, user: str, server: str, options: dict[str, Any], timeout: float = 180) -> Server:
        """Start a server by REST, wait until it is ready, and return it. Fails with the hub's message."""
        self.begin(user, server, options)
        return self.wait_ready(user, server, timeout)

    def begin(self, user: str, server: str, options: dict[str, Any]) -> None:
        """Ask for a server, and return at once."""
        answer = self.api("POST", f"users/{user}/servers/{server}", options)
        assert answer.status_code in {201, 202}, answer.text

    def start_all(self, *servers: tuple[str, str, dict[str, Any]]) -> list[Server]:
        """Start servers (user, name, options) at the same time, and return them in that order."""
        for user, server, options in servers:
            self.begin(user, server, options)
        return [self.wait_ready(user, server) for user, server, _ in servers]

    def wait_ready(self, user: str, server: str, timeout: float = 180) -> Server:
        def ready() -> bool:
            found = self.read_server(user, server)
            assert found.get("ready") or found.get("pending"), f"{user}/{server} did not start: {found}\n{self.log[-3000:]}"
            return bool(found.get("ready"))

        self.wait_for(ready, timeout, f"{user}/{server} is ready")
        return Server(self, user, server)

    def read_server(self, user: str, server: str) -> dict[str, Any]:
        found: dict[str, Any] = self.api("GET", f"users/{user}?include_stopped_servers").json()["servers"].get(server, {})
        return found

    def stop_server(self, user: str, server: str) -> None:
        self.stop_all(Server(self, user, server))

    def stop_all(self, *servers: Server) -> None:
        """Stop servers at the same time."""
        with ThreadPoolExecutor(len(servers)) as pool:  # the hub answers when it is done
            list(pool.map(lambda each: self.api("DELETE", f"users/{each.user}/servers/{each.name}", {"remove": False}), servers))
        for each in servers:
            self.wait_for(lambda each=each: not (found := self.read_server(each.user, each.name)).get("ready") and not found.get("pending"), 30, "the server stops")

    def read_progress(self, user: str, server: str) -> list[dict[str, Any]]:
        """Return the events of the hub's progress stream until it ends."""
        events = []
        with httpx.stream("GET", f"{self.url}/hub/api/users/{user}/servers/{server}/progress", headers={"Authorization": f"token {self.token}"}, timeout=180) as answer:
            for line in answer.iter_lines():
                if line.startswith("data: "):
                    events.append(json.loads(line[6:]))
        return events

    @contextmanager
    def browser(self, user: str) -> Iterator[Browser]:
        with httpx.Client(base_url=self.url, follow_redirects=True, timeout=60) as client:
            yield Browser(client, user)


@contextmanager
def run_hub(directory: Path, settings: dict[str, dict[str, Any]], **more: Any) -> Iterator[Hub]:
    """Hold a running hub (`Hub`), and take away what it made. Skips the test where there is no proxy."""
    if find_proxy() is None:
        pytest.skip("configurable-http-proxy is not installed; `make test` installs it")
    running = Hub(directory, settings, **more)
    try:
        yield running.start()
    finally:
        running.stop()
        running.clean()


class Browser:
    """What a browser without JavaScript does: cookies, redirects, forms."""

    def __init__(self, client: httpx.Client, user: str) -> None:
        self.client, self.user = client, user
        page = client.get("/hub/login")
        form = {"username": user, "password": PASSWORD, "_xsrf": self.find_xsrf(page)}
        self.landing = client.post("/hub/login?next=", data=form)
        assert self.landing.status_code == 200, self.landing.text[:2000]

    @staticmethod
    def find_xsrf(page: httpx.Response) -> str:
        """Return the page's proof, from a field or from the form's address."""
        match = re.search(r'name="_xsrf"\s+value="([^"]+)"|action="[^"]*[?&]_xsrf=([^"&]+)', page.text)
        assert match, f"no form on {page.url}: {page.text[:1500]}"
        return match[1] or unquote(match[2])

    def get(self, path: str, **kwargs: Any) -> httpx.Response:
        return self.client.get(path, **kwargs)

    def submit(self, page: httpx.Response, path: str, **fields: str) -> httpx.Response:
        """Send the page's form with these fields."""
        return self.client.post(path, data={"_xsrf": self.find_xsrf(page), **fields})


class Server:
    """One running server, and the inside of its container."""

    def __init__(self, hub: Hub, user: str, name: str) -> None:
        self.hub, self.user, self.name = hub, user, name

    @property
    def container(self) -> Any:
        found = self.hub.engine.containers.list(filters={"label": [f"hubdock.user={self.user}", f"hubdock.server={self.name}"], "name": self.hub.prefix})
        assert len(found) == 1, found
        return found[0]

    @property
    def workspace(self) -> str:
        return str(self.hub.read_server(self.user, self.name)["state"]["hubdock"]["workspace"])

    def run(self, script: str, check: bool = True) -> str:
        """Run a shell script in the workspace as the user, with a terminal's environment, and return what it prints."""
        code, output = self.container.exec_run(["bash", "-c", script], workdir=self.workspace, user="1000:100")
        text = output.decode("utf-8", "replace")
        assert not check or code == 0, f"{script}\n→ {code}: {text}"
        return text.strip()

    @property
    def log(self) -> str:
        """What the server wrote so far."""
        return str(self.container.logs().decode())

    def ask(self, path: str, method: str = "GET", body: Any = None) -> httpx.Response:
        """Ask the Jupyter server itself, through the proxy."""
        url = f"{self.hub.url}/user/{quote(self.user)}/{self.name + '/' if self.name else ''}api/{path}"
        return httpx.request(method, url, json=body, headers={"Authorization": f"token {self.hub.token}"}, timeout=30)

    def stop(self) -> None:
        self.hub.stop_server(self.user, self.name)
