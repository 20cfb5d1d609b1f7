"""A cluster in memory with the interface of `hubdock.drivers.kube.Cluster`, and a registry with what builds need of one. Jobs do what a script says."""

from __future__ import annotations

import copy
import hashlib
import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import IO, Any

from hubdock.core.oci import Descriptor, make_digest
from hubdock.drivers.kube import Conflict, make_unavailable

STEP = {"digest": "d1", "name": "RUN install", "started": "2026-01-01T00:00:00Z"}


def say(**more: Any) -> str:
    """Return one line of BuildKit's progress about a step."""
    return json.dumps({"vertexes": [{**STEP, **more}]})


@dataclass
class Run:
    """What one pod of a Job does: its lines, then its end. ``code`` None: it is deleted by force. It ends when ``held`` is set; the Job is looked at ``later``.
    A ``short`` one is never said to run."""

    lines: list[str] = field(default_factory=lambda: [say(), say(completed="2026-01-01T00:00:02Z")])
    code: int | None = 0
    reason: str = "Error"
    later: float = 0.0
    short: bool = False
    held: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.held.set()


class FakeCluster:
    """Objects by (kind, namespace, name). ``runs`` are what the next pods do; ``away`` makes every request fail."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str, str], dict[str, Any]] = {}
        self.runs: list[Run] = []
        self.logs: dict[str, list[str]] = {}
        self.away = threading.Event()
        self.made: list[dict[str, Any]] = []
        self.on_complete: Callable[[dict[str, Any]], None] = lambda job: None
        self._numbers = itertools.count(1)
        self._lock = threading.RLock()

    def _check(self) -> None:
        if self.away.is_set():
            raise make_unavailable("connection refused")

    def get(self, kind: str, namespace: str, name: str) -> dict[str, Any] | None:
        self._check()
        with self._lock:
            return copy.deepcopy(self.objects.get((kind, namespace, name)))

    def list(self, kind: str, namespace: str, labels: str = "", fields: str = "") -> list[dict[str, Any]]:
        self._check()
        wanted = dict(pair.split("=") for pair in labels.split(",") if pair)
        with self._lock:
            found = [body for (k, n, _), body in self.objects.items() if (k, n) == (kind, namespace)]
            return copy.deepcopy([body for body in found if wanted.items() <= body["metadata"].get("labels", {}).items()])

    def create(self, body: Mapping[str, Any]) -> dict[str, Any] | None:
        self._check()
        with self._lock:
            body = copy.deepcopy(dict(body))
            place = (body["kind"], body["metadata"]["namespace"], body["metadata"]["name"])
            if place in self.objects:
                return None
            number = next(self._numbers)
            body["metadata"] |= {"uid": f"uid-{number}", "resourceVersion": str(number), "creationTimestamp": f"2026-01-01T00:{number // 60:02}:{number % 60:02}Z"}
            self.objects[place] = body
            if body["kind"] == "Job":
                self.made.append(body)
            return copy.deepcopy(body)

    def patch(self, kind: str, namespace: str, name: str, body: Mapping[str, Any]) -> dict[str, Any] | None:
        self._check()
        with self._lock:
            known = self.objects.get((kind, namespace, name))
            if known is None:
                return None
            version = body.get("metadata", {}).get("resourceVersion")
            if version and version != known["metadata"]["resourceVersion"]:
                raise Conflict("the object has been modified")
            released = kind == "Job" and known["spec"].get("suspend") and body.get("spec", {}).get("suspend") is False
            _merge(known, body)
            known["metadata"]["resourceVersion"] = str(next(self._numbers))
            if released:
                threading.Thread(target=self._control, args=(known,), daemon=True).start()
            return copy.deepcopy(known)

    def delete(self, kind: str, namespace: str, name: str, *, grace: int | None = None, version: str = "", uid: str = "") -> bool:
        self._check()
        with self._lock:
            known = self.objects.get((kind, namespace, name))
            if known is None:
                return False
            if (version and version != known["metadata"]["resourceVersion"]) or (uid and uid != known["metadata"]["uid"]):
                raise Conflict("the precondition failed")
            del self.objects[kind, namespace, name]
            return True

    def stream_log(self, namespace: str, pod: str, container: str, since: str = "") -> Iterator[tuple[str, str]]:
        self._check()
        for number, line in enumerate(list(self.logs.get(pod, []))):
            yield f"2026-01-01T00:00:00.{number:06}Z", line

    def _control(self, job: dict[str, Any]) -> None:
        """The Job controller and the kubelet."""
        failures = 0
        while True:
            run = self.runs.pop(0) if self.runs else Run()
            name = f"{job['metadata']['name'][:50]}-{next(self._numbers)}"
            labels = {"batch.kubernetes.io/job-name": job["metadata"]["name"], "batch.kubernetes.io/controller-uid": job["metadata"]["uid"]}
            pod = {"kind": "Pod", "metadata": {"name": name, "namespace": job["metadata"]["namespace"], "labels": labels}, "status": {"phase": "Pending" if run.short else "Running"}}
            self.create(pod)
            self.logs[name] = list(run.lines)
            run.held.wait(20)
            time.sleep(0.6)
            with self._lock:
                if run.code == 0 and self.objects.get(("Job", job["metadata"]["namespace"], job["metadata"]["name"])) is job:
                    self.on_complete(job)
                if run.code is None:
                    self.objects.pop(("Pod", job["metadata"]["namespace"], name), None)
                else:
                    state = {"terminated": {"exitCode": run.code, "reason": run.reason if run.code else "Completed"}}
                    known = self.objects.get(("Pod", job["metadata"]["namespace"], name))
                    if known is not None:
                        known["status"] |= {"containerStatuses": [{"state": state}], **({"phase": "Failed"} if run.code else {})}
            time.sleep(run.later)
            with self._lock:
                if self.objects.get(("Job", job["metadata"]["namespace"], job["metadata"]["name"])) is not job:
                    return
                if run.code == 0:
                    job["status"] = {"conditions": [{"type": "Complete", "status": "True"}]}
                    return
                failures += 1
                if run.code == 1 or failures > job["spec"]["backoffLimit"]:
                    reason = "PodFailurePolicy" if run.code == 1 else "BackoffLimitExceeded"
                    job["status"] = {"conditions": [{"type": "Failed", "status": "True", "reason": reason}]}
                    return


def _merge(known: dict[str, Any], body: Mapping[str, Any]) -> None:
    for name, value in body.items():
        if isinstance(value, Mapping):
            _merge(known.setdefault(name, {}), value)
        elif value is None:
            known.pop(name, None)
        else:
            known[name] = value


class FakeRegistry:
    """Manifests by (repository, tag or digest), and blobs by digest."""

    def __init__(self) -> None:
        self.manifests: dict[tuple[str, str], bytes] = {}
        self.blobs: dict[str, bytes] = {}

    def find_digest(self, repository: str, reference: str) -> str | None:
        content = self.manifests.get((repository, reference))
        return None if content is None else make_digest(content)

    def has_blob(self, repository: str, digest: str) -> bool:
        return digest in self.blobs

    def upload_blob(self, repository: str, descriptor: Descriptor, file: IO[bytes], upload: str = "") -> None:
        file.seek(0)
        content = file.read()
        assert descriptor.digest == f"sha256:{hashlib.sha256(content).hexdigest()}" and descriptor.size == len(content)
        self.blobs[descriptor.digest] = content

    def put_manifest(self, repository: str, reference: str, content: bytes) -> str:
        digest = make_digest(content)
        self.manifests[repository, reference] = self.manifests[repository, digest] = content
        return digest

    def delete_manifest(self, repository: str, digest: str) -> bool:
        gone = [place for place, content in self.manifests.items() if place[0] == repository and make_digest(content) == digest]
        for place in gone:
            del self.manifests[place]
        return bool(gone)
