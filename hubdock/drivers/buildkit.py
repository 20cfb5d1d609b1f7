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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from hubdock.core.errors import BuilderUnavailable
from hubdock.drivers import process
from hubdock.drivers.solve import BuilderWords, BuildRequest, Cancelled, Listener, SolveOutput

_PASSED = ("PATH", "HOME", "DOCKER_HOST", "DOCKER_CONFIG", "DOCKER_CERT_PATH", "DOCKER_TLS_VERIFY", "XDG_RUNTIME_DIR")
_SECRET = "HUBDOCK_SECRET_"
_DOCKER = BuilderWords(
    "the Docker host", "The Docker Engine does not answer. Running servers are not affected; try again in a moment.",
    # What BuildKit says of a tag of hubdock's own that the engine does not have: it looks for it in a registry.
    re.compile(r"docker\.io/hubdock/(base|environment|source):"),
)  # fmt: skip


class Solver:
    """Runs one solve; `cancel` may be called from a signal handler or another thread."""

    def __init__(self, request: BuildRequest, listen: Listener) -> None:
        self.request = request
        self.output = SolveOutput(request.past, listen, _DOCKER)
        self._cancelled = False
        self._expired = False
        self._child: subprocess.Popen[bytes] | None = None

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
                self._read(child)
                code = child.wait()
            finally:
                timer.cancel()
            sender.join(5)
        if sender.error is not None and not isinstance(sender.error, BrokenPipeError):
            raise sender.error
        if code:
            raise self._make_error()
        return self.output.solve.durations

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

    def _read(self, child: subprocess.Popen[bytes]) -> None:
        assert child.stderr
        while chunk := os.read(child.stderr.fileno(), 1 << 16):
            self.output.feed(chunk)
        self.output.close()

    def cancel(self) -> None:
        """Interrupt the solve. BuildKit lets go of its steps at once."""
        self._cancelled = True
        if self._child is not None and self._child.poll() is None:
            os.killpg(self._child.pid, signal.SIGINT)

    def _expire(self) -> None:
        self._expired = True
        self.cancel()

    def _make_error(self) -> Exception:
        if self._expired:
            return self.output.make_timeout(self.request.timeout)
        return Cancelled() if self._cancelled else self.output.make_error()


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
