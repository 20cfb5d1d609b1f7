"""A long queue of builds on the cluster of KUBECONFIG: two hundred keys, two hubs, one limit."""

from __future__ import annotations

import contextlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import urllib3
from kubernetes import client, config, watch

from config.demo.server import Server
from hubdock.core.kubeobjects import KEY
from hubdock.core.kubestate import find_state
from hubdock.drivers.kube import Cluster
from tests.bench.kube import on_cluster, time_build
from tests.bench.report import Figure
from tests.kit.kube import KubeHub, new_namespace
from tests.kit.kubebuild import Namespace, find_registry
from tests.kit.repos import Project

KEYS, SHARED, LIMIT = 200, 20, 6  # distinct builds that are queued, how many of them two hubs want, how many run at once


@on_cluster
def measure_queue(work: Path, server: Server, rounds: int) -> list[Figure]:
    """KEYS real builds without packages by two hubs that share a namespace and its limit, SHARED of them wanted by both, seen by a watch of every change to a Job."""
    project, registry = make_branches(server, work), find_registry()
    settings = {"HubDock": {
        "allowed_hosts": [server.url], "max_parallel_builds": LIMIT, "kube_cache_volumes": 0, "max_queued_builds": KEYS, "max_queued_builds_per_user": KEYS, "smoke_test": False,
    }}  # fmt: skip
    half = (KEYS + SHARED) // 2
    with new_namespace() as namespace, new_namespace("privileged") as builds, contextlib.ExitStack() as stack:
        place, hubs = Namespace(registry, builds), []
        for number in range(2):
            hub = KubeHub(work / f"hub{number}", settings, namespace, place)
            stack.callback(hub.clean)
            stack.callback(hub.stop)
            time_build(hub.start(), {"repo": project.url, "ref": "main"})  # type: ignore[arg-type]
            hubs.append(hub)
        seen = JobWatch(builds)
        began = time.monotonic()
        with ThreadPoolExecutor(8) as pool:
            asked = [pool.submit(ask_build, hub, project, f"b{n}") for n in range(half) for hub, n in ((hubs[0], n), (hubs[1], KEYS - 1 - n))]
        wanted = {answer.result() for answer in asked}
        ended = {identity: build for hub in hubs for identity, build in wait_builds(hub, half + 1).items()}
        seconds = time.monotonic() - began
        seen.stop()
    failed = [build["error"] for build in ended.values() if build["phase"] != "ready"]
    assert not failed and wanted <= set(ended), failed[:3]
    lost, doubled = KEYS - sum(bool(uids & seen.complete) for uids in seen.uids.values()), sum(len(uids) - 1 for uids in seen.uids.values())
    shown = f"{seconds:.0f} s, {KEYS / seconds:.1f} builds a second; at most {seen.most_waiting} Jobs suspended; {seen.changes} changes seen"
    return [
        Figure(f"Kubernetes: {KEYS} keys queued: most Jobs released at once (limit {LIMIT})", seen.most_released, LIMIT, "lower", 1, shown),
        Figure(f"Kubernetes: {KEYS} keys queued: Jobs lost or doubled", lost + doubled, 0, "lower", 1, f"{lost} lost, {doubled} doubled, {SHARED} wanted by both"),
    ]


def make_branches(server: Server, work: Path) -> Project:
    """Return a project with a branch for each key: its environment has a variable of its own, and no packages."""
    project = Project(server, work, "queue")
    project.write_all({"README.md": "queue\n"}).commit()
    for number in range(KEYS):
        project.git("checkout", "-q", "-b", f"b{number}", "main")
        project.write_all({".hubdock.yml": f'env: {{NUMBER: "{number}"}}\n'}).commit(push=False)
    project.git("push", "-q", "--all", "origin")
    return project


def ask_build(hub: KubeHub, project: Project, branch: str) -> str:
    answer = hub.service("POST", "builds", {"repo": project.url, "ref": branch})
    assert answer.status_code in {200, 202}, answer.text
    return str(answer.json()["id"])


def wait_builds(hub: KubeHub, count: int) -> dict[str, dict[str, Any]]:
    """Return a hub's builds by id, once they have all ended."""

    def find_ended() -> dict[str, dict[str, Any]] | None:
        builds = hub.service("GET", "builds").json()["builds"]
        return {build["id"]: build for build in builds} if len(builds) >= count and all(build["finished"] for build in builds) else None

    found: dict[str, dict[str, Any]] = hub.wait_for(find_ended, 900, "all builds end", pause=2)
    return found


class JobWatch:
    """Every change to the Jobs of environments in a namespace, as the API server tells it. ``uids`` are the Jobs that each key ever had."""

    def __init__(self, namespace: str) -> None:
        self.namespace, self.jobs, self.complete = namespace, dict[str, dict[str, Any]](), set[str]()
        self.uids: dict[str, set[str]] = {}
        self.most_released = self.most_waiting = self.changes = 0
        self._ended = False
        self._watch, self._old = watch.Watch(), {job["metadata"]["uid"] for job in Cluster().list("Job", namespace)}
        self._thread = threading.Thread(target=self._follow, daemon=True)
        config.load_kube_config()
        self._thread.start()

    def _follow(self) -> None:
        while not self._ended:
            with contextlib.suppress(urllib3.exceptions.HTTPError):
                self._read(client.BatchV1Api().list_namespaced_job)

    def _read(self, jobs: Any) -> None:
        for event in self._watch.stream(jobs, self.namespace, label_selector="hubdock/kind=environment"):
            job, self.changes = event["raw_object"], self.changes + 1
            uid = job["metadata"]["uid"]
            if uid in self._old:
                continue
            self.uids.setdefault(job["metadata"]["annotations"][KEY], set()).add(uid)
            if event["type"] == "DELETED":
                self.jobs.pop(uid, None)
            else:
                self.jobs[uid] = job
            states = {uid: find_state(job) for uid, job in self.jobs.items() if uid not in self.complete}
            self.complete |= {uid for uid, state in states.items() if state.complete}
            self.most_released = max(self.most_released, sum(not state.ended and not state.suspended for state in states.values()))
            self.most_waiting = max(self.most_waiting, sum(state.suspended for state in states.values()))

    def stop(self) -> None:
        self._ended = True
        self._watch.stop()
        self._thread.join(5)
