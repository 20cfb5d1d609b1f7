"""Child processes: an argv list, a minimal environment, a deadline that ends the whole process group, bounded output."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

GRACE = 2.0
MARK = "HUBDOCK_TASK"  # names the task that a process works for, so that it is found when its worker was killed
_started: weakref.WeakSet[subprocess.Popen[bytes]] = weakref.WeakSet()


class DeadlineExceeded(Exception):
    """A process ran past its deadline and was killed."""


@dataclass(frozen=True)
class Output:
    """How a process ended: its exit code, and what it printed."""

    code: int
    stdout: bytes
    stderr: bytes

    @property
    def error_text(self) -> str:
        """Standard error as text."""
        return self.stderr.decode("utf-8", "replace")


def run(
    argv: Sequence[str], *, env: Mapping[str, str], timeout: float, stdin: bytes = b"", stdout: Path | None = None, max_file: int | None = None
) -> Output:
    """Run a program to its end.

    ``timeout`` is seconds; ``stdout`` a file for what it prints, else that is returned; ``max_file`` bounds each file that it writes, in bytes.
    Raises DeadlineExceeded after the process group is gone, and FileNotFoundError if the program is not installed.
    """
    process = start(argv, env=env, stdout=stdout, max_file=max_file)
    try:
        printed, stderr = process.communicate(stdin, timeout=timeout)
    except subprocess.TimeoutExpired as error:
        end(process)
        raise DeadlineExceeded(f"{argv[0]} took more than {timeout:g} s") from error
    except BaseException:
        end(process)
        raise
    return Output(process.returncode, printed or b"", stderr)


def start(
    argv: Sequence[str], *, env: Mapping[str, str], stdout: Path | None = None, max_file: int | None = None
) -> subprocess.Popen[bytes]:
    """Start a program in a session of its own, with pipes at its ends (or a new file at its output). It carries this process's `MARK`.

    Raises FileNotFoundError if it is not installed.
    """
    env = {**env, **({MARK: os.environ[MARK]} if MARK in os.environ else {})}
    if max_file is not None:
        argv = ["/bin/sh", "-c", 'ulimit -f "$0" && exec "$@"', str(max_file // 512), *argv]
    with stdout.open("wb") if stdout else contextlib.nullcontext(subprocess.PIPE) as output:
        child = subprocess.Popen(
            list(argv), stdin=subprocess.PIPE, stdout=output, stderr=subprocess.PIPE, env=env, start_new_session=True
        )
    _started.add(child)
    return child


def kill_all() -> None:
    """Kill every program that `start` started and that runs still, whichever thread waits for it: for a process that is about to end."""
    for process in list(_started):
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def end(process: subprocess.Popen[bytes], first: int = signal.SIGTERM) -> None:
    """End a process and all that it started: ask, wait `GRACE` seconds, kill."""
    for number, patience in ((first, GRACE), (signal.SIGKILL, GRACE)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience)
            break
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            with contextlib.suppress(OSError, ValueError):
                stream.close()
