"""A program that runs once in an image: what is told to whoever runs it, and how it ended. The same for every back-end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hubdock.core.errors import ImageGone


@dataclass(frozen=True)
class VolumeMount:
    """A named volume, or a part of one, inside a container.

    ``source`` is the directory of the engine's host that the part is, empty unless it is to be mounted from there.
    """

    volume: str
    target: str
    subpath: str = ""
    read_only: bool = False
    source: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {"volume": self.volume, "target": self.target, "subpath": self.subpath, "read_only": self.read_only, "source": self.source}


@dataclass(frozen=True)
class Job:
    """A container that runs once and is removed. ``files`` are put into it, by absolute path, before it starts."""

    image: str
    command: Sequence[str]
    entrypoint: Sequence[str] | None = None
    mounts: Sequence[VolumeMount] = ()
    files: Mapping[str, bytes] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    user: str = ""
    network: str = "none"
    memory: int | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    timeout: float = 600.0


def make_image_gone(detail: str = "") -> ImageGone:
    """Return the error for an image that was there when its start was planned."""
    return ImageGone("The image was removed a moment ago. Start again: it is made anew.", detail)


@dataclass(frozen=True)
class JobResult:
    """Its exit code (137 when it was killed), whether the kernel killed it for memory, and its last lines of output."""

    code: int
    out_of_memory: bool
    tail: tuple[str, ...]
