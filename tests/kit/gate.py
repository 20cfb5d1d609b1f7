"""A package whose build waits at a gate until the test opens it: builds that last for as long as a test wants, and not longer."""

from __future__ import annotations

import json
import uuid

from config.demo.server import Server
from tests.kit.kubebuild import wait_until
from tests.kit.repos import Project, make_own_backend

_BACKEND = """
import os, time, urllib.request, zipfile

def is_open():
    try:
        return urllib.request.build_opener(urllib.request.ProxyHandler({})).open(ADDRESS, timeout=5).status == 200
    except OSError:  # it is not there yet, or the server has no time
        return False

def build_wheel(directory, settings=None, metadata=None):
    while not is_open():
        time.sleep(0.2)
    act()
    name = "gate-1-py3-none-any.whl"
    with zipfile.ZipFile(os.path.join(directory, name), "w") as wheel:
        wheel.writestr("gate.py", "")
        wheel.writestr("gate-1.dist-info/METADATA", "Metadata-Version: 2.1\\nName: gate\\nVersion: 1\\n")
        wheel.writestr("gate-1.dist-info/WHEEL", "Wheel-Version: 1.0\\nGenerator: gate\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr("gate-1.dist-info/RECORD", "")
    return name
"""


class Gate:
    """One gate, and the requirement that waits at it; its environment is one that nobody has made before."""

    def __init__(self, server: Server) -> None:
        self.server, self.path = server, f"/dvc/gates/{uuid.uuid4().hex}"

    def put_into(self, project: Project, branch: str | None = None, act: str = "None") -> None:
        """Commit a branch whose build waits here, and then does what an expression says."""
        begin = f"ADDRESS = {json.dumps(self.server.url + self.path)}\nact = lambda: {act}\n"
        files = {"gate/pyproject.toml": make_own_backend("gate"), "gate/backend.py": begin + _BACKEND, "requirements.txt": "./gate\n"}
        project.write_all(files).commit("a gate", branch=branch)

    @property
    def knocks(self) -> int:
        """How often a build has asked so far."""
        return self.server.requests.count(("GET", self.path))

    def wait_for_knock(self, after: int = 0, seconds: float = 180) -> int:
        """Wait until a build stands here, and has asked more often than ``after``. Return how often it has."""
        wait_until(lambda: self.knocks > after, seconds)
        return self.knocks

    def open(self) -> None:
        """Let builds through, now and later."""
        path = self.server.root / self.path.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
