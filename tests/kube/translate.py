"""What stands between a service that builds on Docker and servers that are pods: images are pushed to the cluster's registry, data is copied into its claim.

It goes when the service of these tests builds on the cluster itself.
"""

from __future__ import annotations

import asyncio
import functools
import json
import os
import re
import subprocess
import time
from pathlib import Path
from typing import Any

from traitlets import Unicode

from hubdock.spawner.kubernetes import HubDockKubeSpawner
from tests.kit.kube import kubectl

DATA = "hubdock-data"


class TranslatedSpawner(HubDockKubeSpawner):
    """The spawner under test, with launches of a Docker host made into a cluster's; and with values that a test puts into a file."""

    overrides = Unicode("", help="A JSON file. Default: none.").tag(config=True)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.stock: dict[str, Any] = {}

    async def ensure_launch(self) -> None:
        await super().ensure_launch()
        self.launch = {**self.launch, "image": await asyncio.to_thread(push, self.launch["image"])}
        data = [mount for mount in self.launch["mounts"] if mount["read_only"]]
        if data:
            await asyncio.to_thread(copy_data, self.namespace, data)
        given = json.loads(Path(self.overrides).read_text())
        mounts = [{**mount, "volume": DATA} if mount["read_only"] else mount for mount in self.launch["mounts"]]
        self.launch = {**self.launch, "mounts": mounts, **given.pop("launch", {})}
        for name, value in self.stock.items():
            setattr(self, name, value)
        self.stock = {name: getattr(self, name) for name in given}
        for name, value in given.items():
            setattr(self, name, value)

    async def _wait_for_pod(self) -> None:
        await super()._wait_for_pod()
        Path(self.overrides).with_name(f"noticed-{self.name}").write_text(str(time.time()))


def run(*argv: str) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, f"{argv}: {done.stderr}"
    return done.stdout


@functools.cache
def push(image: str) -> str:
    """Push a local image, and return its name in the cluster's registry, by digest."""
    local, name = "127.0.0.1:5000", f"k-spawner/{image.removeprefix('sha256:')[:24]}:latest"
    run("docker", "tag", image, f"{local}/{name}")
    try:
        pushed = run("docker", "push", f"{local}/{name}")
    finally:
        run("docker", "rmi", "--no-prune", f"{local}/{name}")
    found = re.search(r"digest: (sha256:[0-9a-f]{64})", pushed)
    assert found, pushed
    return f"{os.environ['HUBDOCK_TEST_REGISTRY']}/{name.removesuffix(':latest')}@{found[1]}"


def copy_data(namespace: str, mounts: list[dict[str, Any]]) -> None:
    """Bring the views that a launch mounts into the claim of the namespace. The storage class of these clusters has directories of this machine."""
    kubectl("apply", "-n", namespace, "-f", "-", stdin=json.dumps(CLAIM))
    kubectl("wait", "-n", namespace, f"pvc/{DATA}", "--for=jsonpath={.status.phase}=Bound", "--timeout=30s")
    volume = kubectl("get", "-n", namespace, "pvc", DATA, "-o", "jsonpath={.spec.volumeName}")
    spec = json.loads(kubectl("get", "pv", volume, "-o", "json"))["spec"]
    path = (spec.get("hostPath") or spec.get("local"))["path"]
    for mount in mounts:
        source = Path(run("docker", "volume", "inspect", "-f", "{{.Mountpoint}}", mount["volume"]).strip()) / mount["subpath"]
        target = Path(path) / mount["subpath"]
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            run("cp", "-a", str(source), str(target))


CLAIM = {
    "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": DATA},
    "spec": {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}},
}  # fmt: skip
