"""helm/hubdock on a real cluster: what the API server says of its objects, what its accounts may do, and what can be reached from where packages' code runs."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shlex
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from hubdock.doctor_kube import PERMISSIONS
from tests.kit.chart import WAYS, render, require_helm
from tests.kit.kube import HOST, kubectl, require_cluster

LEVEL = "pod-security.kubernetes.io/enforce"


@pytest.fixture(scope="module", autouse=True)
def tools() -> None:
    require_helm()
    require_cluster()


@dataclass(frozen=True)
class Place:
    """Namespaces of one install."""

    release: str
    builds: str


@contextlib.contextmanager
def new_place() -> Iterator[Place]:
    mark = secrets.token_hex(3)
    place = Place(f"hdchart-{mark}", f"hdchart-{mark}-builds")
    for name, level in ((place.release, "restricted"), (place.builds, "privileged")):
        kubectl("create", "namespace", name)
        kubectl("label", "namespace", name, f"{LEVEL}={level}")
    try:
        yield place
    finally:
        kubectl("delete", "namespace", place.release, place.builds, "--wait=false")


@pytest.fixture
def place() -> Iterator[Place]:
    with new_place() as made:
        yield made


def move(values: dict[str, Any], place: Place) -> dict[str, Any]:
    """Return values with namespaces that are there."""
    servers = values.get("servers", {}) | {"createNamespace": False}
    builds = values.get("builds", {}) | {"namespace": place.builds, "createNamespace": False}
    return {**values, "builds": builds, "servers": servers | ({"namespace": place.release} if servers.get("namespace") else {}), "monitoring": {}}


def render_in(place: Place, values: dict[str, Any], directory: Path) -> list[dict[str, Any]]:
    return render(directory, move(values, place), namespace=place.release)


def apply(place: Place, objects: list[dict[str, Any]], *more: str) -> str:
    for one in objects:
        if one["kind"] != "Namespace":
            one["metadata"].setdefault("namespace", place.release)
    return kubectl("apply", *more, "-f", "-", stdin=yaml.safe_dump_all(objects))


@pytest.fixture(scope="module")
def accounts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with new_place() as made:
        objects = render_in(made, WAYS["alone"], tmp_path_factory.mktemp("accounts"))
        apply(made, [one for one in objects if one["kind"] in {"ServiceAccount", "Role", "RoleBinding"}])
        yield made


@pytest.mark.parametrize("way", WAYS)
def test_the_api_server_takes_every_object(way: str, place: Place, tmp_path: Path) -> None:
    """Each as it is, with warnings as errors: among them those of the pod security standard."""
    objects = render_in(place, WAYS[way], tmp_path)
    said = apply(place, objects, "--dry-run=server", "--validate=strict", "--warnings-as-errors")
    assert said.count("(server dry run)") == len(objects)


SERVICE, HUB, BUILD = "hubdock", "hubdock-hub", "hubdock-build"
MAY = {
    (SERVICE, "builds"): {f"{resource} {verb}" for group, resource, verb in PERMISSIONS},
    (SERVICE, "release"): {
        "jobs get", "jobs list", "jobs create", "jobs delete", "pods list", "pods delete", "pods/log get", "persistentvolumeclaims get", "persistentvolumeclaims list",
        "persistentvolumeclaims create", "persistentvolumeclaims delete", "secrets create", "secrets delete",
    },
    (HUB, "release"): {
        "pods list", "pods watch", "pods create", "pods delete", "pods/log get", "persistentvolumeclaims get", "persistentvolumeclaims create", "events list", "events watch",
    },
}  # fmt: skip


def list_rights(place: Place, account: str, where: str) -> set[str]:
    """Return what an account may do in a namespace, beyond what any account may."""
    home, namespace = place.builds if account == BUILD else place.release, {"builds": place.builds, "release": place.release}.get(where, where)
    table = kubectl("auth", "can-i", "--list", "--no-headers", "-n", namespace, f"--as=system:serviceaccount:{home}:{account}")
    rows = [line.split("[") for line in table.splitlines() if not line.startswith((" ", "self"))]
    return {f"{resource.strip().partition('.')[0]} {verb}" for resource, *_, verbs in rows for verb in verbs.strip(" ]").split()}


@pytest.mark.parametrize("account", [SERVICE, HUB, BUILD])
def test_what_the_accounts_may_do(account: str, accounts: Place) -> None:
    """Exactly what `test_chart_install.py` goes through with: nobody reads Secrets, runs a program in a pod, gives rights, or looks into other namespaces."""
    assert {where: list_rights(accounts, account, where) for where in ("builds", "release", "kube-system", "default")} == {
        where: MAY.get((account, where), set()) for where in ("builds", "release", "kube-system", "default")
    }
    everything = json.loads(kubectl("get", "clusterrolebindings", "-o", "json"))["items"]
    assert not [one for one in everything for subject in one.get("subjects") or () if subject.get("namespace") in {accounts.release, accounts.builds}]


# --- what is reached from inside a build ---

PROBE = """
reach() { timeout 3 bash -c "exec 3<>/dev/tcp/$1/$2" 2>/dev/null && echo "$3 open" || echo "$3 closed"; }
"""


def find_image() -> str:
    """Return an image with a shell that the cluster can have."""
    return os.environ.get("HUBDOCK_TEST_POD_IMAGE") or f"{os.environ['HUBDOCK_TEST_REGISTRY']}/debian:bookworm"


def make_probe(name: str, labels: dict[str, str], script: str) -> dict[str, Any]:
    container = {
        "name": "probe", "image": find_image(), "command": ["bash", "-c", script],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }  # fmt: skip
    pod = {
        "restartPolicy": "Never", "automountServiceAccountToken": False, "containers": [container], "terminationGracePeriodSeconds": 1,
        "securityContext": {"runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}},
    }  # fmt: skip
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": pod}


def wait_for_pod(namespace: str, name: str, phase: str, timeout: float = 120) -> dict[str, Any]:
    end = time.monotonic() + timeout
    while True:
        pod: dict[str, Any] = json.loads(kubectl("get", "pod", name, "-n", namespace, "-o", "json"))
        if pod["status"].get("phase") == phase:
            return pod
        assert time.monotonic() < end, json.dumps(pod["status"])
        time.sleep(0.3)


def probe(namespace: str, labels: dict[str, str], targets: dict[str, tuple[str, int]]) -> dict[str, bool]:
    """Tell which addresses are reached from a pod with these labels."""
    name = f"probe-{secrets.token_hex(3)}"
    script = PROBE + "sleep 2\n" + "\n".join(f"reach {shlex.quote(host)} {port} {what} &" for what, (host, port) in targets.items()) + "\nwait"
    kubectl("apply", "-n", namespace, "-f", "-", stdin=json.dumps(make_probe(name, labels, script)))
    wait_for_pod(namespace, name, "Succeeded")
    lines = [line.split() for line in kubectl("logs", name, "-n", namespace).splitlines()]
    return {what: state == "open" for what, state in lines}


def test_what_is_reached_from_a_build(place: Place, tmp_path: Path) -> None:
    """Over the network; with the policies removed as the counter-test."""
    if not os.environ.get("HUBDOCK_TEST_POD_IMAGE"):
        probe_image = find_image()
        if "debian:bookworm" in probe_image and not _has_image(probe_image):
            pytest.skip(f"there is no image to probe with: {probe_image} is not in the registry (kube-up --images puts it there)")
    registry, _, port = os.environ["HUBDOCK_TEST_REGISTRY"].partition("/")[0].partition(":")
    listen = "exec perl -MIO::Socket::INET -e '$s = IO::Socket::INET->new(LocalPort => 9000, Listen => 5, ReuseAddr => 1) or die; while ($c = $s->accept) {close $c}'"
    kubectl("apply", "-n", place.release, "-f", "-", stdin=json.dumps(make_probe("listener", {"app": "other"}, listen)))
    other = wait_for_pod(place.release, "listener", "Running")["status"]["podIP"]
    api = kubectl("get", "service", "kubernetes", "-n", "default", "-o", "jsonpath={.spec.clusterIP}")
    node = kubectl("get", "nodes", "-o", "jsonpath={.items[0].status.addresses[?(@.type=='InternalIP')].address}")
    targets = {"registry": (registry, int(port or 443)), "api": (api, 443), "kubelet": (node, 10250), "pod": (other, 9000), "metadata": ("169.254.169.254", 80)}
    values = {**WAYS["alone"], "networkPolicies": {"dns": [f"{HOST}/32"], "registry": [{"cidr": f"{registry}/32", "ports": [int(port or 443)]}]}}
    policies = [one for one in render_in(place, values, tmp_path) if one["kind"] == "NetworkPolicy"]
    build = {"app.kubernetes.io/name": "hubdock", "app.kubernetes.io/component": "build"}
    without = probe(place.builds, build, targets)
    assert without["registry"] and without["api"] and without["kubelet"] and without["pod"], "else nothing is tried below"
    apply(place, policies)
    time.sleep(2)
    assert probe(place.builds, build, targets) == {"registry": True, "api": False, "kubelet": False, "pod": False, "metadata": False}
    assert not any(probe(place.builds, {"app": "whatever"}, targets).values()), "nothing else of that namespace reaches anything"
    program = {"app.kubernetes.io/name": "hubdock", "app.kubernetes.io/component": "program", "hubdock/network": "none"}
    assert not any(probe(place.release, program, targets).values())
    inward = {"pod": (other, 9000)}
    assert probe(place.release, {"app.kubernetes.io/component": "singleuser-server"}, inward) == {"pod": False}, "nor do servers reach other pods"


def _has_image(image: str) -> bool:
    import httpx

    host, _, rest = image.partition("/")
    repository, _, tag = rest.rpartition(":")
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(f"http://{host}/v2/{repository}/manifests/{tag}", headers={"Accept": "application/vnd.docker.distribution.manifest.v2+json"}).status_code == 200
    return False
