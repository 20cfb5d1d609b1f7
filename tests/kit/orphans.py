"""What a fault may leave behind: processes, containers, temporary tags, volumes, files and locks. Each function returns what there is."""

from __future__ import annotations

import contextlib
import fcntl
from pathlib import Path
from typing import Any

import psutil

from hubdock.drivers.process import MARK
from tests.kit.hub import Hub

ENDS = (".lock", ".new")
STARTS = ("tmp_", ".new-", ".result.json.", ".spec.json.")


def find_processes(state: Path) -> list[str]:
    """Return the processes that work for a state directory: workers, and what they or the service started."""
    found = []
    for process in psutil.process_iter(["pid", "cmdline", "status"]):
        with contextlib.suppress(psutil.Error):
            words = process.info["cmdline"] or []
            mark = process.environ().get(MARK, "")
            is_service = "hubdock.service" in words
            if process.info["status"] != psutil.STATUS_ZOMBIE and not is_service and (mark.startswith(str(state)) or any(w.startswith(f"{state}/tasks/") for w in words)):
                found.append(f"{process.info['pid']} {' '.join(words)[:120]}")
    return found


def find_steps(text: str) -> list[str]:
    """Return the processes of builds and containers that have a text among their words."""
    found = []
    for process in psutil.process_iter(["pid", "cmdline"]):
        if any(text in word for word in process.info["cmdline"] or ()):
            found.append(f"{process.info['pid']} {' '.join(process.info['cmdline'])[:120]}")
    return found


def find_files(state: Path) -> list[str]:
    """Return temporary files, secrets of ended tasks, git's locks, and held locks of a state directory."""
    found = []
    for path in state.rglob("*"):
        name = path.name
        if name == "netrc" or name.startswith(STARTS) or (name.endswith(ENDS) and path.stat().st_size == 0 and "git" in path.parts and name not in {"plan.lock", "history.lock"}):
            found.append(str(path.relative_to(state)))
    return found + [f"held: {path.relative_to(state)}" for path in state.glob("tasks/*/*/*/lock") if _is_held(path)]


def _is_held(path: Path) -> bool:
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def find_in_engine(engine: Any, servers: set[str]) -> list[str]:
    """Return containers other than these servers', temporary tags, and images without a name that hubdock's labels are on."""
    found = [f"container {container.name}" for container in engine.containers.list(all=True) if container.id not in servers]
    found += [f"tag {tag}" for image in engine.images.list() for tag in image.tags if tag.startswith("hubdock/source:")]
    return found + [f"image {image.id}" for image in engine.images.list(filters={"dangling": True}) if "hubdock.kind" in (image.labels or {})]


def find_orphans(hub: Hub, servers: set[str] = frozenset()) -> list[str]:  # type: ignore[assignment]
    """Return everything of a hub's that nobody waits for, given the ids of its servers' containers."""
    return [*find_processes(hub.state), *find_files(hub.state), *find_in_engine(hub.engine, servers)]
