"""The objects that hubdock makes on a cluster for a build, each a pure function of one frozen dataclass.

A build is one Job, named by its key: to create it again is to join it (the API server answers 409). It begins suspended, which is the queue: whoever may
releases it. It runs BuildKit in rootless mode without a daemon that outlives it, for in a shared one any build could reach the others. What counts as a failure
of the build is told by exit codes (`hubdock.core.kubescript`): the container's own ends the Job, anything else (a pod that was evicted, deleted or lost its
node) is tried once more. Fields are those of https://kubernetes.io/docs/reference/kubernetes-api/.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hubdock.core.kubescript import SCRIPT, USER_ERROR

NAME, COMPONENT = "app.kubernetes.io/name", "app.kubernetes.io/component"
KIND, SHORT_KEY, CACHE, SCOPE = "hubdock/kind", "hubdock/short-key", "hubdock/cache", "hubdock/scope"  # labels
KEY, WANTED, ENDED, TOLD, CONTEXT = "hubdock/key", "hubdock/wanted-by-", "hubdock/ended", "hubdock/told", "hubdock/context"  # annotations
CONTAINER = "build"
TTL = 900  # seconds that an ended Job stays, for those who join it late and for administrators who look
GRACE = 3
KEY_DIGITS = 48  # 192 bits; the whole key is in an annotation, and is compared
UID = 1000
_HOME = "/home/user"
_STATE = f"{_HOME}/.local/share/buildkit"
_SECRETS = "/hubdock/secrets"
_REGISTRY = "/hubdock/registry"
_EMPTY = {"tmp": "/tmp", "run": f"/run/user/{UID}", "local": f"{_HOME}/.local/tmp"}  # noqa: S108 (inside the pod)


def make_job_name(kind: str, key: str, variant: str = "") -> str:
    """Return the name of the Job of a key: at most 63 characters. ``variant`` tells attempts apart that are made of one key in other ways."""
    return "-".join(filter(None, (kind, key[: KEY_DIGITS - len(variant)], variant)))


@dataclass(frozen=True)
class BuildJob:
    """One build.

    ``image`` is BuildKit's, ``target`` the reference to push to, ``contexts`` images by the name that the Dockerfile knows them by, ``context`` the one of
    them that goes with the build, ``config`` the text of
    buildkitd.toml. ``secrets`` are build secrets and ``args`` build arguments by name: their values are in a Secret of the Job's name. ``cache`` is the claim
    of its cache volume, empty for none, and ``scope`` whose caches it may use; ``owner`` is who wants it, ``timeout`` seconds. ``resources`` are the
    container's, ``pod`` further fields of the pod.
    """

    name: str
    namespace: str
    kind: str
    key: str
    image: str
    target: str
    dockerfile: str
    config: str
    owner: str
    context: str = ""
    contexts: tuple[tuple[str, str], ...] = ()
    secrets: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    cache: str = ""
    scope: str = "public"
    registry_secret: str = ""
    timeout: float = 3600.0
    resources: Mapping[str, Any] = field(default_factory=dict)
    pod: Mapping[str, Any] = field(default_factory=dict)

    @property
    def labels(self) -> dict[str, str]:
        """What the Job, its pods and its Secret are found by."""
        labels = {NAME: "hubdock", COMPONENT: "build", KIND: self.kind, SHORT_KEY: self.key[:12], SCOPE: self.scope}
        return labels | ({CACHE: self.cache} if self.cache else {})


def make_build_job(build: BuildJob) -> dict[str, Any]:
    """Return the Job, suspended."""
    disrupted = {"action": "Count", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
    # 137 is not among them: a pod that is deleted by force ends so, and is to be replaced (`hubdock.drivers.kubebuild` sees which was out of memory).
    failed = {"action": "FailJob", "onExitCodes": {"containerName": CONTAINER, "operator": "In", "values": [USER_ERROR, 2]}}
    spec = {
        "suspend": True, "backoffLimit": 1, "activeDeadlineSeconds": int(build.timeout), "ttlSecondsAfterFinished": TTL, "podReplacementPolicy": "Failed",
        "podFailurePolicy": {"rules": [disrupted, failed]}, "template": {"metadata": {"labels": build.labels}, "spec": _make_pod(build)},
    }  # fmt: skip
    annotations = {KEY: build.key, CONTEXT: build.context, f"{WANTED}{build.owner}": "true"}
    metadata = {"name": build.name, "namespace": build.namespace, "labels": build.labels, "annotations": annotations}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}


def _make_pod(build: BuildJob) -> dict[str, Any]:
    """Rootless BuildKit maps users with file capabilities and mounts within its own user namespace: it needs no privileges, but no filters either."""
    unconfined = {"type": "Unconfined"}
    pod = {
        "restartPolicy": "Never", "automountServiceAccountToken": False, "enableServiceLinks": False, "terminationGracePeriodSeconds": GRACE,
        "securityContext": {
            "runAsUser": UID, "runAsGroup": UID, "runAsNonRoot": True, "fsGroup": UID, "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": unconfined, "appArmorProfile": unconfined,
        },
        "containers": [_make_container(build)], "volumes": _make_volumes(build),
    }  # fmt: skip
    return {**build.pod, **pod}


def _make_container(build: BuildJob) -> dict[str, Any]:
    mounts: list[dict[str, Any]] = [{"name": name, "mountPath": path} for name, path in _EMPTY.items()] + [{"name": "state", "mountPath": _STATE}]
    mounts += [{"name": "secrets", "mountPath": _SECRETS, "readOnly": True}] if build.secrets else []
    mounts += [{"name": "registry", "mountPath": _REGISTRY, "readOnly": True}] if build.registry_secret else []
    return {
        "name": CONTAINER, "image": build.image, "command": ["/bin/sh", "-c", SCRIPT, "sh", *_make_options(build)], "env": _make_env(build),
        "volumeMounts": mounts, **({"resources": dict(build.resources)} if build.resources else {}),
        "securityContext": {
            "allowPrivilegeEscalation": True, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"], "add": ["SETUID", "SETGID"]},
        },
    }  # fmt: skip


def _make_options(build: BuildJob) -> list[str]:
    """Return what ``buildctl build`` is told (https://github.com/moby/buildkit/blob/master/docs/reference/buildctl.md)."""
    output = f"type=image,name={build.target},push=true,oci-mediatypes=true,compression=zstd"
    options = ["--output", output, "--opt", "build-arg:SOURCE_DATE_EPOCH=0"]
    for name, reference in build.contexts:
        options += ["--opt", f"context:{name}=docker-image://{reference}"]
    for name in build.secrets:
        options += ["--secret", f"id={name},src={_SECRETS}/{name}"]
    return options


def _make_env(build: BuildJob) -> list[dict[str, Any]]:
    plain = {
        "HOME": _HOME, "USER": "user", "XDG_RUNTIME_DIR": _EMPTY["run"], "TMPDIR": _EMPTY["local"], "HUBDOCK_DOCKERFILE": double_dollars(build.dockerfile),
        "HUBDOCK_CONFIG": double_dollars(build.config), "HUBDOCK_ARGS": " ".join(build.args),
    }  # fmt: skip
    env: list[dict[str, Any]] = [{"name": name, "value": value} for name, value in plain.items()]
    env += [{"name": "DOCKER_CONFIG", "value": _REGISTRY}] if build.registry_secret else []
    return env + [{"name": name, "valueFrom": {"secretKeyRef": {"name": build.name, "key": name}}} for name in build.args]


def double_dollars(text: str) -> str:
    """Return a value of the environment as it has to be written: Kubernetes puts the value of another variable in place of ``$(NAME)``."""
    return text.replace("$(", "$$(")


def _make_volumes(build: BuildJob) -> list[dict[str, Any]]:
    volumes: list[dict[str, Any]] = [{"name": name, "emptyDir": {}} for name in _EMPTY]
    volumes.append({"name": "state", "persistentVolumeClaim": {"claimName": build.cache}} if build.cache else {"name": "state", "emptyDir": {}})
    if build.secrets:
        items = [{"key": name, "path": name} for name in build.secrets]
        volumes.append({"name": "secrets", "secret": {"secretName": build.name, "defaultMode": 0o440, "items": items}})
    if build.registry_secret:
        items = [{"key": ".dockerconfigjson", "path": "config.json"}]
        volumes.append({"name": "registry", "secret": {"secretName": build.registry_secret, "defaultMode": 0o440, "items": items}})
    return volumes


def make_build_secret(build: BuildJob, values: Mapping[str, str], owner: str) -> dict[str, Any]:
    """Return the Secret of a Job's values; ``owner`` is the Job's uid, with which it goes."""
    reference = {"apiVersion": "batch/v1", "kind": "Job", "name": build.name, "uid": owner}
    metadata = {"name": build.name, "namespace": build.namespace, "labels": build.labels, "ownerReferences": [reference]}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque", "stringData": dict(values)}


@dataclass(frozen=True)
class CacheClaim:
    """One of a scope's cache volumes. ``storage_class`` is empty for the cluster's own default."""

    name: str
    namespace: str
    scope: str
    size: str
    storage_class: str = ""


def make_cache_name(scope: str, number: int) -> str:
    """Return the name of one of a scope's cache volumes."""
    return f"hubdock-cache-{scope}-{number}"


def make_cache_claim(claim: CacheClaim) -> dict[str, Any]:
    """Return the claim. ReadWriteOncePod: of two pods on one cache the second would die; so it waits, and says so."""
    spec: dict[str, Any] = {"accessModes": ["ReadWriteOncePod"], "resources": {"requests": {"storage": claim.size}}}
    if claim.storage_class:
        spec["storageClassName"] = claim.storage_class
    labels = {NAME: "hubdock", COMPONENT: "cache", SCOPE: claim.scope}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": claim.name, "namespace": claim.namespace, "labels": labels}, "spec": spec}


def make_builder_config(insecure: tuple[str, ...], cache_bytes: int) -> str:
    """Return buildkitd.toml (https://github.com/moby/buildkit/blob/master/docs/buildkitd.toml.md): plain HTTP where the admin says so, and how much is kept."""
    lines = []
    if cache_bytes:
        lines += ["[worker.oci]", "  gc = true", "  [[worker.oci.gcpolicy]]", "    all = true", f"    maxUsedSpace = {cache_bytes}"]
    for host in insecure:
        lines += [f'[registry."{host}"]', "  http = true"]
    return "\n".join([*lines, ""])
