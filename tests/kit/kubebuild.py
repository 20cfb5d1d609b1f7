"""The engine on a real cluster: builds in a namespace of its own, images in the cluster's registry."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import docker
import pytest
import zstandard

from hubdock.core.errors import HubDockError
from hubdock.core.kubeobjects import KEY
from hubdock.core.oci import CONFIG, LAYER, Descriptor, make_manifest
from hubdock.drivers.kube import Cluster
from hubdock.drivers.oci import Registry
from tests.kit.builder import Builder, copy_base, sow
from tests.kit.engine import NotHere, import_small
from tests.kit.hub import find_base
from tests.kit.images import put_blob

BASE = "hubdock-small-base:latest"
ENDS = {"Complete", "Failed"}


def wait_until(condition: Callable[[], Any], seconds: float = 60.0, every: float = 0.1) -> Any:
    """Return what a condition returns once it is true."""
    until = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < until, f"not within {seconds:g} s"
        time.sleep(every)
    return found


class Namespace:
    """A namespace for builds, and what is in it. ``seed``: the database of a hubdock that has looked into the base already, which others begin with."""

    def __init__(self, registry: str, name: str) -> None:
        self.registry, self.name, self.cluster = registry, name, Cluster()
        self.seed: Path | None = None

    def jobs(self, kind: str = "environment") -> list[dict[str, Any]]:
        """Return the Jobs of a kind, ended ones too."""
        return self.cluster.list("Job", self.name, f"hubdock/kind={kind}")

    def pods(self, kind: str = "environment") -> list[dict[str, Any]]:
        return self.cluster.list("Pod", self.name, f"hubdock/kind={kind}")

    def running(self, kind: str = "environment") -> list[dict[str, Any]]:
        """Return the pods of a kind whose program runs: their phase is so for another second."""
        return [pod for pod in self.pods(kind) if any("running" in entry["state"] for entry in pod["status"].get("containerStatuses", ()))]

    def make_settings(self, **settings: Any) -> dict[str, Any]:
        """Return the settings of a hubdock that builds here."""
        return {
            "backend": "kubernetes", "registry": f"{self.registry}/{self.name}", "insecure_registries": [self.registry], "kube_namespace": self.name, "kube_data_namespace": self.name,
            "kube_buildkit_image": f"{self.registry}/buildkit:rootless", "base_image": f"{self.registry}/{BASE}", "kube_cache_size": "10G", "kube_cache_volumes": 1,
            "kube_build_resources": {}, "smoke_test": False, **settings,
        }  # fmt: skip

    def make_builder(self, state: Path, **settings: Any) -> KubeBuilder:
        """Return an engine that builds here."""
        self.sow(state)
        return KubeBuilder(state, **self.make_settings(**settings))

    def sow(self, state: Path) -> None:
        """Let a state directory know the base, where one does."""
        if self.seed is not None:
            sow(self.seed, state)

    def sow_into(self, url: str) -> None:
        """Let a database that several hubdocks share know the base."""
        assert self.seed is not None
        copy_base(f"sqlite:///{self.seed}", url, f"{self.registry}/{BASE}")

    def find_jobs(self, key: str) -> list[dict[str, Any]]:
        """Return the Jobs of an environment."""
        return [job for job in self.jobs() if job["metadata"]["annotations"][KEY] == key]

    def wait_for_ends(self, key: str) -> list[dict[str, Any]]:
        """Return the Jobs of an environment once the cluster says that they ended: hubdock knows it from their pods, two or three seconds before."""
        wait_until(lambda: all(ENDS & {entry["type"] for entry in job["status"].get("conditions", ())} for job in self.find_jobs(key)), 30)
        return self.find_jobs(key)


class KubeBuilder(Builder):
    """One engine over one state directory."""

    @property
    def images(self) -> Registry:
        """The cluster's registry."""
        return Registry(self.settings.registry.partition("/")[0], insecure=tuple(self.settings.insecure_registries))

    @property
    def prefix(self) -> str:
        """The path of this namespace's images in it."""
        return str(self.settings.registry.partition("/")[2])

    def forget_images(self) -> None:
        """Remove everything that was made of any key from the registry: what is planned next is to be built."""
        images = self.images
        for kind in ("image", "environment"):
            for path in (self.settings.state / "tasks" / kind).glob("*"):
                digest = images.find_digest(f"{self.prefix}/{kind}", path.name)
                if digest:
                    images.delete_manifest(f"{self.prefix}/{kind}", digest)

    def clean(self) -> None:
        with contextlib.suppress(Exception):
            self.forget_images()


def ensure_base(directory: Path) -> None:
    """Have a base image that is loaded into a cluster in seconds, newer than the one it is made of. ``directory`` is empty. Skips where there is none."""
    try:
        engine = docker.from_env()
        source = engine.images.get(find_base())
        if not [image for image in engine.images.list(BASE) if image.attrs["Created"] > source.attrs["Created"]]:
            import_small(find_base(), BASE, directory)
    except (docker.errors.DockerException, NotHere) as error:
        pytest.skip(f"the base image {find_base()} can't be had: {error}")


def find_registry() -> str:
    """Return the cluster's registry, with the base image as Docker has it and BuildKit's in it. Skips where one can't be brought there."""
    host = os.environ["HUBDOCK_TEST_REGISTRY"]
    registry = Registry(host, insecure=[host])
    if not registry.find_digest("buildkit", "rootless"):
        pytest.skip(f"the registry {host} has no buildkit:rootless: `kube-up --images` makes it")
    known, wanted = registry.read_manifest(*BASE.split(":")), docker.from_env().images.get(BASE).id
    if known is None or known.config.digest != wanted:  # a registry may outlive the engine that its images came from
        try:
            push(registry, BASE, *BASE.split(":"))
        except HubDockError as error:
            pytest.skip(f"the base image can't be brought into the cluster's registry: {error} {error.detail}")
    return host


def push(registry: Registry, image: str, repository: str, tag: str) -> None:
    """Bring an image of Docker's to a registry, its layers as zstd, which is packed and unpacked in a fraction of gzip's time."""
    with tempfile.TemporaryFile() as saved:
        for chunk in docker.from_env().images.get(image).save():
            saved.write(chunk)
        saved.seek(0)
        with tarfile.open(fileobj=saved) as archive:

            def read(path: str) -> IO[bytes]:
                file = archive.extractfile(path)
                assert file
                return file

            (told,) = json.load(read("manifest.json"))
            config = read(told["Config"]).read()
            layers = [upload(registry, repository, f"{LAYER}+zstd", zstandard.ZstdCompressor().stream_reader(read(path))) for path in told["Layers"]]
        put_blob(registry, repository, config, CONFIG)
    registry.put_manifest(repository, tag, make_manifest(config, layers))


def upload(registry: Registry, repository: str, media_type: str, content: IO[bytes]) -> Descriptor:
    """Bring a blob to a registry."""
    with tempfile.TemporaryFile() as file:
        digest = hashlib.sha256()
        while chunk := content.read(1 << 20):
            digest.update(chunk)
            file.write(chunk)
        blob = Descriptor(media_type, f"sha256:{digest.hexdigest()}", file.tell())
        if not registry.has_blob(repository, blob.digest):
            registry.upload_blob(repository, blob, file)
    return blob
