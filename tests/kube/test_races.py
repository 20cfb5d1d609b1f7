"""Who comes at the same moment, who dies in the middle, who gives up: one Job for a key all the same, and nothing left of what nobody wants."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from config.demo.server import Server
from hubdock.core.asker import LOCAL
from hubdock.core.errors import BackendError, BuildCancelled, BuildError, OutOfMemory
from hubdock.core.events import Kind, Phase
from hubdock.core.kubestate import list_wanted
from hubdock.core.options import parse_options
from hubdock.engine.build import Build
from hubdock.engine.database import Database
from hubdock.engine.engine import Engine
from tests.kit.gate import Gate
from tests.kit.kube import find_kubelet, find_pod_processes, kubectl
from tests.kit.kubebuild import KubeBuilder, Namespace, wait_until
from tests.kit.postgres import run_postgres
from tests.kit.racers import run_racers
from tests.kit.repos import Project


@pytest.fixture
def gate(server: Server) -> Gate:
    return Gate(server)


def find_key(builder: KubeBuilder, project: Project, branch: str = "main") -> str:
    """Return the key of a branch's environment."""
    inputs = builder.plan(repo=project.url, ref=branch).environment
    assert inputs is not None
    return inputs.key


def in_background(builder: KubeBuilder, project: Project, branch: str = "main") -> Callable[[], Build]:
    """Build in a thread of its own; return what waits for its end."""
    future = ThreadPoolExecutor(1).submit(builder.build, repo=project.url, ref=branch)
    return lambda: future.result(300)


def test_two_services_are_one_job(namespace: Namespace, builder: KubeBuilder, gate: Gate, project: Project, tmp_path: Path) -> None:
    """Two processes with state directories of their own share one PostgreSQL, and twenty people ask each of them at the same moment."""
    gate.put_into(project)
    key = find_key(builder, project)
    with run_postgres() as postgres:
        url = postgres.make_database()
        namespace.sow_into(url)
        shared = {**namespace.make_settings(allowed_hosts=[project.server.url]), "gpu_base_image": "", "db_url": url}
        with run_racers([{**shared, "state_dir": str(tmp_path / f"state-{number}")} for number in range(2)], {"repo": project.url, "ref": "main"}) as racers:
            racers.go()
            gate.wait_for_knock()
            wait_until(lambda: len(list_wanted(namespace.find_jobs(key)[0])) == 2)
            assert len(namespace.find_jobs(key)) == 1
            gate.open()
            assert racers.wait() == [["ready"] * 20] * 2
        database = Database(url)
        ended = [(row.home, row.status) for row in database.list_builds()]
        database.engine.dispose()
    assert len({home for home, _ in ended}) == 2 and {status for _, status in ended} == {"ready"}
    jobs = namespace.wait_for_ends(key)
    assert len(jobs) == 1 and jobs[0]["status"]["succeeded"] == 1 and not jobs[0]["status"].get("failed")


def test_a_lost_pod_is_replaced_once(namespace: Namespace, builder: KubeBuilder, gate: Gate, project: Project) -> None:
    """Whether it was deleted by force or evicted. A second time is an error, and who asks again gets another try."""
    gate.put_into(project)
    key = find_key(builder, project)
    wait = in_background(builder, project)
    first = wait_for_pod(namespace, gate, key)
    kubectl("delete", "pod", first, "-n", namespace.name, "--force", "--grace-period=0")
    evict(namespace, wait_for_pod(namespace, gate, key, first))
    lost = wait()
    assert isinstance(lost.error, BackendError) and "lost twice" in lost.error.message
    assert namespace.wait_for_ends(key)[0]["status"]["failed"] == 2

    wait = in_background(builder, project)
    evicted = wait_for_pod(namespace, gate, key)
    evict(namespace, evicted)
    wait_for_pod(namespace, gate, key, evicted)
    gate.open()
    build = wait()
    assert build.phase is Phase.READY, build.error
    (job,) = namespace.wait_for_ends(key)
    assert job["status"]["succeeded"] == 1 and job["status"]["failed"] == 1
    log = [event.message for _, event in build.attempts["environment"].read_events() if event.kind is Kind.LOG]
    assert any("pod was lost" in line for line in log)


def wait_for_pod(namespace: Namespace, gate: Gate, key: str, last: str = "") -> str:
    """Wait until a pod of an environment, another than the last, stands at its gate."""
    (found,) = wait_until(lambda: [name for name in find_pods(namespace, key) if name != last], 180)
    gate.wait_for_knock(gate.knocks)
    return str(found)


def evict(namespace: Namespace, pod: str) -> None:
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": namespace.name}}
    namespace.cluster.request("POST", f"/api/v1/namespaces/{namespace.name}/pods/{pod}/eviction", body=body)


def test_a_build_that_takes_too_much_memory_is_not_replaced(namespace: Namespace, gate: Gate, project: Project, tmp_path: Path) -> None:
    """Another pod would take as much."""
    builder = namespace.make_builder(tmp_path / "state", allowed_hosts=[gate.server.url], kube_build_resources={"limits": {"memory": "512Mi"}})
    gate.put_into(project, act="len(bytes(1) * (2 << 30))")
    gate.open()
    build = builder.build(repo=project.url, ref="main")
    assert isinstance(build.error, OutOfMemory), build.error
    (job,) = namespace.wait_for_ends(find_key(builder, project))
    assert job["status"]["failed"] == 1 and not job["status"].get("succeeded")


def find_pods(namespace: Namespace, key: str) -> list[str]:
    """Return the running pods of an environment."""
    names = {job["metadata"]["name"] for job in namespace.find_jobs(key)}
    return [pod["metadata"]["name"] for pod in namespace.running() if pod["metadata"]["labels"]["batch.kubernetes.io/job-name"] in names]


def test_a_build_outlives_its_worker(namespace: Namespace, builder: KubeBuilder, gate: Gate, project: Project) -> None:
    """The Job goes on, and the next one takes it up by its name."""
    gate.put_into(project)
    wait = in_background(builder, project)
    gate.wait_for_knock()
    key = find_key(builder, project)
    os.kill(int((builder.settings.state / "tasks" / "environment" / key / "1" / "pid").read_text()), signal.SIGKILL)
    lost = wait()
    assert isinstance(lost.error, BuildError) and "interrupted" in lost.error.message
    (job,) = namespace.find_jobs(key)
    gate.open()
    build = builder.must(repo=project.url, ref="main")
    assert [found["metadata"]["uid"] for found in namespace.find_jobs(key)] == [job["metadata"]["uid"]], "no second Job"
    log = [event.message for _, event in build.attempts["environment"].read_events() if event.kind is Kind.LOG]
    assert any("gate" in line for line in log), "the log is whole again"


def test_a_cancelled_build_leaves_nothing(namespace: Namespace, builder: KubeBuilder, gate: Gate, project: Project) -> None:
    """Within five seconds neither Job, Secret nor pod, nor any process on the node."""
    gate.put_into(project)
    key = find_key(builder, project)
    secrets = {secret["metadata"]["name"] for secret in namespace.cluster.list("Secret", namespace.name)}
    cancelled = 0.0

    async def cancel() -> str:
        nonlocal cancelled
        engine = Engine(builder.settings)
        build = await engine.ensure(await engine.plan(parse_options({"repo": project.url, "ref": "main"}), LOCAL), "tester")
        await asyncio.to_thread(gate.wait_for_knock)
        (name,) = find_pods(namespace, key)
        (uid,) = [pod["metadata"]["uid"] for pod in namespace.pods() if pod["metadata"]["name"] == name]
        assert find_kubelet() is None or any("buildkitd" in process for process in find_pod_processes(uid))
        cancelled = time.monotonic()
        await engine.builds.cancel(build)
        await engine.builds.runner.settle()
        await engine.close()
        assert isinstance(build.error, BuildCancelled)
        return str(uid)

    uid = asyncio.run(cancel())

    def find_left() -> list[str]:
        objects = [*(job["metadata"]["name"] for job in namespace.find_jobs(key)), *(uid for pod in namespace.pods() if pod["metadata"]["uid"] == uid)]
        return [*find_pod_processes(uid), *objects, *({secret["metadata"]["name"] for secret in namespace.cluster.list("Secret", namespace.name)} - secrets)]

    wait_until(lambda: not find_left(), cancelled + 5.0 - time.monotonic())


def test_the_limit_is_held_on_the_cluster(namespace: Namespace, server: Server, project: Project, tmp_path: Path) -> None:
    """Two services of one place each, but the cluster's limit is one: the second Job waits suspended, and says so."""
    builders = [namespace.make_builder(tmp_path / f"state-limit{number}", allowed_hosts=[server.url], max_parallel_builds=1) for number in range(2)]
    gates = [Gate(server) for _ in builders]
    most, done = 0, threading.Event()

    def watch() -> None:
        nonlocal most
        while not done.wait(0.3):
            most = max(most, len(namespace.running()))

    watcher = threading.Thread(target=watch)
    watcher.start()
    waits = []
    for number, (builder, gate) in enumerate(zip(builders, gates, strict=True)):
        gate.put_into(project, branch=f"b{number}")
        waits.append(in_background(builder, project, f"b{number}"))
        if not number:
            gate.wait_for_knock()
    key = find_key(builders[1], project, "b1")
    wait_until(lambda: any(job["spec"].get("suspend") for job in namespace.find_jobs(key)))
    for gate in gates:
        gate.open()
    builds = [wait() for wait in waits]
    done.set()
    watcher.join()
    assert [build.phase for build in builds] == [Phase.READY] * 2, [str(build.error) for build in builds]
    assert most == 1
    told = [event.message for _, event in builds[1].attempts["environment"].read_events() if event.phase is Phase.QUEUED]
    assert any("queue" in message for message in told)
