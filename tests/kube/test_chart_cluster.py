"""helm/hubdock on a real cluster: what the API server says of its objects, and what its accounts may do. `test_chart_install.py` installs it."""

from __future__ import annotations

import contextlib
import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from hubdock.doctor_kube import PERMISSIONS
from tests.kit.chart import WAYS, render, require_helm
from tests.kit.kube import kubectl, require_cluster

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
