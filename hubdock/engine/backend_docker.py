"""The Docker Engine as a back-end: docker-py is imported when it is first asked, which a worker that only solves never does."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from hubdock.core.naming import make_tag
from hubdock.drivers.buildkit import Solver
from hubdock.drivers.job import Job, JobResult, VolumeMount
from hubdock.drivers.solve import BuildRequest, Listener
from hubdock.engine.backend import Backend, Solving

if TYPE_CHECKING:
    from hubdock.drivers.stock import CacheRecord, Container


class DockerBackend(Backend):
    """The engine that ``DOCKER_HOST`` names. Local names are its tags, ids its image ids."""

    place = "The Docker Engine"

    def list_checks(self) -> Mapping[str, Callable[[], object]]:
        return {"docker": lambda: self.inspect_volume("hubdock-health")}

    def inspect_image(self, reference: str) -> dict[str, Any] | None:
        from hubdock.drivers import docker

        return docker.inspect_image(reference)

    def pull_image(self, reference: str, listen: Callable[[str], None]) -> None:
        from hubdock.drivers import docker

        docker.pull_image(reference, listen)

    def tag_image(self, image: str, tag: str) -> None:
        from hubdock.drivers import docker

        docker.tag_image(image, tag)

    def name_image(self, tag: str) -> str:
        return tag

    @contextmanager
    def named(self, image: str) -> Iterator[str]:
        """``FROM sha256:…`` makes BuildKit ask a registry."""
        from hubdock.drivers import docker

        source = make_tag("source", image.removeprefix("sha256:"))
        docker.tag_image(image, source)
        try:
            yield source
        finally:
            docker.remove_tag(source)

    def is_moved(self, reference: str, image: str) -> bool:
        found = self.inspect_image(reference)
        return found is not None and found["Id"] != image

    def find_newer(self, reference: str, image: str) -> str | None:
        from hubdock.drivers import registry

        inspection = self.inspect_image(reference)
        digest = registry.find_newer(reference, inspection)
        return digest if digest or registry.find_digests(inspection or {}, reference) else None

    def move_reference(self, reference: str, image: str) -> None:
        from hubdock.drivers import docker, registry

        docker.tag_image(image, ":".join(registry.split_reference(reference)))

    def make_solver(self, request: BuildRequest, listen: Listener) -> Solving:
        return Solver(request, listen)

    def run_job(self, job: Job, listen: Callable[[str], None] = lambda line: None, stop: threading.Event | None = None) -> JobResult:
        from hubdock.drivers import docker

        return docker.run_job(job, listen, stop)

    def remove_jobs(self, mark: str) -> int:
        from hubdock.drivers import docker

        return docker.remove_jobs(mark)

    def list_images(self, kind: str = "") -> list[dict[str, Any]]:
        from hubdock.drivers import docker

        found = docker.list_images(reference=f"hubdock/{kind}") if kind else [*docker.list_images("hubdock.kind"), *docker.list_images(reference="hubdock/base")]
        return list({entry["Id"]: entry for entry in found}.values())

    def find_named(self, image: str) -> float | None:
        """The time in an image is 1970, so that equal content makes an equal image."""
        from hubdock.drivers.disk import parse_time

        return parse_time(((self.inspect_image(image) or {}).get("Metadata") or {}).get("LastTagTime"))

    def measure_source(self, reference: str) -> int:
        """It stays, for hubdock does not own it."""
        return int((self.inspect_image(reference) or {}).get("Size") or 0)

    def remove_image(self, name: str) -> bool:
        from hubdock.drivers import disk

        return disk.remove_image(name)

    def list_containers(self) -> list[Container]:
        from hubdock.drivers import disk

        return disk.list_containers()

    def list_cache(self) -> list[CacheRecord]:
        from hubdock.drivers import disk

        return disk.list_cache()

    def prune_cache(self, identities: Iterable[str]) -> int:
        from hubdock.drivers import disk

        return disk.prune_cache(identities)

    def inspect_volume(self, name: str) -> dict[str, Any] | None:
        from hubdock.drivers import docker

        return docker.inspect_volume(name)

    def mount_view(self, volume: str, key: str, target: str) -> list[VolumeMount]:
        from hubdock.drivers import docker

        return docker.mount_view(volume, f"views/{key}", target, "manifest.json", f"/hubdock/held/{key[:16]}")  # not below the target, which is read-only

    def ensure_volume(self, name: str, labels: Mapping[str, str]) -> dict[str, Any]:
        from hubdock.drivers import docker

        return docker.ensure_volume(name, labels)

    def list_volumes(self, prefix: str) -> dict[str, float]:
        from hubdock.drivers import disk

        return disk.list_volumes(prefix)

    def list_mounted(self) -> set[str]:
        from hubdock.drivers import disk

        return {volume for container in disk.list_containers() if container.alive for volume in container.volumes}

    def remove_volume(self, name: str) -> bool:
        from hubdock.drivers import disk

        return disk.remove_volume(name)

    def measure_volumes(self) -> dict[str, int]:
        from hubdock.drivers import disk

        return disk.measure_volumes()
