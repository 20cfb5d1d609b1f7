"""What a server is given when it starts, kept on disk from its launch on.

A container of Docker is given it before it starts; a pod asks the service for it once it runs, which may be minutes later (an image is pulled, a node is
started) and after a restart of the service. One record for each server of each user: its next launch takes the place of the last.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path

from hubdock.core.naming import make_hash

LIFE = 7 * 86400.0  # seconds: by then a pod has started, or never will


class Handovers:
    """The records of one state directory. Its methods block, and may be called from any thread."""

    def __init__(self, state: Path) -> None:
        self.directory = state / "handovers"
        self.directory.mkdir(mode=0o700, exist_ok=True)
        for path in self.directory.iterdir():
            if path.stat().st_mtime < time.time() - LIFE:
                path.unlink(missing_ok=True)

    def keep(self, build: str, user: str, server: str, files: Mapping[str, bytes | Path]) -> None:
        """Record what a server of a build is given: texts by value, files of the state directory by their path."""
        texts = {path: content.decode("ascii") for path, content in files.items() if isinstance(content, bytes)}
        places = {path: str(content) for path, content in files.items() if isinstance(content, Path)}
        record = {"build": build, "user": user, "server": server, "texts": texts, "places": places}
        path = self._find_path(user, server)
        work = path.with_name(f".{path.name}.{os.getpid()}.{time.monotonic_ns()}")
        work.touch(mode=0o600)
        work.write_text(json.dumps(record), encoding="ascii")
        work.replace(path)

    def find(self, build: str, user: str, server: str) -> dict[str, bytes | Path] | None:
        """Return what the latest launch of a user's server is given, None unless it was a launch of this build."""
        try:
            record = json.loads(self._find_path(user, server).read_text(encoding="ascii"))
        except FileNotFoundError:
            return None
        if (record["build"], record["user"], record["server"]) != (build, user, server):
            return None
        return {**{path: text.encode("ascii") for path, text in record["texts"].items()}, **{path: Path(place) for path, place in record["places"].items()}}

    def _find_path(self, user: str, server: str) -> Path:
        return self.directory / f"{make_hash(user, server, length=40)}.json"
