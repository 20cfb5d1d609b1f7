"""A real hub on this machine whose servers are pods of a real cluster, in a namespace of its own."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from hubdock.core.text import make_tail
from tests.kit.hub import Hub, Server, find_proxy
from tests.kit.kubebuild import Namespace, find_registry
from tests.kit.ports import find_port

MAKING = 1200  # seconds that a cluster may take to be built
HOST = os.environ.get("HUBDOCK_TEST_KUBE_HOST", "10.89.0.1")  # this machine, as pods reach it

MORE = """
from hubdock.spawner.kubernetes import HubDockKubeSpawner
from tests.kit.overriding import OverridingSpawner
c.JupyterHub.hub_ip = c.JupyterHub.hub_connect_ip = given["host"]
c.JupyterHub.spawner_class = OverridingSpawner
c.OverridingSpawner.overrides = os.path.abspath("overrides.json")
c.JupyterHub.tornado_settings = {"slow_spawn_timeout": 0}
c.KubeSpawner.namespace = given["namespace"]
c.KubeSpawner.storage_capacity = "1Gi"
c.HubDockKubeSpawner.service_url_for_servers = given["url"] + "/services/hubdock/"
"""


def kubectl(*arguments: str, check: bool = True, stdin: str | None = None) -> str:
    """Run kubectl, and return what it prints."""
    done = subprocess.run(["kubectl", *arguments], capture_output=True, text=True, input=stdin, timeout=120)
    assert not check or done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr}"
    return done.stdout


def wait_for_making() -> str:
    """Wait for a cluster that is being made beside the tests (`.ci/run`), and return what its making said last; empty where none is."""
    maker = os.environ.get("HUBDOCK_TEST_CLUSTER_PID")
    until = time.monotonic() + MAKING
    while maker and Path(f"/proc/{maker}").exists() and time.monotonic() < until:
        time.sleep(1)
    return make_tail(Path(os.environ["HUBDOCK_TEST_CLUSTER_LOG"]).read_text(errors="replace"), 5) if maker else ""


def require_cluster() -> None:
    """Skip where there is no cluster or no registry."""
    for name in ("KUBECONFIG", "HUBDOCK_TEST_REGISTRY"):
        if not os.environ.get(name):
            pytest.skip(f"there is no cluster here: {name} is not set")
    said = wait_for_making()
    try:
        kubectl("get", "--raw", "/readyz")
    except (AssertionError, OSError, subprocess.SubprocessError) as error:
        pytest.skip(f"the cluster of KUBECONFIG does not answer: {error} {said}")


@contextlib.contextmanager
def new_namespace(level: str = "restricted") -> Iterator[str]:
    """Hold a namespace with a pod security standard, and remove it with all that is in it."""
    name = f"hdtest-{secrets.token_hex(3)}"
    kubectl("create", "namespace", name)
    kubectl("label", "namespace", name, f"pod-security.kubernetes.io/enforce={level}")
    try:
        yield name
    finally:
        kubectl("delete", "namespace", name, "--wait=false")


class KubeHub(Hub):
    """A hub on the host, where pods reach it. Servers are pods of one namespace, builds are Jobs of another, images are in the cluster's registry."""

    def __init__(self, directory: Path, settings: dict[str, dict[str, Any]], namespace: str, builds: Namespace, **more: Any) -> None:
        engine = builds.make_settings(kube_data_namespace=namespace, kube_data_size="1G")
        super().__init__(directory, {**settings, "HubDock": {**engine, **settings.get("HubDock", {})}}, more=MORE + more.pop("more", ""), **more)
        builds.sow(self.state)
        self.namespace, self.builds = namespace, builds
        self.url = f"http://{HOST}:{find_port(HOST)}"
        self.ports = {**self.ports, "hub_port": find_port(HOST), "host": HOST, "namespace": namespace}
        self.override()

    def override(self, **values: Any) -> None:
        """Have every following start use other values: ``launch`` updates the launch, the rest are traits of the spawner."""
        (self.directory / "overrides.json").write_text(json.dumps(values))

    def wait_ready(self, user: str, server: str, timeout: float = 180) -> Pod:
        super().wait_ready(user, server, timeout)
        return Pod(self, user, server)

    def list_pods(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(kubectl("get", "pods", "-n", self.namespace, "-o", "json"))["items"]
        return found

    def find_pods(self, server: str) -> list[dict[str, Any]]:
        """Return the pods of a server's name, whoever's."""
        return [pod for pod in self.list_pods() if pod["metadata"].get("annotations", {}).get("hubdock.server") == server]

    def wait_until_gone(self, server: str, seconds: float = 20) -> None:
        self.wait_for(lambda: not self.find_pods(server), seconds, f"no pod of {server} is left")

    def list_claims(self) -> list[str]:
        return sorted(claim["metadata"]["name"] for claim in json.loads(kubectl("get", "pvc", "-n", self.namespace, "-o", "json"))["items"])

    def wait_for_message(self, user: str, server: str, words: str, timeout: float) -> tuple[str, float]:
        """Return the first message of a pending start that has these words, and the seconds until it came."""
        began = time.monotonic()
        with self.listening(user, server) as lines:
            for line in lines:
                if line.startswith("data: ") and words in (message := json.loads(line[6:]).get("message", "")):
                    return message, time.monotonic() - began
                if time.monotonic() - began > timeout:
                    break
        raise AssertionError(f"not told within {timeout} s: {words}\n{self.log[-3000:]}")

    @contextlib.contextmanager
    def listening(self, user: str, server: str) -> Iterator[Iterator[str]]:
        import httpx

        address = f"{self.url}/hub/api/users/{user}/servers/{server}/progress"
        with httpx.stream("GET", address, headers={"Authorization": f"token {self.token}"}, timeout=180) as answer:
            yield answer.iter_lines()


class Pod(Server):
    """One running server, and the inside of its pod."""

    hub: KubeHub

    @property
    def manifest(self) -> dict[str, Any]:
        (found,) = [pod for pod in self.hub.find_pods(self.name) if pod["metadata"]["annotations"]["hubdock.user"] == self.user]
        return found

    @property
    def log(self) -> str:
        return kubectl("logs", "-n", self.hub.namespace, self.manifest["metadata"]["name"])

    def run(self, script: str, check: bool = True) -> str:
        name = self.manifest["metadata"]["name"]
        argv = ["kubectl", "exec", "-n", self.hub.namespace, name, "--", "bash", "-c", f"exec 2>&1; cd {self.workspace} && {script}"]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=120)
        assert not check or done.returncode == 0, f"{script}\n→ {done.returncode}: {done.stdout}{done.stderr}"
        return (done.stdout + ("" if check else done.stderr)).strip()


@contextlib.contextmanager
def run_kube_hub(directory: Path, settings: dict[str, dict[str, Any]], builds: Namespace | None = None, environment: Mapping[str, str] | None = None, **more: Any) -> Iterator[KubeHub]:
    """Hold a running hub, and take away what it made. ``builds``: where it builds (default: a namespace of its own); ``environment``: further variables of its."""
    if find_proxy() is None:
        pytest.skip("configurable-http-proxy is not installed; `make test` installs it")
    registry = builds.registry if builds else find_registry()
    with new_namespace() as namespace, contextlib.nullcontext(builds.name) if builds else new_namespace("privileged") as name:
        running = KubeHub(directory, settings, namespace, builds or Namespace(registry, name), **more)
        running.environment.update(environment or {})
        try:
            yield running.start()  # type: ignore[misc]
        finally:
            running.stop()
            running.clean()


def find_kubelet() -> int | None:
    """Return the process of the node's kubelet, None where it does not run on this machine."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if path.read_bytes().split(b"\0")[0].endswith(b"kubelet"):
                return int(path.parent.name)
    return None


def find_pod_processes(uid: str) -> list[str]:
    """Return the processes of a pod on this machine, by the name of their control group."""
    found, names = [], {uid.encode(), uid.replace("-", "_").encode()}
    for path in Path("/proc").glob("[0-9]*/cgroup"):
        with contextlib.suppress(OSError):
            if any(name in path.read_bytes() for name in names):
                found.append(f"{path.parent.name} {path.with_name('cmdline').read_bytes().replace(bytes(1), b' ').decode(errors='replace')[:100]}")
    return found
