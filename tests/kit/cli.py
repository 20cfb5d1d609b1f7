"""The command ``hubdock``, run as a user runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import docker

HUBDOCK = str(Path(sys.executable).with_name("hubdock"))


@dataclass
class CLI:
    """``hubdock`` with a configuration of its own. ``prefix`` begins the names of its containers and volumes."""

    config: Path
    engine: docker.DockerClient
    prefix: str
    env: dict[str, str] = field(default_factory=lambda: {**os.environ, "COLUMNS": "120"})

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        env = {**self.env, "HUBDOCK_CONFIG": str(self.config)}
        return subprocess.Popen([HUBDOCK, *arguments], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def __call__(self, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        environ = {**self.env, "HUBDOCK_CONFIG": str(self.config), **env}
        return subprocess.run([HUBDOCK, *arguments], env=environ, capture_output=True, text=True, timeout=120)

    def read(self, *arguments: str) -> Any:
        """Return the JSON that a command prints. It must end well."""
        done = self(*arguments, "--json")
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)

    def list_containers(self) -> list[str]:
        return [container.name for container in self.engine.containers.list(all=True, filters={"name": self.prefix})]

    def list_volumes(self) -> list[str]:
        return [volume.name for volume in self.engine.volumes.list(filters={"name": self.prefix})]

    def clean(self) -> None:
        """Remove what it made on the engine: containers, volumes, images of keys in its state."""
        for name in self.list_containers():
            self.engine.containers.get(name).remove(force=True, v=True)
        for name in self.list_volumes():
            self.engine.volumes.get(name).remove(force=True)
        for kind in ("image", "environment"):
            for key in (self.config.parent / "state" / "tasks" / kind).glob("*"):
                if self.engine.images.list(f"hubdock/{kind}:{key.name}"):
                    self.engine.images.remove(f"hubdock/{kind}:{key.name}", force=True)


def read_until(process: subprocess.Popen[str], mark: str) -> str:
    """Return what a command prints up to the line that holds a mark."""
    assert process.stdout
    shown = ""
    for line in process.stdout:
        shown += line
        if mark in line:
            return shown
    raise AssertionError(shown + process.communicate()[1])
