"""A build on a cluster, with a cluster in memory: who makes the Job, who joins it, and what each end means."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

import pytest

from hubdock.core.errors import BackendError, ImageGone, OutOfMemory, RegistryUnavailable
from hubdock.core.kubeobjects import TOLD
from hubdock.core.kubestate import find_state, list_wanted
from hubdock.core.reference import parse_reference
from hubdock.drivers import kubebuild, kubequeue
from hubdock.drivers.context import Context
from hubdock.drivers.kubebuild import KubeSolver
from hubdock.drivers.kubeplace import BuildPlace
from hubdock.drivers.solve import BuildRequest, Cancelled, StepFailed
from tests.kit.fakekube import FakeCluster, FakeRegistry, Run, say

KEY = "ab" * 32
TAG = f"hubdock/environment:{KEY}"
TARGET = parse_reference(f"registry.test/team/environment:{KEY}")
FAILED = say(completed="2026-01-01T00:00:01Z", error='process "/bin/sh -c install" did not complete successfully: exit code: 3')


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubebuild, "POLL", 0.02)


class Site:
    """A cluster and its registry, and builds there."""

    def __init__(self, tools: Path) -> None:
        self.cluster, self.registry = FakeCluster(), FakeRegistry()
        self.cluster.on_complete = lambda job: self.registry.manifests.update({(TARGET.repository, TARGET.tag): b"{}"})
        self.tools = tools
        self.told: list[tuple[str, str]] = []

    def solver(self, owner: str = "one", limit: int = 4, tag: str = TAG, **request: Any) -> KubeSolver:
        place = BuildPlace("builds", "registry.test/team", "buildkit", owner, limit, cache_volumes=2, cache_bytes=2**30)
        asked = BuildRequest(tag, contexts={"tools": self.tools}, secrets={"netrc": "machine x"}, **request)
        target = parse_reference(tag.replace("hubdock", "registry.test/team"))
        return KubeSolver(self.cluster, self.registry, place, asked, target, lambda kind, text, percent: self.told.append((kind, text)))  # type: ignore[arg-type]

    def start(self, solver: KubeSolver) -> Future[dict[str, float]]:
        future: Future[dict[str, float]] = ThreadPoolExecutor(1).submit(solver.run, write_context)
        return future

    def jobs(self) -> list[dict[str, Any]]:
        return self.cluster.list("Job", "builds")


def write_context(target: IO[bytes]) -> None:
    context = Context(target)
    context.add_bytes("Dockerfile", b"FROM base\nRUN --mount=type=bind,source=settings,target=/s true\n")
    context.add_bytes("settings/install.json", b"{}")
    context.close()


def wait_for(condition: Callable[[], Any], seconds: float = 5.0) -> Any:
    until = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < until
        time.sleep(0.01)
    return found


@pytest.fixture
def site(tmp_path: Path) -> Site:
    tools = tmp_path / "0123abcd"
    tools.mkdir()
    (tools / "uv").write_bytes(b"program")
    (tools / "uv").chmod(0o755)
    return Site(tools)


def test_one_job_makes_the_image(site: Site) -> None:
    assert site.solver().run(write_context) == {"RUN install": 2.0}
    (job,) = site.jobs()
    container = job["spec"]["template"]["spec"]["containers"][0]
    env = {entry["name"]: entry.get("value") for entry in container["env"]}
    assert "from=hubdock-context,source=settings" in env["HUBDOCK_DOCKERFILE"] and "machine x" not in json.dumps(job)
    assert any(word.startswith("context:tools=docker-image://registry.test/team/tools@sha256:") for word in container["command"])
    assert ("step", "RUN install") in site.told and ("phase", "building") in site.told
    assert not [repository for repository, _ in site.registry.manifests if repository.endswith("context")], "what only the build needed is gone"
    assert [repository for repository, _ in site.registry.manifests if repository.endswith("tools")], "what the next build needs too stays"
    secret = site.cluster.get("Secret", "builds", job["metadata"]["name"])
    assert secret and secret["metadata"]["ownerReferences"][0]["uid"] == job["metadata"]["uid"]


def test_an_end_is_seen_in_the_pod_before_the_job_says_so(site: Site) -> None:
    """Its log is told though it was over before its pod was said to run, and its cache volume is the next one's."""
    site.cluster.runs = [Run(later=30, short=True), Run([say(), FAILED], 1, later=30)]
    assert site.solver().run(write_context) == {"RUN install": 2.0}
    (job,) = site.jobs()
    assert not job.get("status") and find_state(job).complete
    site.cluster.delete("Job", "builds", job["metadata"]["name"])
    with pytest.raises(StepFailed):
        site.solver().run(write_context)
    assert find_state(site.jobs()[0]).failed


def test_two_hubs_share_a_job_and_the_last_one_ends_it(site: Site) -> None:
    held = Run()
    held.held.clear()
    site.cluster.runs = [held]
    solvers = [site.solver(owner) for owner in ("one", "two")]
    futures = [site.start(solver) for solver in solvers]
    wait_for(lambda: site.jobs() and list_wanted(site.jobs()[0]) == {"one", "two"})
    wait_for(lambda: all(solver._log for solver in solvers))
    solvers[0].cancel()
    with pytest.raises(Cancelled):
        futures[0].result(2)  # though the log has no end yet
    assert list_wanted(site.jobs()[0]) == {"two"} and len(site.cluster.made) == 1
    solvers[1].cancel()
    with pytest.raises(Cancelled):
        futures[1].result(5)
    assert site.jobs() == [] and site.cluster.list("Pod", "builds") == []
    held.held.set()


def test_an_error_of_the_user_is_told_once_and_the_next_start_tries_again(site: Site) -> None:
    site.cluster.runs = [Run([say(), FAILED], 1)]
    with pytest.raises(StepFailed) as caught:
        site.solver().run(write_context)
    assert caught.value.exit_code == 3 and TOLD in site.jobs()[0]["metadata"]["annotations"]
    site.solver().run(write_context)
    assert len(site.cluster.made) == 2


def test_a_way_that_leads_on_is_not_tried_again(site: Site) -> None:
    """Who joins later goes the same way without doing it again."""
    site.cluster.runs = [Run([say(), FAILED], 1)]
    for _ in range(2):
        with pytest.raises(StepFailed):
            site.solver(onward=frozenset({3})).run(write_context)
    assert len(site.cluster.made) == 1
    site.solver(variant="source").run(write_context)
    assert [job["metadata"]["name"][-7:] for job in site.cluster.made][1] == "-source"


def test_a_pod_that_is_lost_is_replaced_and_its_log_begins_anew(site: Site) -> None:
    site.cluster.runs = [Run([say()], None), Run()]
    assert site.solver().run(write_context) == {"RUN install": 2.0}
    assert any("was lost: once more" in text for _, text in site.told)


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("rpc error: connection lost in the middle", BackendError),
        ('{"vertexes":[{"digest":"d","name":"export","error":"failed to push registry.test/team: connection refused"}]}', RegistryUnavailable),
        ("error: failed to resolve source metadata for registry.test/team/base:1: registry.test/team/base:1: not found", ImageGone),
    ],
)
def test_a_build_that_is_lost_twice_says_why(site: Site, line: str, kind: type[Exception]) -> None:
    site.cluster.runs = [Run([line], 75), Run([line], 75)]
    with pytest.raises(kind):
        site.solver().run(write_context)
    assert len(site.cluster.made) == 1


def test_a_pod_that_ran_out_of_memory_is_not_replaced(site: Site) -> None:
    """Another one would run out as well. One that was killed by force has the same exit code, and is."""
    site.cluster.runs = [Run([say()], 137, "OOMKilled", later=1.5), Run()]
    with pytest.raises(OutOfMemory):
        site.solver().run(write_context)
    assert len(site.cluster.runs) == 1 and len(site.cluster.made) == 1
    site.cluster.runs = [Run([say()], 137), Run()]
    assert site.solver().run(write_context) == {"RUN install": 2.0}


def test_an_api_server_that_is_away_is_waited_for(site: Site) -> None:
    held = Run()
    held.held.clear()
    site.cluster.runs = [held]
    future = site.start(site.solver())
    wait_for(lambda: site.cluster.list("Pod", "builds"))
    site.cluster.away.set()
    time.sleep(0.2)
    site.cluster.away.clear()
    held.held.set()
    assert future.result(5) == {"RUN install": 2.0} and len(site.cluster.made) == 1


def test_a_job_that_somebody_deleted_is_made_again(site: Site) -> None:
    held = Run()
    held.held.clear()
    site.cluster.runs = [held]
    future = site.start(site.solver())
    job = wait_for(site.jobs)[0]
    site.cluster.delete("Job", "builds", job["metadata"]["name"])
    held.held.set()
    future.result(10)
    assert len(site.cluster.made) == 2


def test_an_image_that_was_removed_is_made_again_while_its_job_is_still_there(site: Site) -> None:
    site.solver().run(write_context)
    assert site.solver().run(write_context) in ({}, {"RUN install": 2.0}) and len(site.cluster.made) == 1, "it is there"
    site.registry.manifests.pop((TARGET.repository, TARGET.tag))
    site.solver().run(write_context)
    assert len(site.cluster.made) == 2


def test_no_more_than_the_limit_run(site: Site) -> None:
    runs = [Run() for _ in range(6)]
    for run in runs:
        run.held.clear()
    site.cluster.runs = list(runs)
    futures = [site.start(site.solver(limit=2, tag=f"hubdock/environment:{number}{KEY[1:]}")) for number in range(6)]
    most, over = 0, threading.Event()

    def watch() -> None:
        nonlocal most
        while not over.wait(0.01):
            most = max(most, sum(1 for pod in site.cluster.list("Pod", "builds") if not pod["status"].get("containerStatuses")))

    watcher = threading.Thread(target=watch)
    watcher.start()
    for run in runs:
        run.held.set()
    for future in futures:
        future.result(30)
    over.set()
    watcher.join()
    assert most == 2 and len(site.cluster.made) == 6
    assert any(kind == "phase" and text.startswith("queued number") for kind, text in site.told)


def test_a_lock_that_its_holder_left_is_taken_over(site: Site) -> None:
    metadata = {"name": "hubdock-queue", "namespace": "builds"}
    site.cluster.create({"kind": "Lease", "metadata": metadata, "spec": {"holderIdentity": "gone", "renewTime": "2020-01-01T00:00:00.000000Z"}})
    site.solver().run(write_context)
    lease = site.cluster.get("Lease", "builds", "hubdock-queue")
    assert lease and lease["spec"]["holderIdentity"] == ""


def test_builds_of_a_scope_take_turns_on_its_volumes(site: Site) -> None:
    place = BuildPlace("builds", "registry.test", "buildkit", "one", cache_volumes=2, cache_bytes=2**30)
    assert kubequeue.ensure_cache(site.cluster, place, "public") == "hubdock-cache-public-0"  # type: ignore[arg-type]
    metadata = {"name": "x", "namespace": "builds", "labels": {"app.kubernetes.io/name": "hubdock", "app.kubernetes.io/component": "build", "hubdock/scope": "public", "hubdock/cache": "hubdock-cache-public-0"}}
    site.cluster.create({"kind": "Job", "metadata": metadata, "spec": {"suspend": True}})
    assert kubequeue.ensure_cache(site.cluster, place, "public") == "hubdock-cache-public-1"  # type: ignore[arg-type]
    assert kubequeue.ensure_cache(site.cluster, place, "private") == "hubdock-cache-private-0", "another scope's package code never wrote there"  # type: ignore[arg-type]
    assert len(site.cluster.list("PersistentVolumeClaim", "builds")) == 3
