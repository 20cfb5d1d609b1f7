"""Where images, volumes and one-off programs live: a Docker Engine, or a cluster with its registry.

The planner, the steps of a worker and the launch ask a `Backend` and nothing else, so that keys, plans and steps are the same wherever they run. What a
back-end must say:

- **images**, by the local name of their key (`hubdock.core.naming.make_tag`, ``hubdock/KIND:KEY``) or by a reference of the admin's: whether one is there,
  and its labels, settings and layers (`inspect_image`); by which name a Dockerfile starts from it (`name_image`);
- **making them**: one solve of BuildKit (`make_solver`), once for a name however many ask; code on an environment without one, where it can
  (`append_image`);
- **volumes**, by name, with the time at which they were made: it tells a volume from another of that name made later;
- **programs that run once** in an image (`run_job`): the probe of a base, the fetch of data.

"Not there" is an answer; a back-end that does not answer raises BackendError, and that never means "not there". A back-end is opened from JSON
(`open_backend`): a worker is a process of its own, and imports no more than its back-end needs.
"""

from __future__ import annotations

import json
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from functools import lru_cache
from typing import IO, TYPE_CHECKING, Any, Protocol

from hubdock.core.naming import make_tag
from hubdock.drivers.job import Job, JobResult, VolumeMount
from hubdock.drivers.solve import BuildRequest, Listener

if TYPE_CHECKING:
    from hubdock.core.tree import Tree
    from hubdock.drivers.append import Appended
    from hubdock.drivers.mirror import Mirror
    from hubdock.drivers.stock import CacheRecord, Container
    from hubdock.engine.tasks import TaskStore

DOCKER: Mapping[str, Any] = {"name": "docker"}


class Solving(Protocol):
    """One solve, as `hubdock.drivers.buildkit.Solver` does it."""

    def run(self, write_context: Callable[[IO[bytes]], None]) -> dict[str, float]:
        """Make the image from the Dockerfile and files of a context, wait, and return seconds by step. Raises what `Solver.run` raises."""

    def cancel(self) -> None:
        """End it, from any thread: `run` raises Cancelled."""


class Backend(ABC):
    """One place. Its methods block, and may be called from any thread."""

    place: str
    """What it is called in messages, with its article and at the beginning of a sentence."""

    tries_apart = False
    """True where an environment is tried by a program that runs in it, before it gets its name, and not by a stage of its solve."""

    @abstractmethod
    def list_checks(self) -> Mapping[str, Callable[[], object]]:
        """Return by name what asks each thing that it stands on for a sign of life: it raises BackendError where there is none."""

    # --- images ---

    @abstractmethod
    def inspect_image(self, reference: str) -> dict[str, Any] | None:
        """Return an image in the form of ``docker image inspect``: ``Id`` (what a launcher is given), ``Config`` and ``RootFS``; None if it is not there."""

    @abstractmethod
    def pull_image(self, reference: str, listen: Callable[[str], None]) -> None:
        """Bring a reference of the admin's here that `inspect_image` does not find. Raises RegistryUnavailable, which names it."""

    @abstractmethod
    def tag_image(self, image: str, tag: str) -> None:
        """Give an image (its ``Id``) a local name."""

    @abstractmethod
    def name_image(self, tag: str) -> str:
        """Return the name that a Dockerfile's FROM takes for a local name."""

    @abstractmethod
    def named(self, image: str) -> AbstractContextManager[str]:
        """Give a name for FROM to an image that may have none, while a context lasts."""

    @abstractmethod
    def is_moved(self, reference: str, image: str) -> bool:
        """True if a reference of the admin's stands for another image here than the one that was looked into. No registry is asked."""

    @abstractmethod
    def find_newer(self, reference: str, image: str) -> str | None:
        """Ask the registry what a base's tag stands for: the digest of another image than ours, the empty string for ours; None where nobody can know.

        Raises RegistryUnavailable.
        """

    @abstractmethod
    def move_reference(self, reference: str, image: str) -> None:
        """Let a reference of the admin's stand for a newer image that was found good."""

    def find_image(self, kind: str, key: str, inputs: str) -> str | None:
        """Return the ``Id`` of the image of a key, or None. It must carry the full inputs of the key, or it is not the one."""
        found = self.inspect_image(make_tag(kind, key))
        labels = ((found or {}).get("Config") or {}).get("Labels") or {}
        if found is None or labels.get(f"hubdock.{kind}") != key or labels.get(f"hubdock.{kind}.inputs") != inputs:
            return None
        return str(found["Id"])

    # --- making ---

    @abstractmethod
    def make_solver(self, request: BuildRequest, listen: Listener) -> Solving:
        """Return one solve, not begun."""

    def append_image(self, spec: dict[str, Any], mirror: Mirror, tree: Tree) -> Appended | None:
        """Put the code and guest programs of an image's spec on its environment without a solve; None where only a solve can."""
        return None

    @abstractmethod
    def run_job(self, job: Job, listen: Callable[[str], None] = lambda line: None, stop: threading.Event | None = None) -> JobResult:
        """Run a program to its end, telling each line that it prints, and leave nothing of it. When ``stop`` is set it is killed."""

    @abstractmethod
    def remove_jobs(self, mark: str) -> int:
        """Remove the programs that a process of this `hubdock.drivers.process.MARK` ran and can't remove any more; return how many."""

    # --- what takes space ---

    @abstractmethod
    def list_images(self, kind: str = "") -> list[dict[str, Any]]:
        """Return the images of bases, environments and code, of this hubdock or not, or those of one kind, in the form of ``docker image ls``: ``Id``, ``Labels``,
        ``RepoTags`` (local names) and ``Size``. One without a name that anybody looks for is left behind.
        """

    @abstractmethod
    def find_named(self, image: str) -> float | None:
        """Return when an image of `list_images` got its name, in seconds since the epoch; None if that is not known."""

    @abstractmethod
    def measure_source(self, reference: str) -> int:
        """Return the bytes of a reference of the admin's that a base made of it does not take once more."""

    @abstractmethod
    def remove_image(self, name: str) -> bool:
        """Remove a local name, or an image by its ``Id``; return whether it is gone. What something runs stays."""

    @abstractmethod
    def list_containers(self) -> list[Container]:
        """Return every server and program, whoever's: any may use an image."""

    def list_cache(self) -> list[CacheRecord]:
        """Return what a builder keeps for later, as far as it is ours to remove."""
        return []

    def prune_cache(self, identities: Iterable[str]) -> int:
        """Remove some of that; return the bytes."""
        return 0

    # --- volumes ---

    @abstractmethod
    def inspect_volume(self, name: str) -> dict[str, Any] | None:
        """Return a volume, with its ``CreatedAt``, or None."""

    @abstractmethod
    def ensure_volume(self, name: str, labels: Mapping[str, str]) -> dict[str, Any]:
        """Make a volume unless it is there, and return it."""

    @abstractmethod
    def list_volumes(self, prefix: str) -> dict[str, float]:
        """Return the volumes whose names begin so, and when each was made, in seconds since the epoch."""

    @abstractmethod
    def list_mounted(self) -> set[str]:
        """Return the volumes that servers or programs are on which have not ended."""

    @abstractmethod
    def remove_volume(self, name: str) -> bool:
        """Remove a volume; return whether it is gone. What something is on stays."""

    @abstractmethod
    def measure_volumes(self) -> dict[str, int]:
        """Return the bytes in each volume, as far as they can be known."""

    def mount_view(self, volume: str, key: str, target: str) -> list[VolumeMount]:
        """Return the mounts that show a server the view of one data key in the store's volume."""
        return [VolumeMount(volume, target, f"views/{key}", read_only=True)]

    def find_data(self, tasks: TaskStore, key: str, volume: str) -> bool:
        """True if the store's volume holds a data key whole: its fetch ended well, and the volume is still the one it was fetched into."""
        latest = tasks.latest("data", key)
        result = latest.result() if latest else None
        if result is None or result.error is not None or result.data.get("volume") != volume:
            return False
        found = self.inspect_volume(volume)
        return found is not None and found.get("CreatedAt") == result.data["volume_created"]


def open_backend(values: Mapping[str, Any]) -> Backend:
    """Return the back-end that the settings describe (`hubdock.engine.config.HubDock.backend_values`).

    A cluster's is opened once in a process: its connections, its registry's tokens and what it knows of images are of use to everybody.
    """
    if values["name"] == "kubernetes":
        return _open_cluster(json.dumps(values, sort_keys=True))
    from hubdock.engine.backend_docker import DockerBackend

    return DockerBackend()


@lru_cache(maxsize=16)
def _open_cluster(values: str) -> Backend:
    from hubdock.engine.backend_kube import KubeBackend

    return KubeBackend(json.loads(values))
