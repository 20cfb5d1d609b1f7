"""BuildKit through ``docker buildx``: one solve, its context on stdin, its progress as events.

docker-py has no BuildKit (https://github.com/docker/docker-py/issues/2230). The default builder is the engine's own, so that what is built is at
once an image of the engine.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from hubdock.core.errors import BuildError, BuilderUnavailable, BuildTimeout, ImageGone, OutOfMemory, OutOfSpace, RegistryUnavailable
from hubdock.core.progress import JSONStream, Solve
from hubdock.core.text import make_lines, make_tail, redact
from hubdock.drivers import process

_PASSED = ("PATH", "HOME", "DOCKER_HOST", "DOCKER_CONFIG", "DOCKER_CERT_PATH", "DOCKER_TLS_VERIFY", "XDG_RUNTIME_DIR")
_SECRET = "HUBDOCK_SECRET_"
_EXIT = re.compile(r"exit code: (\d+)")
# What BuildKit says of a tag of hubdock's own that the engine does not have: it looks for it in a registry.
_OWN = re.compile(r"docker\.io/hubdock/(base|environment|source):")
TAIL = 40


@dataclass(frozen=True)
class BuildRequest:
    """One solve.

    ``contexts`` are named directories beside the main context, ``secrets`` texts by id, ``args`` BuildKit's predefined arguments (proxies),
    ``past`` seconds by step name of an earlier build, ``timeout`` seconds.
    """

    tag: str
    contexts: Mapping[str, Path] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    args: Mapping[str, str] = field(default_factory=dict)
    past: Mapping[str, float] = field(default_factory=dict)
    timeout: float = 3600.0
    pull: bool = False


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
"""Called with ("step", "done", "failed" or "log", text, percent so far). The text is a step's name, or a line of output."""


class Solver:
    """Runs one solve; `cancel` may be called from a signal handler or another thread."""

    def __init__(self, request: BuildRequest, listen: Listener) -> None:
        self.request = request
        self.listen = listen
        self.solve = Solve(request.past)
        self._cancelled = False
        self._expired = False
        self._child: subprocess.Popen[bytes] | None = None
        self._tail: deque[str] = deque(maxlen=TAIL)

    def run(self, write_context: Callable[[IO[bytes]], None]) -> dict[str, float]:
        """Send the context, wait, and return seconds by step.

        Raises StepFailed for a step's own failure, Cancelled, BuildTimeout, OutOfSpace, OutOfMemory, RegistryUnavailable, BuilderUnavailable,
        and whatever ``write_context`` raised.
        """
        with self._started() as child:
            sender = _Sender(child, write_context)
            sender.start()
            timer = threading.Timer(self.request.timeout, self._expire)
            timer.start()
            try:
                rest = self._read(child)
                code = child.wait()
            finally:
                timer.cancel()
            sender.join(5)
        if sender.error is not None and not isinstance(sender.error, BrokenPipeError):
            raise sender.error
        if code:
            raise self._make_error(rest)
        return self.solve.durations

    @contextmanager
    def _started(self) -> Iterator[subprocess.Popen[bytes]]:
        try:
            self._child = process.start(self._make_argv(), env=self._make_env(), stdout=Path(os.devnull))
        except FileNotFoundError as error:
            raise BuilderUnavailable("The docker command is not installed where hubdock runs. `hubdock doctor` says how to mend it.") from error
        try:
            if self._cancelled:
                raise Cancelled
            yield self._child
        finally:
            process.end(self._child, signal.SIGINT)

    def _make_argv(self) -> list[str]:
        request = self.request
        argv = ["docker", "buildx", "build", "--builder", "default", "--progress", "rawjson", "--provenance=false", "--tag", request.tag]
        argv += [f"--build-context={name}={path}" for name, path in sorted(request.contexts.items())]
        argv += [f"--secret=id={name},env={_SECRET}{name}" for name in sorted(request.secrets)]  # a file would outlive a worker that is killed
        argv += [f"--build-arg={name}" for name in sorted(request.args)]  # the value comes from the environment, not from the process list
        return [*argv, *(["--pull"] if request.pull else []), "-"]

    def _make_env(self) -> dict[str, str]:
        env = {name: os.environ[name] for name in _PASSED if name in os.environ}
        env |= {f"{_SECRET}{name}": text for name, text in self.request.secrets.items()}
        return env | dict(self.request.args) | {"SOURCE_DATE_EPOCH": "0", "BUILDX_NO_DEFAULT_ATTESTATIONS": "1", "LC_ALL": "C.UTF-8"}

    def _read(self, child: subprocess.Popen[bytes]) -> list[str]:
        stream, other = JSONStream(), []
        assert child.stderr
        while chunk := os.read(child.stderr.fileno(), 1 << 16):
            for item in stream.feed(chunk):
                if isinstance(item, str):
                    other.append(item)
                    continue
                for kind, text in self.solve.feed(item):
                    self._tell(kind, text)
        return [*other, stream.close()]

    def _tell(self, kind: str, text: str) -> None:
        if kind == "error":
            return
        for line in make_lines(redact(text)):
            if line.strip():
                if kind == "log":
                    self._tail.append(line)
                self.listen(kind, line, self.solve.percent)

    def cancel(self) -> None:
        """Interrupt the solve. BuildKit lets go of its steps at once."""
        self._cancelled = True
        if self._child is not None and self._child.poll() is None:
            os.killpg(self._child.pid, signal.SIGINT)

    def _expire(self) -> None:
        self._expired = True
        self.cancel()

    def _make_error(self, rest: list[str]) -> Exception:
        failed = self.solve.failed
        text = "\n".join([failed.error if failed else "", *rest, *self._tail])
        detail = redact("\n".join(line for line in [failed.error if failed else "", *rest] if line))[-2000:]
        if self._expired:
            return BuildTimeout(f"The build took more than {self.request.timeout / 60:g} minutes, this hub's limit (HubDock.build_timeout).", detail)
        if self._cancelled:
            return Cancelled()
        if re.search(r"no space left on device|disk quota exceeded", text, re.I):
            return OutOfSpace.on("the Docker host", detail)
        code = _EXIT.search(failed.error) if failed else None
        if failed and code and code[1] == "137":
            return OutOfMemory(f"The step “{failed.name[:100]}” was killed: it took more memory than the build machine has.", detail)
        if failed and code:
            return StepFailed(failed.name, int(code[1]), tuple(make_tail(redact(failed.output), TAIL).split("\n")))
        if _OWN.search(text):
            return ImageGone("An image that this build starts from was removed a moment ago. Start again: it is made anew.", detail)
        if re.search(r"failed to resolve source metadata|failed to authorize|pull access denied|registry|docker\.io", text):
            return RegistryUnavailable("An image that this build starts from is not here and could not be pulled. `hubdock doctor` says more.", detail)
        if re.search(r"Cannot connect to the Docker daemon|error during connect|connection re(?:fused|set)|broken pipe|no such host|error reading from server|EOF|closing", text, re.I):
            return BuilderUnavailable("The Docker Engine does not answer. Running servers are not affected; try again in a moment.", detail)
        return BuildError("The build failed before any step ran. The log says why.", detail)


class _Sender(threading.Thread):
    """Writes the context into the child's stdin, and keeps what went wrong."""

    def __init__(self, child: subprocess.Popen[bytes], write: Callable[[IO[bytes]], None]) -> None:
        super().__init__(daemon=True)
        self._child = child
        self._write = write
        self.error: BaseException | None = None

    def run(self) -> None:
        assert self._child.stdin
        try:
            self._write(self._child.stdin)
            self._child.stdin.close()
        except BaseException as error:  # it must reach the thread that waits
            self.error = error
            if not isinstance(error, BrokenPipeError):
                os.killpg(self._child.pid, signal.SIGINT)
