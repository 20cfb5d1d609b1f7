"""The queue of builds on the API server: Jobs that wait are suspended, and whoever looks releases those whose turn it is, one looker at a time.

Several hubdocks may share a namespace, so the limit is held under a lock: a Lease, which its holder gives back, and which is anybody's once it has expired.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from hubdock.core import kubeobjects as objects
from hubdock.core.kubestate import find_cache, find_state, list_releasable, list_waiting
from hubdock.drivers.kube import Cluster, Conflict
from hubdock.drivers.kubeplace import BuildPlace

_LOCK = "hubdock-queue"
_SECONDS = 15
_BUILDS = f"{objects.NAME}=hubdock,{objects.COMPONENT}=build"
_NOT_DONE = "status.successful=0"  # Jobs that ended well stay for a while: to list hundreds of them at each look costs the API server, and us, a processor


def release(cluster: Cluster, place: BuildPlace, name: str) -> int:
    """Release the Jobs whose turn it is; return where a Job is among those that wait (from 1), 0 if it waits no more."""
    jobs = cluster.list("Job", place.namespace, _BUILDS, _NOT_DONE)
    if list_releasable(jobs, place.limit):
        with _locked(cluster, place.namespace) as held:
            if held:
                jobs = cluster.list("Job", place.namespace, _BUILDS, _NOT_DONE)
                for chosen in list_releasable(jobs, place.limit):
                    cluster.patch("Job", place.namespace, chosen, {"spec": {"suspend": False}})
                jobs = cluster.list("Job", place.namespace, _BUILDS, _NOT_DONE)
    waiting = [job["metadata"]["name"] for job in list_waiting(jobs)]
    return waiting.index(name) + 1 if name in waiting else 0


@contextmanager
def _locked(cluster: Cluster, namespace: str) -> Iterator[bool]:
    """Hold the queue, if it can be had now."""
    holder, now = uuid.uuid4().hex, datetime.now(UTC)
    spec = {"holderIdentity": holder, "leaseDurationSeconds": _SECONDS, "renewTime": now.isoformat(timespec="microseconds").replace("+00:00", "Z")}
    lease = cluster.get("Lease", namespace, _LOCK)
    version = ""
    if lease is None:
        metadata = {"name": _LOCK, "namespace": namespace, "labels": {objects.NAME: "hubdock"}}
        made = cluster.create({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec})
        version = made["metadata"]["resourceVersion"] if made else ""
    elif _is_free(lease, now):
        with suppress(Conflict):
            taken = cluster.patch("Lease", namespace, _LOCK, {"metadata": {"resourceVersion": lease["metadata"]["resourceVersion"]}, "spec": spec})
            version = taken["metadata"]["resourceVersion"] if taken else ""
    try:
        yield bool(version)
    finally:
        if version:
            with suppress(Conflict):  # it took too long, and somebody else has it
                cluster.patch("Lease", namespace, _LOCK, {"metadata": {"resourceVersion": version}, "spec": {"holderIdentity": ""}})


def _is_free(lease: dict[str, Any], now: datetime) -> bool:
    spec = lease.get("spec") or {}
    if not spec.get("holderIdentity") or not spec.get("renewTime"):
        return True
    return bool(datetime.fromisoformat(spec["renewTime"]) + timedelta(seconds=_SECONDS) < now)


def ensure_cache(cluster: Cluster, place: BuildPlace, scope: str) -> str:
    """Return the claim of the cache volume that a new build of a scope gets: the one that the fewest builds use or wait for. It is made if it is not there."""
    if not place.cache_volumes:
        return ""
    names = [objects.make_cache_name(scope, number) for number in range(place.cache_volumes)]
    used = [find_cache(job) for job in cluster.list("Job", place.namespace, f"{_BUILDS},{objects.SCOPE}={scope}", _NOT_DONE) if not find_state(job).ended]
    name = min(names, key=lambda name: (used.count(name), name))
    if cluster.get("PersistentVolumeClaim", place.namespace, name) is None:
        claim = objects.CacheClaim(name, place.namespace, scope, str(place.cache_bytes), place.storage_class)
        cluster.create(objects.make_cache_claim(claim))
    return name
