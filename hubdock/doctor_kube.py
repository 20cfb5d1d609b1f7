"""What hubdock stands on where it builds on a cluster: the API server, what it may do there, the registry, and the images that builds need."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from hubdock.core.errors import HubDockError
from hubdock.doctor import Check
from hubdock.engine.backend import open_backend
from hubdock.engine.backend_kube import KubeBackend
from hubdock.engine.config import HubDock

# What a build takes: (group, resource, verb). The chart's Role for the builds' namespace holds exactly these.
PERMISSIONS = (
    *(("batch", "jobs", verb) for verb in ("get", "list", "create", "patch", "delete")), *(("", "pods", verb) for verb in ("list", "delete")),
    ("", "pods/log", "get"), ("", "events", "list"), *(("", "secrets", verb) for verb in ("create", "delete")),
    *(("", "persistentvolumeclaims", verb) for verb in ("get", "create")), *(("coordination.k8s.io", "leases", verb) for verb in ("get", "create", "patch")),
)  # fmt: skip


def list_steps(settings: HubDock, offers_gpu: bool) -> list[tuple[str, Callable[[], Iterator[Check]]]]:
    """Return the checks that take the place of those of a Docker Engine."""
    backend = open_backend(settings.backend_values)
    assert isinstance(backend, KubeBackend)
    return [
        ("cluster", lambda: check_cluster(backend)), ("permissions", lambda: check_permissions(backend)), ("registry", lambda: check_registry(backend)),
        ("builder image", lambda: check_image(backend, "builder image", settings.kube_buildkit_image, "fail")), ("base image", lambda: check_bases(backend, settings, offers_gpu)),
    ]  # fmt: skip


def check_cluster(backend: KubeBackend) -> Iterator[Check]:
    """The API server answers, and the builds' namespace lets BuildKit run."""
    name, namespace = "cluster", backend.build_place.namespace
    version = backend.cluster.request("GET", "/version") or {}
    yield Check(name, "ok", f"Kubernetes {version.get('gitVersion', 'of an unknown version')}")
    try:
        found = backend.cluster.request("GET", f"/api/v1/namespaces/{namespace}")
    except HubDockError:
        yield Check(name, "ok", f"builds run in the namespace {namespace}, which can't be looked at from here")
        return
    if found is None:
        yield Check(name, "fail", f"there is no namespace {namespace}", f"Run `kubectl create namespace {namespace}`, or set HubDock.kube_namespace.")
        return
    level = (found["metadata"].get("labels") or {}).get("pod-security.kubernetes.io/enforce", "privileged")
    if level != "privileged":
        mend = f"Run `kubectl label --overwrite namespace {namespace} pod-security.kubernetes.io/enforce=privileged`, and keep everything else out of it."
        yield Check(name, "fail", f"the namespace {namespace} enforces the standard “{level}”, under which no image can be built", mend)


def check_permissions(backend: KubeBackend) -> Iterator[Check]:
    """The account may do what a build takes, by the cluster's own word."""
    namespace = backend.build_place.namespace
    lacking = [f"{verb} {resource}" for group, resource, verb in PERMISSIONS if not _may(backend, namespace, group, resource, verb)]
    if lacking:
        yield Check("permissions", "fail", f"hubdock's account may not, in {namespace}: {', '.join(lacking)}", "Give it the Role of the chart (helm/hubdock).")
    else:
        yield Check("permissions", "ok", f"hubdock's account may do in {namespace} what builds take")


def _may(backend: KubeBackend, namespace: str, group: str, resource: str, verb: str) -> bool:
    kind, _, part = resource.partition("/")
    wanted = {"namespace": namespace, "group": group, "resource": kind, "subresource": part, "verb": verb}
    body: dict[str, Any] = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": {"resourceAttributes": wanted}}
    found = backend.cluster.request("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", body=body)
    return bool(((found or {}).get("status") or {}).get("allowed"))


def check_registry(backend: KubeBackend) -> Iterator[Check]:
    """The registry answers, and lets hubdock look at its own images."""
    backend.list_checks()["registry"]()
    yield Check("registry", "ok", f"{backend.build_place.registry} answers")


def check_image(backend: KubeBackend, name: str, reference: str, severity: str) -> Iterator[Check]:
    """An image is in its registry. Nodes may have ways to one that hubdock has not: a registry that can't be asked is a warning."""
    try:
        found = backend.inspect_image(reference)
    except HubDockError as error:
        yield Check(name, "warn", f"{reference}: {error.message}", "Check the name and the network.")
        return
    if found is None:
        yield Check(name, severity, f"{reference} is not in its registry", "Check the name, or bring it there.")
    else:
        yield Check(name, "ok", f"{reference} is in its registry")


def check_bases(backend: KubeBackend, settings: HubDock, offers_gpu: bool) -> Iterator[Check]:
    """Each base is in its registry. Whether it is as hubdock needs it is tried at its first use."""
    yield from check_image(backend, "base image", settings.base_image, "fail")
    if offers_gpu and settings.gpu_base_image:
        yield from check_image(backend, "base image for GPUs", settings.gpu_base_image, "warn")
    for name, reference in sorted(settings.base_images.items()):
        yield from check_image(backend, f"base image {name}", reference, "warn")
