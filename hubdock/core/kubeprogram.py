"""The objects for a program that runs once on a cluster: a Job that passes the *restricted* pod security standard, and a Secret with its files."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hubdock.core.dockerfile import GID, UID
from hubdock.core.kubeobjects import COMPONENT, GRACE, NAME, double_dollars
from hubdock.core.naming import make_hash

CONTAINER = "program"
MARK = "hubdock/mark"  # a label: the hash of the process that runs it
NETWORK = "hubdock/network"  # a label for network policies: ``none`` or ``open``
_TTL = 300
PREPARATION = 1800  # seconds in which a node has its image at last


@dataclass(frozen=True)
class ProgramJob:
    """One program. ``files`` are contents by absolute path; ``mounts`` are (claim, path, subpath, read-only); ``mark`` names the process that runs it."""

    name: str
    namespace: str
    image: str
    command: tuple[str, ...]
    mark: str
    files: Mapping[str, bytes] = field(default_factory=dict)
    mounts: tuple[tuple[str, str, str, bool], ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    network: bool = False
    timeout: float = 600.0
    memory: int | None = None
    pull_secret: str = ""

    @property
    def labels(self) -> dict[str, str]:
        """What it is found by."""
        return {NAME: "hubdock", COMPONENT: "program", MARK: make_mark(self.mark), NETWORK: "open" if self.network else "none"}


def make_mark(text: str) -> str:
    """Return a process's mark as a label's value."""
    return make_hash(text, length=40)


def make_program_job(program: ProgramJob) -> dict[str, Any]:
    """Return the Job. It is tried once more if its pod is taken away; an exit code of its own ends it."""
    rules = [
        {"action": "Count", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        {"action": "FailJob", "onExitCodes": {"containerName": CONTAINER, "operator": "NotIn", "values": [0]}},
    ]
    spec = {
        "backoffLimit": 1, "activeDeadlineSeconds": int(program.timeout) + PREPARATION, "ttlSecondsAfterFinished": _TTL, "podReplacementPolicy": "Failed",
        "podFailurePolicy": {"rules": rules}, "template": {"metadata": {"labels": program.labels}, "spec": _make_pod(program)},
    }  # fmt: skip
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": _make_metadata(program), "spec": spec}


def make_program_secret(program: ProgramJob) -> dict[str, Any]:
    """Return the Secret of its files, which may hold credentials."""
    data = {_name_file(path): base64.b64encode(content).decode() for path, content in program.files.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": _make_metadata(program), "type": "Opaque", "data": data}


def _make_metadata(program: ProgramJob) -> dict[str, Any]:
    return {"name": program.name, "namespace": program.namespace, "labels": program.labels}


def _name_file(path: str) -> str:
    return path.strip("/").replace("/", "_")


def _make_pod(program: ProgramJob) -> dict[str, Any]:
    mounts: list[dict[str, Any]] = [{"name": "tmp", "mountPath": "/tmp"}]  # noqa: S108 (inside the pod)
    mounts += [{"name": "files", "mountPath": path, "subPath": _name_file(path), "readOnly": True} for path in program.files]
    volumes: list[dict[str, Any]] = [{"name": "tmp", "emptyDir": {}}]
    volumes += [{"name": "files", "secret": {"secretName": program.name, "defaultMode": 0o444}}] if program.files else []
    for number, (claim, path, subpath, read_only) in enumerate(program.mounts):
        volumes.append({"name": f"volume-{number}", "persistentVolumeClaim": {"claimName": claim}})
        mounts.append({"name": f"volume-{number}", "mountPath": path, "readOnly": read_only, **({"subPath": subpath} if subpath else {})})
    env = [{"name": name, "value": double_dollars(value)} for name, value in sorted(program.env.items())]
    container = {
        "name": CONTAINER, "image": program.image, "command": list(program.command), "env": env, "volumeMounts": mounts,
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        **({"resources": {"limits": {"memory": program.memory}}} if program.memory else {}),
    }  # fmt: skip
    security = {
        "runAsUser": UID, "runAsGroup": GID, "runAsNonRoot": True, "fsGroup": GID, "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }  # fmt: skip
    pod = {
        "restartPolicy": "Never", "automountServiceAccountToken": False, "enableServiceLinks": False, "terminationGracePeriodSeconds": GRACE,
        "securityContext": security, "containers": [container], "volumes": volumes,
    }  # fmt: skip
    return pod | ({"imagePullSecrets": [{"name": program.pull_secret}]} if program.pull_secret else {})


def make_store_claim(name: str, namespace: str, size: str, storage_class: str) -> dict[str, Any]:
    """Return the claim of the data store: written by fetches, read by any number of servers on any node."""
    spec: dict[str, Any] = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": size}}}
    if storage_class:
        spec["storageClassName"] = storage_class
    metadata = {"name": name, "namespace": namespace, "labels": {NAME: "hubdock", COMPONENT: "data"}}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec}
