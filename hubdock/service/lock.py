"""One service for each state directory.

A hub-managed service is stopped with its hub, but after ``kill -9`` of the hub it lives on and holds the port. The next one takes its place: builds
are processes of their own, and are adopted.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import signal
import time
from pathlib import Path
from typing import IO

from hubdock.core.errors import ConfigError

log = logging.getLogger("hubdock")
PATIENCE = 5.0


def start_time(pid: int) -> str:
    """Return when a process started, in the kernel's ticks, empty if it is gone: a pid alone may be somebody else's by now."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (FileNotFoundError, ProcessLookupError, IndexError):
        return ""


def take(state: Path, patience: float = PATIENCE) -> IO[str]:
    """Return the held lock's file, which must stay open. An orphan that holds it is ended first.

    Raises ConfigError if the service of another living hub holds it.
    """
    file = (state / "service.lock").open("a+")
    deadline = time.monotonic() + patience
    ended = False
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            holder = _read_holder(file)
            if not ended:
                _end_orphan(holder, state)
                ended = True
            if time.monotonic() > deadline:
                _signal(holder, signal.SIGKILL)
            time.sleep(0.02)
    parent = os.getppid()
    file.seek(0)
    file.truncate()
    json.dump({"pid": os.getpid(), "start": start_time(os.getpid()), "hub": parent, "hub_start": start_time(parent)}, file)
    file.flush()
    return file


def _read_holder(file: IO[str]) -> dict[str, str | int]:
    file.seek(0)
    try:
        values = json.load(file)
    except ValueError:  # it is being written
        return {}
    return values if isinstance(values, dict) else {}


def _end_orphan(holder: dict[str, str | int], state: Path) -> None:
    hub = int(holder.get("hub", 0))
    alive = bool(hub) and start_time(hub) == holder.get("hub_start") and hub not in {1, os.getppid()}
    if alive:
        raise ConfigError(f"Another hub (process {hub}) uses the state directory {state}. Give each hub its own HubDock.state_dir.")
    log.warning("taking the place of an earlier service (process %s), whose hub is gone", holder.get("pid"))
    _signal(holder, signal.SIGTERM)


def _signal(holder: dict[str, str | int], number: int) -> None:
    pid = int(holder.get("pid", 0))
    if pid and start_time(pid) == holder.get("start"):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
