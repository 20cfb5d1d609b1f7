"""What a back-end has that uses images and volumes, and what its builder keeps: told alike by every back-end."""

from __future__ import annotations

from dataclasses import dataclass

RUNNING = frozenset({"created", "running", "paused", "restarting"})


@dataclass(frozen=True)
class Container:
    """One container of the engine, ended ones too. ``volumes`` are the named volumes it mounts."""

    name: str
    state: str
    image_id: str
    labels: dict[str, str]
    volumes: tuple[str, ...]

    @property
    def alive(self) -> bool:
        """True unless it has ended."""
        return self.state in RUNNING


@dataclass(frozen=True)
class CacheRecord:
    """One record of BuildKit's cache. ``shared``: an image holds the same layer. ``used`` is seconds since the epoch."""

    identity: str
    description: str
    size: int
    used: float
    in_use: bool
    shared: bool
    parents: tuple[str, ...]
