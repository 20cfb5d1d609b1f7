"""The data store as collection sees it: its views and their sizes, and their removal, by a program in a container that alone may write there."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hubdock.core.dockerfile import CONDA_PYTHON
from hubdock.core.errors import BackendError
from hubdock.core.lost import KEY
from hubdock.drivers.job import Job, VolumeMount
from hubdock.engine.backend import Backend
from hubdock.engine.tasks import TaskStore
from hubdock.engine.work import GUEST

LEFT_BEHIND = 24 * 3600.0  # an interrupted fetch goes on where it was, for so long
_PROGRAM = "/hubdock-sweep/sweep.py"


@dataclass(frozen=True)
class View:
    """The data of one key. ``size`` is its share of the bytes, ``made`` seconds since the epoch."""

    key: str
    size: int
    made: float


@contextmanager
def fetching(state: Path) -> Iterator[None]:
    """Hold the store for a fetch: any number at once, but none while something is removed from it."""
    with _held(state / "store.lock", fcntl.LOCK_SH):
        yield


@contextmanager
def removing(state: Path) -> Iterator[bool]:
    """Hold the store alone. Yields False, and holds nothing, while something is being fetched."""
    with _held(state / "store.lock", fcntl.LOCK_EX | fcntl.LOCK_NB) as held:
        yield held


@contextmanager
def _held(path: Path, operation: int) -> Iterator[bool]:
    """Hold a file's lock, if it can be had. The kernel drops it with the process, so none is ever left behind."""
    with path.open("a") as file:
        try:
            fcntl.flock(file, operation)
        except BlockingIOError:
            yield False
            return
        yield True


def forget_view(tasks: TaskStore, key: str) -> None:
    """Take away the proof that a data key is in the store: a server did not find it there. The next plan says that it is to be fetched."""
    latest = tasks.latest("data", key) if KEY.fullmatch(key) else None
    if latest is not None and not latest.running():
        with suppress(FileNotFoundError):
            (latest.path / "result.json").rename(latest.path / "result.removed")


def list_views(backend: Backend, image: str, volume: str) -> tuple[list[View], int]:
    """Return the views of a store's volume, and the bytes that no view holds. ``image`` is any of hubdock's, for its Python."""
    answers = _run(backend, image, volume, ["list", f"{LEFT_BEHIND:g}"])
    views = [View(answer["view"], int(answer["size"]), float(answer["made"])) for answer in answers if "view" in answer]
    return views, sum(int(answer["size"]) for answer in answers if "left" in answer)


def remove_views(backend: Backend, image: str, volume: str, keys: Sequence[str]) -> int:
    """Remove views, and what no view holds any more; return the bytes. The store must be held (`removing`)."""
    answers = _run(backend, image, volume, ["remove", f"{LEFT_BEHIND:g}", *keys])
    return sum(int(answer["freed"]) for answer in answers if answer.get("done"))


def _run(backend: Backend, image: str, volume: str, arguments: list[str]) -> list[dict[str, Any]]:
    answers: list[dict[str, Any]] = []

    def hear(line: str) -> None:
        if line.startswith("hubdock {"):
            answers.append(json.loads(line.removeprefix("hubdock ")))

    files = {_PROGRAM: (GUEST / "sweep.py").read_bytes()}
    job = Job(image, [CONDA_PYTHON, "-I", _PROGRAM, *arguments], entrypoint=[], mounts=[VolumeMount(volume, "/store")], files=files, user="0:0", timeout=3600)
    result = backend.run_job(job, hear)
    if result.code:
        raise BackendError("The data store could not be looked through. The hub's log has the details.", "\n".join(result.tail))
    return answers
