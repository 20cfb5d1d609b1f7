"""Pods that tell what they reach over the network, again and again: who enforces policies knows of a new pod or a removed policy only after a moment."""

from __future__ import annotations

import contextlib
import json
import secrets
import shlex
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tests.kit.kube import kubectl

PATIENCE = 90.0
SCRIPT = """
reach() { timeout 3 bash -c "exec 3<>/dev/tcp/$1/$2" 2>/dev/null && echo "$3"; }
while :; do
  sleep 2
  %s
  wait
  echo .
done
"""


@dataclass(frozen=True)
class Place:
    """A namespace, and the labels by which policies know a pod there."""

    namespace: str
    labels: Mapping[str, str]


def make_probe(name: str, place: Place, image: str, targets: Mapping[str, tuple[str, int]]) -> dict[str, Any]:
    """Return a pod that prints, round by round, which targets it reaches. It passes the standard *restricted*."""
    tries = "\n  ".join(f"reach {shlex.quote(host)} {port} {what} &" for what, (host, port) in targets.items())
    container = {
        "name": "probe", "image": image, "command": ["bash", "-c", SCRIPT % tries], "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }  # fmt: skip
    spec = {
        "restartPolicy": "Never", "automountServiceAccountToken": False, "containers": [container], "terminationGracePeriodSeconds": 0, "activeDeadlineSeconds": 600,
        "securityContext": {"runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}},
    }  # fmt: skip
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": place.namespace, "labels": dict(place.labels)}, "spec": spec}


Look = Callable[[], dict[str, set[str] | None]]


@contextlib.contextmanager
def probing(image: str, places: Mapping[str, Place], targets: Mapping[str, tuple[str, int]]) -> Iterator[Look]:
    """Hold a pod at each place. What is given tells by place what was reached in the last round, None where there was none yet."""
    names = {what: f"probe-{secrets.token_hex(3)}" for what in places}
    pods = [make_probe(names[what], place, image, targets) for what, place in places.items()]
    kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": pods}))
    try:
        yield lambda: {what: _read(place.namespace, names[what]) for what, place in places.items()}
    finally:
        for what, place in places.items():
            kubectl("delete", "pod", names[what], "-n", place.namespace, "--wait=false", check=False)


def _read(namespace: str, name: str) -> set[str] | None:
    rounds = kubectl("logs", name, "-n", namespace, check=False).split(".\n")[:-1]
    return set(rounds[-1].split()) if rounds else None


def settle(look: Callable[[], Any], expected: Any, seconds: float = PATIENCE) -> Any:
    """Return what is seen once it is as expected, or what is seen last: a way that is open stays open."""
    end = time.monotonic() + seconds
    while (found := look()) != expected and time.monotonic() < end:
        time.sleep(0.5)
    return found
