"""Tasks: the work on one key, each in a detached process of its own.

A task's directory is ``tasks/KIND/KEY/N`` (N: the attempt) with ``spec.json`` (what to do), ``events.jsonl`` (the log), ``result.json`` (written
last, whole) and ``lock``. The worker holds an flock on ``lock`` from before it starts until the kernel takes it away: that is the proof of life,
and it can't be left behind. So any number of processes (service, CLI) may ask for one key and share one worker, and a service that starts
again finds the workers of the one before.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from hubdock.core.errors import BackendError, BuildError, HubDockError, from_dict
from hubdock.core.events import Event, Phase, parse_event
from hubdock.drivers import space
from hubdock.drivers.mirror import locked
from hubdock.drivers.process import MARK
from hubdock.engine.backend import DOCKER, open_backend

RESERVE, RESERVED = "reserve", 64 * 1024
_workers: list[subprocess.Popen[bytes]] = []


@dataclass(frozen=True)
class Result:
    """How a task ended. ``steps`` are seconds by step, ``data`` what the kind of task tells. Times are seconds since the epoch.

    ``interrupted``: its worker died without a word, and may have left something running.
    """

    status: Phase
    started: float
    finished: float
    error: HubDockError | None = None
    steps: dict[str, float] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    interrupted: bool = False


@dataclass(frozen=True)
class Attempt:
    """One attempt at a task."""

    kind: str
    key: str
    path: Path

    @property
    def identity(self) -> str:
        """A name for the database and the logs."""
        return f"{self.kind}-{self.key}-{self.path.name}"

    @property
    def events_path(self) -> Path:
        """The log: one event a line."""
        return self.path / "events.jsonl"

    def running(self) -> bool:
        """True while a worker holds this attempt."""
        try:
            with (self.path / "lock").open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return False
        except BlockingIOError:
            return True
        except FileNotFoundError:
            return False

    @property
    def elapsed(self) -> float:
        """Seconds since it was made."""
        try:
            return max(0.0, time.time() - (self.path / "spec.json").stat().st_mtime)
        except FileNotFoundError:
            return 0.0

    def result(self) -> Result | None:
        """Return how it ended; None while it runs. A worker that died without a word is a failure that another attempt may mend."""
        result = self._read_result()
        if result is not None or self.running():
            return result
        return self._read_result() or Result(
            Phase.FAILED, 0.0, 0.0, BuildError("The build was interrupted. Start again: finished steps are not done twice.", self._last_words()), interrupted=True
        )

    def _last_words(self) -> str:
        """Return the end of what a dead worker wrote for the hub's log."""
        try:
            return (self.path / "worker.log").read_text(encoding="utf-8", errors="replace")[-1000:]
        except FileNotFoundError:
            return "the worker left no log"

    def _read_result(self) -> Result | None:
        try:
            values = json.loads((self.path / "result.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        error = from_dict(values["error"]) if values.get("error") else None
        return Result(Phase(values["status"]), values["started"], values["finished"], error, values.get("steps", {}), values.get("data", {}))

    def spec(self) -> dict[str, Any]:
        """Return what the worker was told."""
        values: dict[str, Any] = json.loads((self.path / "spec.json").read_text(encoding="utf-8"))
        return values

    def open_pid(self) -> int | None:
        """Return a pidfd of the running worker, which becomes readable when it ends; None if it has ended. The caller closes it."""
        try:
            pid = int((self.path / "pid").read_text())
            descriptor = os.pidfd_open(pid)
        except (FileNotFoundError, ValueError, ProcessLookupError):
            return None
        if self.running():
            return descriptor
        os.close(descriptor)
        return None

    def hold(self) -> IO[bytes]:
        """Say that this process waits for the attempt until it closes what is returned, or dies."""
        file = (self.path / "waiters").open("ab")
        fcntl.flock(file, fcntl.LOCK_SH)
        return file

    def cancel(self) -> bool:
        """Ask the worker to stop: it ends its solve or container, writes a result, and leaves. Return False if somebody still holds the attempt."""
        with (self.path / "waiters").open("ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            descriptor = self.open_pid()
            if descriptor is not None:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(descriptor, signal.SIGTERM)
                os.close(descriptor)
        return True

    def read_events(self, offset: int = 0) -> Iterator[tuple[int, Event]]:
        """Yield (offset after it, event) for each whole line from a byte offset on."""
        try:
            with self.events_path.open("rb") as file:
                file.seek(offset)
                for line in file:
                    if not line.endswith(b"\n"):
                        return
                    offset += len(line)
                    with contextlib.suppress(ValueError, KeyError):
                        yield offset, parse_event(line)
        except FileNotFoundError:
            return

    def tail_offset(self, size: int) -> int:
        """Return the offset of the first whole line in the last ``size`` bytes of the log."""
        return self.find_line(self.events_path.stat().st_size - size) if self.events_path.exists() else 0

    def find_line(self, offset: int) -> int:
        """Return the offset of the first line of the log that begins at an offset or after it."""
        if offset <= 0:
            return 0
        with self.events_path.open("rb") as file:
            file.seek(offset - 1)
            return offset - 1 + len(file.readline())


class TaskStore:
    """All tasks of one state directory."""

    def __init__(self, state: Path) -> None:
        self.root = state / "tasks"

    def _directory(self, kind: str, key: str) -> Path:
        return self.root / kind / key

    def latest(self, kind: str, key: str) -> Attempt | None:
        """Return the newest attempt at a key, or None."""
        numbers = [int(path.name) for path in self._directory(kind, key).glob("[0-9]*") if path.name.isdigit()]
        return Attempt(kind, key, self._directory(kind, key) / str(max(numbers))) if numbers else None

    def find(self, kind: str, key: str, number: str) -> Attempt | None:
        """Return one attempt, or None."""
        path = self._directory(kind, key) / number
        return Attempt(kind, key, path) if number.isdigit() and path.is_dir() else None

    def start(self, kind: str, key: str, spec: dict[str, Any]) -> Attempt:
        """Return a running attempt at a key: the one that runs already, or a new one.

        Raises BackendError if no worker can be started, OutOfSpace.
        """
        directory = self._directory(kind, key)
        with space.noticed(), locked(directory / "starting"):
            latest = self.latest(kind, key)
            known = latest._read_result() if latest is not None else None
            if latest is not None and latest.running() and (known is None or known.error is None):
                return latest  # one that has failed holds its lock for a moment more, and is no attempt to join
            if latest is not None and (known is None or known.error is not None):
                end_strays(latest.path)
            number = int(latest.path.name) + 1 if latest else 1
            attempt = Attempt(kind, key, directory / str(number))
            attempt.path.mkdir(mode=0o700)
            write_whole(attempt.path / "spec.json", json.dumps({**spec, "kind": kind, "key": key}))
            (attempt.path / RESERVE).write_bytes(b" " * RESERVED)
            _spawn(attempt)
            return attempt


def _spawn(attempt: Attempt) -> None:
    """Start the worker with the attempt's lock in its hands."""
    with (attempt.path / "lock").open("ab") as lock, (attempt.path / "worker.log").open("ab") as log:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            worker = subprocess.Popen(
                [sys.executable, "-m", "hubdock.engine.worker", str(attempt.path)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=[lock.fileno()], start_new_session=True,
                env={**os.environ, MARK: str(attempt.path)}, cwd="/",
            )  # fmt: skip
        except OSError as error:
            raise BackendError("A build could not be started on the hub's machine. Try again in a moment.", str(error)) from error
        _workers.append(worker)
        write_whole(attempt.path / "pid", str(worker.pid))
    reap()


def reap() -> None:
    """Collect this process's workers that have ended, and theirs alone: other threads wait for children of their own."""
    _workers[:] = [worker for worker in _workers if worker.poll() is None]


def end_strays(path: Path) -> int:
    """End what a dead worker left: its commands, found by the mark in their environment, its containers, its secrets. Return how many commands."""
    count = _kill_marked(path)
    for left in (path / "netrc", path / RESERVE):
        left.unlink(missing_ok=True)
    with contextlib.suppress(BackendError, OSError, ValueError):  # an engine that does not answer now is cleaned before the next attempt
        open_backend(json.loads((path / "spec.json").read_text(encoding="utf-8")).get("backend", DOCKER)).remove_jobs(str(path))
    return count


def _kill_marked(path: Path) -> int:
    mark, count = f"{MARK}={path}".encode(), 0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            marked = mark in (process / "environ").read_bytes().split(b"\0")
            if marked and int(process.name) != os.getpid():
                os.kill(int(process.name), signal.SIGKILL)
                count += 1
        except (OSError, ValueError):
            continue
    return count


def write_whole(path: Path, text: str) -> None:
    """Write a file so that it is there whole or not at all, whatever happens to the machine."""
    work = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with work.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        work.replace(path)
    except OSError:
        work.unlink(missing_ok=True)
        raise


class Reporter:
    """The worker's end: writes events, and the result at last."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.started = time.time()
        self._file = (path / "events.jsonl").open("ab", buffering=0)

    def write(self, event: Event) -> None:
        """Append one event."""
        self._file.write(event.as_line().encode("utf-8", "replace"))

    def release(self) -> None:
        """Give back the room that is kept for the end: on a disk that is full the result must still be written."""
        (self.path / RESERVE).unlink(missing_ok=True)

    def finish(self, status: Phase, error: HubDockError | None = None, steps: dict[str, float] | None = None, data: dict[str, Any] | None = None) -> None:
        """Write the result."""
        self.release()
        values = {
            "status": str(status), "started": self.started, "finished": time.time(), "error": error.as_dict() if error else None,
            "steps": steps or {}, "data": data or {},
        }  # fmt: skip
        write_whole(self.path / "result.json", json.dumps(values))
