"""One solve of BuildKit, whoever runs it: what is asked of it, what it tells, and why it failed, by what it printed."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hubdock.core.errors import BuildError, BuilderUnavailable, BuildTimeout, ImageGone, OutOfMemory, OutOfSpace, RegistryUnavailable
from hubdock.core.progress import JSONStream, Solve
from hubdock.core.text import make_lines, make_tail, redact

_EXIT = re.compile(r"exit code: (\d+)")
_AWAY = re.compile(
    r"Cannot connect to the Docker daemon|error during connect|connection re(?:fused|set)|broken pipe|no such host|error reading from server|EOF|closing", re.I
)
TAIL = 40


@dataclass(frozen=True)
class BuildRequest:
    """One solve.

    ``contexts`` are named directories beside the main context, ``secrets`` texts by id, ``args`` BuildKit's predefined arguments (proxies),
    ``past`` seconds by step name of an earlier build, ``timeout`` seconds. ``scope`` names whose caches it may share, ``variant`` in which way it makes what
    its tag names, if there are several, and ``onward`` the exit codes after which another way is tried: where builds are shared by name, they are told apart by it.
    """

    tag: str
    contexts: Mapping[str, Path] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    args: Mapping[str, str] = field(default_factory=dict)
    past: Mapping[str, float] = field(default_factory=dict)
    timeout: float = 3600.0
    pull: bool = False
    scope: str = "public"
    variant: str = ""
    onward: frozenset[int] = frozenset()


@dataclass(frozen=True)
class StepFailed(Exception):
    """A step of the Dockerfile ended with an exit code of its own. ``tail`` are its last lines."""

    step: str
    exit_code: int
    tail: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.step}: exit code {self.exit_code}"


class Cancelled(Exception):
    """The solve was interrupted on request."""


Listener = Callable[[str, str, float], None]
"""Called with ("step", "done", "failed", "log" or "phase", text, percent so far). The text is a step's name, a line of output, or a phase and what to say of it."""


@dataclass(frozen=True)
class BuilderWords:
    """How a builder is called: ``place`` has the disk, ``away`` is what to say when it does not answer, ``gone`` finds in its words that an image of hubdock's
    own is not there."""

    place: str
    away: str
    gone: re.Pattern[str]


class SolveOutput:
    """Takes in what BuildKit prints (``--progress rawjson``), and tells it on."""

    def __init__(self, past: Mapping[str, float], listen: Listener, words: BuilderWords) -> None:
        self.solve = Solve(past)
        self._listen, self._words = listen, words
        self._stream = JSONStream()
        self._other: deque[str] = deque(maxlen=10 * TAIL)
        self._tail: deque[str] = deque(maxlen=TAIL)

    def feed(self, chunk: bytes) -> None:
        """Take more of it."""
        for item in self._stream.feed(chunk):
            if isinstance(item, str):
                self._other.append(item)
                continue
            for kind, text in self.solve.feed(item):
                self._tell(kind, text)

    def close(self) -> None:
        """There is no more of it."""
        self._other.append(self._stream.close())

    def _tell(self, kind: str, text: str) -> None:
        if kind == "error":
            return
        for line in make_lines(redact(text)):
            if line.strip():
                if kind == "log":
                    self._tail.append(line)
                self._listen(kind, line, self.solve.percent)

    @property
    def detail(self) -> str:
        """The end of what is no output of a step, for the hub's log."""
        failed = self.solve.failed
        return redact("\n".join(line for line in [failed.error if failed else "", *self._other] if line))[-2000:]

    def make_timeout(self, seconds: float) -> BuildTimeout:
        """Return the error for a solve that took too long."""
        return BuildTimeout(f"The build took more than {seconds / 60:g} minutes, this hub's limit (HubDock.build_timeout).", self.detail)

    def make_error(self) -> Exception:
        """Return the error that a solve ended with: StepFailed for a step's own failure, else one of hubdock's."""
        failed = self.solve.failed
        text = "\n".join([failed.error if failed else "", *self._other, *self._tail])
        if re.search(r"no space left on device|disk quota exceeded", text, re.I):
            return OutOfSpace.on(self._words.place, self.detail)
        code = _EXIT.search(failed.error) if failed else None
        if failed and code and code[1] == "137":
            return OutOfMemory(f"The step “{failed.name[:100]}” was killed: it took more memory than the build machine has.", self.detail)
        if failed and code:
            return StepFailed(failed.name, int(code[1]), tuple(make_tail(redact(failed.output), TAIL).split("\n")))
        if self._words.gone.search(text):
            return ImageGone("An image that this build starts from was removed a moment ago. Start again: it is made anew.", self.detail)
        if re.search(r"failed to resolve source metadata|failed to authorize|pull access denied|registry|docker\.io", text):
            return RegistryUnavailable("An image that this build starts from is not here and could not be pulled. `hubdock doctor` says more.", self.detail)
        if _AWAY.search(text):
            return BuilderUnavailable(self._words.away, self.detail)
        return BuildError("The build failed before any step ran. The log says why.", self.detail)
