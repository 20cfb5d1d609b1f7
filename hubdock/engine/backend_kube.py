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
from hubdock.drivers.stock import Container
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

    def list_containers(self) -> list[Container]:
        """Pods of servers, programs and builds. What a launch says of itself is whole in annotations: a label is too short for a key."""
        place = self.build_place
        pods = [pod for namespace in dict.fromkeys((place.data_namespace, place.namespace)) for pod in self.cluster.list("Pod", namespace)]
        return [_describe_pod(pod) for pod in pods]

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
        return {volume for pod in pods if (found := _describe_pod(pod)).alive for volume in found.volumes}

    def remove_volume(self, name: str) -> bool:
        """A claim that a pod mounts would be gone for good when that pod ends: it is not even asked for."""
        if name in self.list_mounted():
            return False
        self.cluster.delete("PersistentVolumeClaim", self.build_place.data_namespace, name)
        return True

    def measure_volumes(self) -> dict[str, int]:
        """Kubernetes does not say how full a volume is."""
        return {}


def _describe_pod(pod: Mapping[str, Any]) -> Container:
    metadata, spec = pod["metadata"], pod["spec"]
    ended = (pod.get("status") or {}).get("phase") in {"Succeeded", "Failed"}
    claims = [volume["persistentVolumeClaim"]["claimName"] for volume in spec.get("volumes") or () if volume.get("persistentVolumeClaim")]
    told = {**(metadata.get("labels") or {}), **(metadata.get("annotations") or {})}
    return Container(str(metadata["name"]), "exited" if ended else "running", str(spec["containers"][0]["image"]), told, tuple(map(str, claims)))
