"""What of a launch becomes which setting of KubeSpawner: pure, compared whole with golden files.

A volume of a launch is a PersistentVolumeClaim of its name, but for the home, which has no claim of its own. The workspace's claim holds the home of its server as well, with the workspace
in it, unless the team has one volume that all servers may mount, where each user has a home for all of their servers. A workspace is at the same place of its claim
either way, so a team can begin with the one and go over to the other.

Guaranteed of everything that a user typed: KubeSpawner's templates (``str.format``) and the expansion of ``$(NAME)`` in pods leave it as it is, and labels are ones that
Kubernetes takes. The whole text is in the annotation of the label's name.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hubdock.core.errors import BackendError
from hubdock.core.naming import make_hash, make_slug
from hubdock.core.project import HOME

RUN = "/hubdock/run"
CLAIM_LABELS = frozenset({"hubdock.user", "hubdock.server", "hubdock.repo", "hubdock.branch"})  # the others change from start to start
_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")  # https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/
_CLAIM = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")


@dataclass(frozen=True)
class Stock:
    """What the admin configured of KubeSpawner, which a launch adds to. CPU in cores, memory in bytes; None: no limit, or Kubernetes' own choice."""

    cpu_limit: float | None = None
    mem_limit: int | None = None
    cpu_guarantee: float | None = None
    mem_guarantee: int | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    limits: Mapping[str, str] = field(default_factory=dict)
    guarantees: Mapping[str, str] = field(default_factory=dict)
    volumes: Sequence[Mapping[str, Any]] = ()
    mounts: Sequence[Mapping[str, Any]] = ()
    pod: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Places:
    """Where a server's volumes are: the claim of its workspace; the one that holds everybody's homes, empty for none, and the user's part of it."""

    workspace: str
    home: str = ""
    user: str = ""


def make_settings(launch: Mapping[str, Any], stock: Stock, places: Places, gpu_resource: str) -> dict[str, Any]:
    """Return the attributes of KubeSpawner for one pod, by name.

    ``launch`` is `hubdock.engine.launch.Launch` as a dictionary. Of a limit and the admin's the smaller holds, and no more is reserved than that.
    """
    resources = launch.get("resources") or {}
    volumes, mounts = make_volumes(launch, places)
    labels, gpu = launch.get("labels") or {}, _make_gpu(resources, gpu_resource)
    cpu, memory = _least(resources.get("cpu"), stock.cpu_limit), _least(resources.get("memory"), stock.mem_limit)
    return {
        # The image's own is the workspace, which a runtime would make in the volume: as root.
        "image": launch["image"], "working_dir": HOME,
        "extra_labels": {**stock.labels, **{name: make_label(value) for name, value in labels.items()}},
        "extra_annotations": {**stock.annotations, **{name: make_literal(value) for name, value in labels.items()}},
        "cpu_limit": cpu, "cpu_guarantee": _reserve(stock.cpu_guarantee, cpu), "mem_limit": memory, "mem_guarantee": _reserve(stock.mem_guarantee, memory),
        "extra_resource_limits": {**stock.limits, **gpu}, "extra_resource_guarantees": {**stock.guarantees, **gpu},
        "volumes": [*stock.volumes, *volumes], "volume_mounts": [*stock.mounts, *mounts],
        # A server that ends has ended, as on Docker: the hub is told, and the next start is a new one.
        "extra_pod_config": {"enableServiceLinks": False, "restartPolicy": "Never", **stock.pod},
    }  # fmt: skip


def make_claim_settings(launch: Mapping[str, Any], labels: Mapping[str, str], annotations: Mapping[str, str]) -> dict[str, Any]:
    """Return the attributes of KubeSpawner for the workspace's claim, beside the admin's labels and annotations: whose it is, and what is in it."""
    told = {name: value for name, value in (launch.get("labels") or {}).items() if name in CLAIM_LABELS}
    return {
        "storage_extra_labels": {**labels, "hubdock.kind": "workspace", **{name: make_label(value) for name, value in told.items()}},
        "storage_extra_annotations": {**annotations, **{name: make_literal(value) for name, value in told.items()}},
    }


def find_claim(launch: Mapping[str, Any], otherwise: str) -> str:
    """Return the claim of a launch's workspace: the name that the engine knows it by, or another."""
    found = (str(mount["volume"]) for mount in launch.get("mounts") or () if mount["target"] == launch["workspace"] and mount.get("volume"))
    return next(found, otherwise)


def make_home_part(user: str) -> str:
    """Return the directory of a user's home in the volume of all homes."""
    return f"homes/{make_slug(user, 32)}-{make_hash(user, length=12)}"


def make_volumes(launch: Mapping[str, Any], places: Places) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the volumes and mounts of a launch. Raises BackendError for a claim that is none."""
    volumes: dict[str, dict[str, Any]] = {}
    mounts: list[dict[str, Any]] = []

    def mount(name: str, source: dict[str, Any], target: str, subpath: str = "", read_only: bool = False) -> None:
        volumes[name] = {"name": name, **source}
        mounts.append({"name": name, "mountPath": target, **({"subPath": subpath} if subpath else {}), **({"readOnly": True} if read_only else {})})

    mount("hubdock-run", {"emptyDir": {}}, RUN)
    work = {"persistentVolumeClaim": {"claimName": places.workspace}}
    if places.home:
        mount("hubdock-home", {"persistentVolumeClaim": {"claimName": places.home}}, HOME, places.user)
        mount("hubdock-work", work, launch["workspace"], f"home/{posixpath.relpath(launch['workspace'], HOME)}")
    else:
        mount("hubdock-work", work, HOME, "home")
    for entry in launch.get("mounts") or ():
        claim = str(entry["volume"])
        if entry["target"] in {HOME, launch["workspace"]}:
            continue
        if not _CLAIM.fullmatch(claim):
            raise BackendError("hubdock's service names a volume that can't be one. Tell an administrator.", claim)
        source = {"persistentVolumeClaim": {"claimName": claim, **({"readOnly": True} if entry.get("read_only") else {})}}
        mount(f"hubdock-{make_hash(claim)}", source, entry["target"], entry.get("subpath") or "", bool(entry.get("read_only")))
    shm = (launch.get("resources") or {}).get("shm")
    if shm:
        mount("hubdock-shm", {"emptyDir": {"medium": "Memory", "sizeLimit": str(shm)}}, "/dev/shm")  # noqa: S108
    return list(volumes.values()), mounts


def make_label(text: str) -> str:
    """Return a label's value: the text where it can be one, else a readable part of it and a hash."""
    if not text or _LABEL.fullmatch(text):
        return text
    return f"{make_slug(text, 40)}-{make_hash(text, length=12)}"


def make_literal(text: str) -> str:
    """Return text that KubeSpawner's templates leave as it is. What is not Unicode is replaced: Kubernetes takes nothing else."""
    return text.encode("utf-8", "replace").decode().replace("{", "{{").replace("}", "}}")


def make_value(text: str) -> str:
    """Return the value of an environment variable that Kubernetes leaves as it is: ``$$`` is its escaped ``$``
    (https://kubernetes.io/docs/tasks/inject-data-application/define-interdependent-environment-variables/)."""
    return text.encode("utf-8", "replace").decode().replace("$", "$$")


def _make_gpu(resources: Mapping[str, Any], name: str) -> dict[str, str]:
    """An extended resource is reserved and limited alike, whole devices only."""
    return {name: str(resources["gpu"])} if resources.get("gpu") else {}


def _least(asked: Any, limit: Any) -> Any:
    return min((value for value in (asked, limit) if value), default=None)


def _reserve(guarantee: Any, limit: Any) -> Any:
    """Never more than the limit, which Kubernetes refuses. None: as much as the limit, which Kubernetes does by itself."""
    return min(guarantee, limit) if guarantee and limit else guarantee or None
