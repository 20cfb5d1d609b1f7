"""helm/hubdock installed on a real cluster, with images of this working tree."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import httpx
import pytest
import yaml

from hubdock.drivers.oci import Registry
from tests.kit.chart import CHART, RELEASE, ROOT, require_helm
from tests.kit.hub import PASSWORD
from tests.kit.kube import HOST, KubeHub, kubectl
from tests.kit.kubebuild import BASE as KUBE_BASE
from tests.kit.kubebuild import push
from tests.kit.ports import find_port

BASE = os.environ.get("HUBDOCK_TEST_POD_BASE", "debian:bookworm")  # the Debian that the images start from
BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")


def make_images() -> dict[str, str]:
    """Return the images of this working tree, service and hub, by their names in the cluster's registry. Skips where there is nothing to start them from."""
    try:
        docker.from_env().images.get(BASE)
    except docker.errors.DockerException as error:
        pytest.skip(f"no image to start the service's from: {error}")
    return {target: _push_image(target) for target in ("service", "hub")}


def _push_image(target: str) -> str:
    registry = os.environ["HUBDOCK_TEST_REGISTRY"]
    certificates = ["--secret", f"id=certificates,src={BUNDLE}"] if BUNDLE.exists() else []
    argv = ["docker", "buildx", "build", "--quiet", "--provenance=false", "--build-arg", f"BASE={BASE}", *certificates, "--target", target, str(ROOT)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr[-3000:]
    image = done.stdout.strip()
    tag = image.removeprefix("sha256:")[:16]
    push(Registry(registry, insecure=[registry]), image, f"hubdock-test/{target}", tag)
    return f"{registry}/hubdock-test/{target}:{tag}"


def helm(command: str, namespace: str, *more: str) -> str:
    """Run a command of helm's on the release, and return what it prints. Where it fails, what the cluster knows of it is printed."""
    done = subprocess.run([require_helm(), command, RELEASE, *more, "--namespace", namespace], capture_output=True, text=True, timeout=600)
    if done.returncode:
        for what in (["get", "pods", "-o", "wide"], ["get", "events"], ["logs", "-l", "app.kubernetes.io/name=hubdock", "--tail=40", "--prefix"]):
            print(kubectl(*what, "-n", namespace, check=False))
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@dataclass
class Install:
    """One release, and the values that it has."""

    namespace: str
    file: Path
    values: dict[str, Any]
    token: str
    said: str = ""

    @property
    def builds(self) -> str:
        """The namespace of its builds."""
        return f"{self.namespace}-builds"

    def apply(self, command: str, *more: str, **changes: Any) -> str:
        """Install or upgrade, and wait until it answers. ``changes`` take the place of values."""
        self.file.write_text(yaml.safe_dump({**self.values, **changes}))
        return helm(command, self.namespace, str(CHART), "--values", str(self.file), "--wait", "--timeout", "5m", *more)

    def list(self, kinds: str, namespace: str = "") -> list[dict[str, Any]]:
        """Return the objects of these kinds in the release's namespace, or in another."""
        found: list[dict[str, Any]] = json.loads(kubectl("get", kinds, "-n", namespace or self.namespace, "-o", "json"))["items"]
        return found

    def read_secret(self) -> dict[str, str]:
        """Return the tokens and passwords that the chart made."""
        (found,) = [one for one in self.list("secrets") if one["metadata"]["name"] == RELEASE]
        return dict(found["data"])


@contextlib.contextmanager
def run_install(directory: Path, images: dict[str, str], registry: str, remote: str) -> Iterator[Install]:
    """Hold a release with a hub of its own, in a namespace that lets in only what passes the standard *restricted*. ``remote`` is the git server's address."""
    namespace, token = f"hdinst-{secrets.token_hex(3)}", secrets.token_hex(16)
    remotes, images_at = ([{"cidr": f"{HOST}/32", "ports": [int(address.rpartition(":")[2])]}] for address in (remote, registry))
    extra = f'c.JupyterHub.services = [{{"name": "tests", "api_token": "{token}", "admin": True}}]\nc.SharedPasswordAuthenticator.user_password = "{PASSWORD}"\n'
    values = {
        "image": images, "registry": {"host": f"{registry}/{namespace}", "insecure": True},
        "config": {"HubDock": {"allowed_hosts": [remote], "base_image": f"{registry}/{KUBE_BASE}", "gpu_base_image": "", "default_resources": {"memory": "512M", "cpu": 0.2}}},
        "service": {"storage": {"size": "1Gi"}}, "data": {"size": "1G"},
        "builds": {"image": f"{registry}/buildkit:rootless", "resources": {"requests": {"cpu": "100m"}}, "cache": {"size": "5G"}},
        "hub": {"config": {"Authenticator": {"allowed_users": ["alice"]}, "KubeSpawner": {"cpu_guarantee": 0.05, "mem_guarantee": "64M"}}, "extraConfig": extra},
        "networkPolicies": {"dns": [f"{HOST}/32"], "registry": images_at, "remotes": remotes, "servers": remotes},
    }  # fmt: skip
    made = Install(namespace, directory / "values.yaml", values, token)
    kubectl("create", "namespace", namespace)
    kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    try:
        made.said = made.apply("install")
        yield made
    finally:
        subprocess.run([require_helm(), "uninstall", RELEASE, "--namespace", namespace], capture_output=True, timeout=300)
        kubectl("delete", "namespace", namespace, made.builds, "--wait=false", "--ignore-not-found")


class ChartHub(KubeHub):
    """The hub that the chart brought, as the test asks it."""

    def __init__(self, install: Install, url: str) -> None:
        self.namespace, self.token, self.url = install.namespace, install.token, url

    @property
    def log(self) -> str:
        """What hub and service said last."""
        return "\n".join(kubectl("logs", f"deployment/{name}", "-n", self.namespace, "--tail=60", check=False) for name in (RELEASE, f"{RELEASE}-hub"))

    def answers(self) -> bool:
        """Tell whether the service and the hub answer over the proxy's Service."""
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(f"{self.url}/services/hubdock/api/").status_code == 200 and self.api("GET", "").status_code == 200
        return False


@contextlib.contextmanager
def forward(install: Install) -> Iterator[ChartHub]:
    """Hold a way to the proxy's Service, as NOTES.txt says to make one."""
    port = find_port()
    argv = ["kubectl", "-n", install.namespace, "port-forward", f"service/{RELEASE}-proxy-public", f"{port}:80"]
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    hub, end = ChartHub(install, f"http://127.0.0.1:{port}"), time.monotonic() + 60
    try:
        while not hub.answers():
            assert time.monotonic() < end, hub.log
            time.sleep(0.3)
        yield hub
    finally:
        process.terminate()
        process.wait(10)
