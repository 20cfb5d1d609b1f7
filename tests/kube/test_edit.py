"""An edit of a README on a cluster: no Job, and one small blob beside the image's configuration."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from hubdock.drivers.oci import Registry
from tests.kit.kube import KubeHub
from tests.kit.repos import Project

ROUNDS = 3


class Images:
    """The images of a hub in the cluster's registry."""

    def __init__(self, hub: KubeHub) -> None:
        self.hub, self.name = hub, f"{hub.builds.name}/image"
        self.registry = Registry(hub.builds.registry, insecure=[hub.builds.registry])

    def list_blobs(self) -> dict[str, int]:
        """Return the parts of all images, and their bytes."""
        found: dict[str, int] = {}
        for tag in self.registry.list_tags(self.name):
            manifest = self.registry.read_manifest(self.name, tag)
            assert manifest
            found |= {blob.digest: blob.size for blob in (manifest.config, *manifest.layers)}
        return found


def build(hub: KubeHub, project: Project) -> tuple[str, float]:
    """Have the image of a branch made; return the build's log and the seconds from the question until it could be launched."""
    began = time.monotonic()
    made = hub.service("POST", "builds", {"repo": project.url, "ref": "main"}).json()["id"]
    state = hub.wait_for(lambda: (b := hub.service("GET", f"builds/{made}").json())["phase"] in {"ready", "failed"} and b, 300, "the build ends", pause=0.02)
    assert state["phase"] == "ready", state
    return hub.service("GET", f"builds/{made}/log").text, time.monotonic() - began


def list_jobs(hub: KubeHub) -> set[str]:
    """Return the Jobs of builds and of data: ended ones stay for a quarter of an hour."""
    return {job["metadata"]["uid"] for namespace in (hub.builds.name, hub.namespace) for job in hub.builds.cluster.list("Job", namespace)}


def test_an_edit_starts_no_job_and_sends_one_layer(hub: KubeHub, project: Project, record_property: Callable[[str, Any], None]) -> None:
    project.write_all({"README.md": "one", "train.py": "print(1)\n" * 1000}).commit("one")
    build(hub, project)
    images, jobs = Images(hub), list_jobs(hub)
    for number in range(ROUNDS):
        before = images.list_blobs()
        project.write_all({"README.md": f"edit {number}"}).commit("edit")
        log, seconds = build(hub, project)
        record_property("number", f"README edit on a cluster: {seconds:.2f} s until the image can be launched")
        new = {digest: size for digest, size in images.list_blobs().items() if digest not in before}
        assert len(new) == 2 and sum(new.values()) < 16384 and "2 new parts" in log, "the layer of the code and the configuration: the guest programs are there"
        assert not list_jobs(hub) - jobs
