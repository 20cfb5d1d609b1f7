"""A cluster and its registry as a back-end: images are in the registry, builds and programs are Jobs, volumes are claims."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import fields
from datetime import datetime
from typing import Any

from hubdock.core.kubeprogram import make_store_claim
from hubdock.drivers.job import Job, JobResult
from hubdock.drivers.kube import Cluster
from hubdock.drivers.kubeplace import BuildPlace
from hubdock.drivers.solve import BuildRequest, Listener
from hubdock.engine.backend import Solving
from hubdock.engine.registry_images import RegistryImages


class KubeBackend(RegistryImages):
    """The cluster that the environment names, and the registry of the settings. ``values`` are those of `RegistryImages` and of `BuildPlace`."""

    place = "The cluster"
    tries_apart = True

    def __init__(self, values: Mapping[str, Any]) -> None:
        super().__init__(values)
        given = {field.name: values[field.name] for field in fields(BuildPlace) if field.name in values}
        self.build_place = BuildPlace(**{**given, "insecure": tuple(values["insecure_registries"])})
        self.cluster = Cluster()

    def list_checks(self) -> Mapping[str, Callable[[], object]]:
        return {**super().list_checks(), "kubernetes": lambda: self.cluster.get("Job", self.build_place.namespace, "hubdock-health")}

    def make_solver(self, request: BuildRequest, listen: Listener) -> Solving:
        from hubdock.drivers.kubebuild import KubeSolver

        return KubeSolver(self.cluster, self.open_registry(self.own.host), self.build_place, request, self.locate(request.tag), listen)

    def run_job(self, job: Job, listen: Callable[[str], None] = lambda line: None, stop: threading.Event | None = None) -> JobResult:
        from hubdock.drivers.kubeprogram import run_program

        return run_program(self.cluster, self.build_place, job, str(self.locate(job.image)), listen, stop or threading.Event())

    def remove_jobs(self, mark: str) -> int:
        from hubdock.drivers.kubeprogram import remove_programs

        return remove_programs(self.cluster, self.build_place, mark)

    def inspect_volume(self, name: str) -> dict[str, Any] | None:
        found = self.cluster.get("PersistentVolumeClaim", self.build_place.data_namespace, name)
        return None if found is None else {"Name": name, "CreatedAt": found["metadata"]["creationTimestamp"]}

    def ensure_volume(self, name: str, labels: Mapping[str, str]) -> dict[str, Any]:
        place = self.build_place
        self.cluster.create(make_store_claim(name, place.data_namespace, place.data_size, place.data_class))
        found = self.inspect_volume(name)
        assert found
        return found

    def list_volumes(self, prefix: str) -> dict[str, float]:
        claims = self.cluster.list("PersistentVolumeClaim", self.build_place.data_namespace)
        there = [claim["metadata"] for claim in claims if claim["metadata"]["name"].startswith(prefix) and not claim["metadata"].get("deletionTimestamp")]
        return {str(found["name"]): datetime.fromisoformat(found["creationTimestamp"]).timestamp() for found in there}

    def list_mounted(self) -> set[str]:
        pods = self.cluster.list("Pod", self.build_place.data_namespace)
        alive = [pod for pod in pods if (pod.get("status") or {}).get("phase") not in {"Succeeded", "Failed"}]
        volumes = [volume for pod in alive for volume in pod["spec"].get("volumes") or ()]
        return {str(volume["persistentVolumeClaim"]["claimName"]) for volume in volumes if volume.get("persistentVolumeClaim")}

    def remove_volume(self, name: str) -> bool:
        """A claim that a pod mounts would be gone for good when that pod ends: it is not even asked for."""
        if name in self.list_mounted():
            return False
        self.cluster.delete("PersistentVolumeClaim", self.build_place.data_namespace, name)
        return True

    def measure_volumes(self) -> dict[str, int]:
        """Kubernetes does not say how full a volume is."""
        return {}
