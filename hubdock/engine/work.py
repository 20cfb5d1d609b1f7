"""What every step of a worker has at hand: its spec, its log, and the order to stop."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import IO, Any

from hubdock.core.errors import BuildCancelled
from hubdock.core.events import Event, Kind, Phase
from hubdock.core.progress import name_step
from hubdock.core.repo import parse_repo_url
from hubdock.core.text import make_plain
from hubdock.drivers.git import Credential, Remote
from hubdock.drivers.secrets import read_secret
from hubdock.drivers.solve import BuildRequest, Cancelled
from hubdock.engine.backend import DOCKER, Backend, open_backend
from hubdock.engine.tasks import Reporter

GUEST = Path(__file__).parent.parent / "guest"
_PROGRESS_EVERY = 0.2
MAX_LOG = 64 * 1024 * 1024
_STEP_PHASES = {"step": Phase.BUILDING, "done": Phase.READY, "failed": Phase.FAILED}


@dataclass
class Work:
    """One task at work. ``steps`` collects seconds by step, ``data`` what the result tells."""

    spec: dict[str, Any]
    reporter: Reporter
    stop: threading.Event = field(default_factory=threading.Event)
    steps: dict[str, float] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    on_stop: Callable[[], None] = lambda: None
    _told: float = 0.0
    _written: int = 0

    @cached_property
    def backend(self) -> Backend:
        """Where it works."""
        return open_backend(self.spec.get("backend", DOCKER))

    @property
    def part(self) -> str:
        """The kind of task, as events name it."""
        return str(self.spec["kind"])

    def phase(self, phase: Phase, message: str = "") -> None:
        """Tell that a phase begins."""
        self.check()
        self.reporter.write(Event(Kind.PHASE, time.time(), self.part, phase, make_plain(message)))

    def log(self, line: str) -> None:
        """Tell a line of output. A flood is cut: the disk is shared."""
        self._written += len(line) + 80
        if self._written <= MAX_LOG:
            self.reporter.write(Event(Kind.LOG, time.time(), self.part, message=make_plain(line)))
        elif self._written - len(line) - 80 <= MAX_LOG:
            self.reporter.write(Event(Kind.LOG, time.time(), self.part, message="… the log is longer than 64 MiB; the rest is left out"))

    def notice(self, message: str) -> None:
        """Tell something that the user should know."""
        self.reporter.write(Event(Kind.NOTICE, time.time(), self.part, message=make_plain(message)))

    def progress(self, percent: float, message: str = "") -> None:
        """Tell how far it is, at most five times a second."""
        now = time.monotonic()
        if message or now - self._told >= _PROGRESS_EVERY:
            self._told = now
            self.reporter.write(Event(Kind.PROGRESS, time.time(), self.part, message=make_plain(message, 200), percent=round(min(percent, 99.0), 1)))

    def check(self) -> None:
        """Raise BuildCancelled once the worker was told to stop."""
        if self.stop.is_set():
            raise BuildCancelled("The build was cancelled.")

    def solve(self, request: BuildRequest, write_context: Callable[[IO[bytes]], None], hear: Callable[[str], None] | None = None) -> None:
        """Run one solve with its log here, or its steps' lines told to ``hear``. Raises what `Solver.run` raises, BuildCancelled instead of Cancelled."""
        self.check()

        def listen(kind: str, text: str, percent: float) -> None:
            if hear is not None and kind == "log":
                hear(text)
            else:
                self._listen(kind, text, percent)

        solver = self.backend.make_solver(request, listen)
        self.on_stop = solver.cancel
        try:
            self.steps |= solver.run(write_context)
        except Cancelled as error:
            raise BuildCancelled("The build was cancelled.") from error
        finally:
            self.on_stop = lambda: None

    def step(self, name: str, phase: Phase) -> None:
        """Tell that a step begins or ends, if anybody waits for it."""
        if name:
            self.reporter.write(Event(Kind.STEP, time.time(), self.part, phase, name))

    def _listen(self, kind: str, text: str, percent: float) -> None:
        if kind in _STEP_PHASES:
            self.step(name_step(text), _STEP_PHASES[kind])
        if kind == "phase":
            phase, _, message = text.partition(" ")
            self.phase(Phase(phase), message)
        elif kind == "step":
            self.log(f"▸ {text}")
            self.progress(percent, text)
        elif kind == "log":
            self.log(text)
            self.progress(percent)


def make_remote(values: Mapping[str, Any]) -> Remote:
    """Return the remote of a spec. Its credential is read from its file here, and never written anywhere."""
    credential = values.get("credential")
    if credential:
        password = read_secret(credential["password_file"]) if credential.get("password_file") else ""
        credential = Credential(credential["origin"], credential.get("username", ""), password, credential.get("key_file", ""))
    return Remote(parse_repo_url(values["url"]), values["timeout"], credential or None, values["trusted"], values["proxies"], values["certificates"])
