"""Pods that tell what they reach over the network."""

from __future__ import annotations

import json
import secrets
import shlex
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.kit.kube import kubectl

PAUSE = 2.0  # seconds until whatever enforces policies knows a new pod's address
SCRIPT = """
reach() { for _ in 1 2; do timeout 3 bash -c "exec 3<>/dev/tcp/$1/$2" 2>/dev/null && echo "$3" && return; done; }
"""


@dataclass(frozen=True)
class Place:
    """A namespace, and the labels by which policies know a pod there."""

    namespace: str
    labels: Mapping[str, str]


def make_probe(name: str, place: Place, image: str, targets: Mapping[str, tuple[str, int]]) -> dict[str, Any]:
    """Return a pod that prints which targets it reaches. It passes the standard *restricted*."""
    lines = [f"reach {shlex.quote(host)} {port} {what} &" for what, (host, port) in targets.items()]
    container = {
        "name": "probe", "image": image, "command": ["bash", "-c", f"sleep {PAUSE}\n{SCRIPT}" + "\n".join(lines) + "\nwait"],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }  # fmt: skip
    spec = {
        "restartPolicy": "Never", "automountServiceAccountToken": False, "containers": [container], "terminationGracePeriodSeconds": 0,
        "securityContext": {"runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}},
    }  # fmt: skip
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": place.namespace, "labels": dict(place.labels)}, "spec": spec}


def probe(image: str, places: Mapping[str, Place], targets: Mapping[str, tuple[str, int]]) -> dict[str, set[str]]:
    """Return by place which targets are reached from it."""
    names = {what: f"probe-{secrets.token_hex(3)}" for what in places}
    pods = [make_probe(names[what], place, image, targets) for what, place in places.items()]
    kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": pods}))
    found = {}
    for what, place in places.items():
        _wait(place.namespace, names[what])
        found[what] = set(kubectl("logs", names[what], "-n", place.namespace).split())
        kubectl("delete", "pod", names[what], "-n", place.namespace, "--wait=false")
    return found


def _wait(namespace: str, name: str, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while (status := json.loads(kubectl("get", "pod", name, "-n", namespace, "-o", "json"))["status"]).get("phase") not in {"Succeeded", "Failed"}:
        assert time.monotonic() < end, json.dumps(status)
        time.sleep(0.3)
