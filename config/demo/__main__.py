"""The demo: a hub for three users, a git server with a sample project, and a DVC remote, on this machine.

    python -m config.demo            serve until Ctrl-C
    python -m config.demo --clean    remove what it keeps: .demo, and its Docker volumes with all work in them

`make demo` prepares the machine first (config/demo/run). Ports are chosen by the variables that `PORTS` names.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import IO, Any, NoReturn
from urllib.parse import quote

from config.demo.network import find_network
from config.demo.project import make_project
from config.demo.server import Server
from hubdock.core.errors import HubDockError
from hubdock.drivers import docker
from hubdock.engine.config import DEFAULT_BASE

REPO = Path(__file__).resolve().parents[2]
STATE = REPO / ".demo"
USERS, PASSWORD = ("alice", "bob", "carol"), "hubdock-demo"
MADE_BASE = "hubdock-base:latest"
# The variable that chooses each port, and the port without it. Only the first two are seen by people: the others give way where they are taken.
PORTS = {
    "hubdock": ("HUBDOCK_DEMO_PORT", 8000), "files": ("HUBDOCK_DEMO_FILES_PORT", 9010), "hub": ("HUBDOCK_DEMO_HUB_PORT", 8081),
    "proxy": ("HUBDOCK_DEMO_PROXY_PORT", 8001), "service": ("HUBDOCK_DEMO_SERVICE_PORT", 9000),
}  # fmt: skip
SEEN = ("hubdock", "files")
# Two clones on one machine share neither containers nor volumes.
NAME = f"hubdock-demo-{hashlib.sha256(str(STATE).encode()).hexdigest()[:6]}"


class Stop(Exception):
    """Why the demo ends, or can't begin."""


def tell(text: str) -> None:
    print(f"demo: {text}", flush=True)


def interrupt(number: int, frame: FrameType | None) -> NoReturn:
    """Any of the signals ends the demo once; while it stops, more of them change nothing."""
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, signal.SIG_IGN)
    raise Stop("")


# --- before it starts ---


def lock_state() -> IO[str]:
    """Return the lock on the state directory. Raises Stop if another demo of this clone runs."""
    STATE.mkdir(exist_ok=True)
    file = (STATE / "lock").open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        raise Stop(f"a demo of this directory runs already (process {file.read().strip() or 'unknown'})") from None
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file


def find_gateway() -> str:
    """Return the address at which containers and this machine reach each other."""
    gateway = docker.find_gateway("bridge")
    try:
        with socket.socket() as probe:
            probe.bind((gateway or "0.0.0.0", 0))
    except OSError:
        gateway = ""
    if not gateway:
        raise Stop("the demo needs a Docker Engine that runs on this very machine, with its bridge network: containers must reach the hub")
    return gateway


def choose_ports(gateway: str) -> dict[str, int]:
    """Return a free port for each part. Raises Stop, with the variable to set, where one that matters is taken."""
    chosen: dict[str, int] = {}
    for part, (variable, default) in PORTS.items():
        host = gateway if part in {"files", "hub"} else "127.0.0.1"
        wanted = os.environ.get(variable, "")
        if wanted and not (wanted.isdigit() and 0 < int(wanted) < 65536):
            raise Stop(f"{variable}={wanted} is no port")
        port = int(wanted or default)
        if port in chosen.values() or not is_free(host, port):
            if wanted or part in SEEN:
                raise Stop(f"port {port} of {host} is taken by another program. Choose another: make demo {variable}={port + 100}")
            port = find_free(host, chosen)
        chosen[part] = port
    return chosen


def is_free(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


def find_free(host: str, chosen: dict[str, int]) -> int:
    while True:
        with socket.socket() as probe:
            probe.bind((host, 0))
            port = int(probe.getsockname()[1])
        if port not in chosen.values():
            return port


def choose_base() -> str:
    """Return the base image: the one that HUBDOCK_DEMO_BASE names, hubdock's default if it is here or can be pulled, or one made here."""
    named = os.environ.get("HUBDOCK_DEMO_BASE", "")
    if named:
        return named
    if docker.inspect_image(DEFAULT_BASE) is not None:
        return DEFAULT_BASE
    if docker.inspect_image(MADE_BASE) is None and can_pull(DEFAULT_BASE):  # who has made one has no registry
        tell(f"pulling the base image {DEFAULT_BASE} (over a gigabyte, once)")
        if subprocess.run(["docker", "pull", DEFAULT_BASE], check=False).returncode == 0:
            return DEFAULT_BASE
    tell("the base image is made here, from Debian and Python packages: no registry has the default one")
    if subprocess.run([str(REPO / "config" / "base-image" / "make-base"), MADE_BASE], check=False, env=os.environ | {"PYTHON": sys.executable}).returncode:
        raise Stop("there is no base image, and none could be made (see above)")
    return MADE_BASE


def can_pull(reference: str) -> bool:
    """Tell whether a registry has an image, within half a minute."""
    try:
        done = subprocess.run(["docker", "buildx", "imagetools", "inspect", reference], check=False, capture_output=True, timeout=30)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


# --- while it runs ---


@dataclass
class Demo:
    """What was started, to be stopped in the end."""

    ports: dict[str, int]
    gateway: str
    base: str
    files: Server | None = None
    hub: subprocess.Popen[bytes] | None = None
    repo: str = ""
    url: str = field(init=False)

    def __post_init__(self) -> None:
        self.url = f"http://127.0.0.1:{self.ports['hubdock']}"

    def serve_project(self) -> None:
        """Serve git and DVC, and make the sample project if it is not there. Another port is another address, so another project."""
        root = STATE / f"files-{self.ports['files']}"
        root.mkdir(exist_ok=True)
        self.files = Server(root, self.gateway, self.ports["files"]).start()
        tell(f"git and DVC server on {self.files.url}")
        try:
            self.repo = make_project(root, self.files.url, lambda line: tell(f"sample project: {line}"))
        except subprocess.CalledProcessError as error:
            raise Stop(f"the sample project could not be made: {error}\n{error.stderr}") from error

    def start_hub(self) -> None:
        """Start the hub in a session of its own: Ctrl-C is for this program, which stops things in order."""
        assert self.files
        settings = {
            "state": str(STATE), "name": NAME, "users": USERS, "password": PASSWORD, "ports": self.ports, "origin": self.files.url, "base": self.base,
            "proxy": str(REPO / "node_modules" / ".bin" / "configurable-http-proxy"), "network": find_network(STATE, self.base == DEFAULT_BASE),
        }  # fmt: skip
        config = Path(__file__).parent / "jupyterhub_config.py"
        command = [sys.executable, "-m", "jupyterhub", f"--config={config}", f"--pid-file={STATE}/hub.pid"]
        with (STATE / "hub.log").open("ab") as log:
            self.hub = subprocess.Popen(
                command, cwd=STATE, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                env=os.environ | {"HUBDOCK_DEMO": json.dumps(settings)},
            )  # fmt: skip
        tell(f"starting JupyterHub (its log: {STATE / 'hub.log'})")
        deadline = time.monotonic() + 90
        while not (answers(f"{self.url}/services/hubdock/api/health") and answers(f"{self.url}/hub/health")):
            self.check()
            if time.monotonic() > deadline:
                raise Stop(f"the hub does not answer on {self.url}\n{read_tail(STATE / 'hub.log')}")
            time.sleep(0.3)

    def check(self) -> None:
        """Raise Stop if the hub has ended."""
        if self.hub and self.hub.poll() is not None:
            raise Stop(f"the hub ended by itself (exit code {self.hub.returncode})\n{read_tail(STATE / 'hub.log')}")

    def greet(self) -> None:
        link = f"{self.url}/services/hubdock/?repo={quote(self.repo, safe='')}&ref=main"
        print(f"""
hubdock's demo is ready.

  Open            {self.url}
  Log in as       {", ".join(USERS[:-1])} or {USERS[-1]}, password {PASSWORD}
  Repository      {self.repo}
  Branch          main or vgg19, or a new branch of your own

  The same with repository and branch filled in:
                  {link}

Press Start. The first start of a branch installs its packages, which takes a minute or so; after that a server is there in seconds. In JupyterLab's
terminal git and DVC are ready: git status, dvc status, git commit, git push, dvc push.

Ctrl-C stops the demo. Images and everybody's work are kept, so that the next `make demo` is quick; `make clean` removes the work.
""", flush=True)  # fmt: skip

    def stop(self) -> None:
        """Stop the hub with its servers, whatever it left, and the git server."""
        if self.hub is not None:
            tell("stopping the hub and its servers")
            self.hub.terminate()
            try:
                self.hub.wait(60)
            except subprocess.TimeoutExpired:
                os.killpg(self.hub.pid, signal.SIGKILL)
        end_strays()
        if self.files is not None:
            self.files.shutdown()
            self.files.server_close()


def answers(url: str) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def read_tail(path: Path) -> str:
    """Return the last lines of a log."""
    with suppress(FileNotFoundError):
        return "\n".join(path.read_text(errors="replace").splitlines()[-15:])
    return ""


# --- after it ran ---


def end_strays() -> None:
    """End what a hub that was killed leaves behind: processes whose command line names the state directory, and servers."""
    left = find_strays()
    for pid in left:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + 15
    while find_strays() and time.monotonic() < deadline:
        time.sleep(0.1)
    for pid in find_strays():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    with suppress(HubDockError):
        client = docker.client()
        for container in client.containers(all=True, filters={"name": f"^/?{NAME}-"}):
            client.remove_container(container["Id"], force=True)


def find_strays() -> list[int]:
    """Return hub, service and build processes of this state directory, by their command lines, and the proxy of a hub that was killed."""
    mark, found = f"{STATE}/".encode(), []
    proxy = read_tail(STATE / "proxy.pid").strip()
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            command = (process / "cmdline").read_bytes()
            own = mark in command and (b"-m\0hubdock." in command or b"-m\0jupyterhub" in command)
            if own or (process.name == proxy and b"configurable-http-proxy" in command):
                found.append(int(process.name))
    return found


def clean() -> None:
    """Remove the state directory, and the volumes with all work in them."""
    if not STATE.exists():
        return
    with lock_state():
        end_strays()
        try:
            client: Any = docker.client()
            volumes = client.volumes(filters={"name": f"^{NAME}-"}).get("Volumes") or []
        except (HubDockError, OSError) as error:
            raise Stop(f"the Docker Engine, which holds the demo's volumes, does not answer: {error}") from error
        for volume in volumes:
            tell(f"removing the volume {volume['Name']}")
            client.remove_volume(volume["Name"])
        shutil.rmtree(STATE)


def serve() -> None:
    lock = lock_state()
    if find_strays():
        tell("stopping what an earlier demo left")
    end_strays()
    demo = None
    try:
        gateway = find_gateway()
        demo = Demo(choose_ports(gateway), gateway, choose_base())
        demo.serve_project()
        demo.start_hub()
        demo.greet()
        while True:
            time.sleep(0.5)
            demo.check()
    finally:
        for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(name, signal.SIG_IGN)
        if demo is not None:
            demo.stop()
            tell("everything that it started is stopped. Images and work are kept: the next `make demo` is quick")
        lock.close()


def main() -> int:
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, interrupt)
    try:
        clean() if sys.argv[1:] == ["--clean"] else serve()
    except Stop as stop:
        if str(stop):
            tell(str(stop))
            return 1
        return 0
    except HubDockError as error:
        tell(f"{error} {error.detail}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
