"""Builds on a real cluster: one Job for a key, in the registry when it is done, and what happens when something is lost."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from config.demo.server import Server
from hubdock.core.asker import LOCAL
from hubdock.core.errors import BuildCancelled, BuildError, SmokeTestFailed
from hubdock.core.events import Kind, Phase
from hubdock.core.kubeobjects import COMPONENT, KEY
from hubdock.core.options import parse_options
from hubdock.core.plan import State
from hubdock.engine.build import Build
from hubdock.engine.engine import Engine
from tests.kit.builder import Builder
from tests.kit.kube import kubectl, new_namespace
from tests.kit.kubebuild import BASE, KubeBuilder, Namespace, wait_until
from tests.kit.repos import Project, make_requirements

SLOW = {"setup.py": "import time; time.sleep(40)\nfrom setuptools import setup; setup(name='slow', version='1')\n", "requirements.txt": "-e .\n"}


def name_inputs(build: Build) -> tuple[str, str]:
    assert build.assembly.environment and build.assembly.image
    return build.assembly.environment.key, build.assembly.image.key


def in_background(builder: KubeBuilder, **options: Any) -> Callable[[], Build]:
    """Build in a thread of its own; return what waits for its end."""
    pool = ThreadPoolExecutor(1)
    future = pool.submit(builder.build, **options)
    return lambda: future.result(300)


def test_a_build(namespace: Namespace, server: Server, project: Project, tmp_path: Path) -> None:
    builder = namespace.make_builder(tmp_path / "state-kube", allowed_hosts=[server.url], smoke_test=True)
    project.write_all({"requirements.txt": make_requirements("tabulate==0.9.0"), "README.md": "one"}).commit("one")
    build = builder.must(repo=project.url, ref="main")
    environment, image = name_inputs(build)
    found = builder.images.read_manifest(f"{builder.prefix}/image", image)
    assert found is not None and found.layers[-1].media_type.endswith("+zstd")
    config = builder.images.read_config(f"{builder.prefix}/image", found)["config"]
    assert config["Labels"]["hubdock.environment"] == environment and config["User"] == "1000:100"
    jobs = [job for job in namespace.jobs() if job["metadata"]["annotations"][KEY] == environment]
    assert len(jobs) == 1
    attempt = build.attempts["environment"]
    events = [event for _, event in attempt.read_events()]
    phases = [event.phase for event in events if event.kind is Kind.PHASE]
    assert phases[-1] is Phase.READY and Phase.BUILDING in phases
    assert any("tabulate" in event.message for event in events if event.kind is Kind.LOG), "what uv says is in the log"
    assert any("Jupyter serves, a kernel answers" in event.message for event in events if event.kind is Kind.LOG), "it was tried"
    assert builder.images.list_tags(f"{builder.prefix}/context") == [], "what only the build needed is gone"

    project.write_all({"README.md": "two"}).commit("two")
    before = len(namespace.jobs())
    again = builder.must(repo=project.url, ref="main")
    assert name_inputs(again)[0] == environment and name_inputs(again)[1] != image
    assert len(namespace.jobs()) == before and "environment" not in again.attempts, "code needs no Job"
    assert builder.plan(repo=project.url, ref="main").plan.ready


def test_keys_are_those_of_docker(builder: KubeBuilder, server: Server, project: Project, tmp_path: Path) -> None:
    """The same inputs have the same keys wherever they are made: the environment's, the code's, the data's and the image's, which is made of all."""
    here = Builder(tmp_path / "state-docker", allowed_hosts=[server.url], smoke_test=False, base_image=BASE)
    project.write_all({"README.md": "no packages"}).commit("one")
    for one in (here, builder):
        one.must(repo=project.url, ref="main")  # each knows its base now
    project.track("digits.csv", "1,2\n").write_all({"requirements.txt": "tabulate==0.9.0\n", "apt.txt": "tree\n", ".hubdock.yml": "env: {A: b}\n"}).commit("two")
    first, second = (one.plan(repo=project.url, ref="main") for one in (here, builder))
    assert first.environment and first.environment == second.environment and first.environment.key == second.environment.key  # type: ignore[union-attr]
    assert first.code and first.code == second.code
    assert first.image and first.image == second.image and first.image.key == second.image.key  # type: ignore[union-attr]
    assert first.dataset and second.dataset and first.dataset.inputs == second.dataset.inputs and first.dataset.inputs.key == second.dataset.inputs.key
    here.clean()


def test_the_image_runs(builder: KubeBuilder, namespace: Namespace, project: Project) -> None:
    project.write_all({"requirements.txt": make_requirements("tabulate==0.9.0"), "a.py": "print(1)"}).commit("one")
    build = builder.must(repo=project.url, ref="main")
    launched = f"{builder.settings.registry}/image:{name_inputs(build)[1]}"
    kubectl(
        "run", "tried", "-n", namespace.name, "--restart=Never", "--quiet", f"--image={launched}", "--command", "--",
        "/bin/sh", "-c", "id -u; /opt/conda/bin/python -c 'import tabulate; print(tabulate.__version__)'; cat /hubdock/code/a.py; stat -c %U /home/jovyan/project-*",
    )  # fmt: skip
    wait_until(lambda: kubectl("get", "pod", "tried", "-n", namespace.name, "-o", "jsonpath={.status.phase}") in {"Succeeded", "Failed"}, 90)
    assert kubectl("logs", "tried", "-n", namespace.name).split() == ["1000", "0.9.0", "print(1)jovyan"]


def test_an_environment_is_tried_as_a_pod(namespace: Namespace, server: Server, project: Project, tmp_path: Path) -> None:
    """Under the standard *restricted*. What does not work never has the key's name, and who asks again is told without another build."""
    builder = namespace.make_builder(tmp_path / "state-tried", allowed_hosts=[server.url], smoke_test=True)
    broken = {"broken/pyproject.toml": BROKEN, "broken/comm/__init__.py": "raise SystemExit('no kernel with this')\n"}
    project.write_all({"requirements.txt": make_requirements("./broken"), **broken}).commit("broken")
    ended = in_background(builder, repo=project.url, ref="main")
    pod = wait_until(lambda: find_trials(namespace), 180)[0]
    with new_namespace() as restricted:
        bare = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "trial", "namespace": restricted}, "spec": pod["spec"]}
        kubectl("create", "--dry-run=server", "-f", "-", stdin=json.dumps(bare))
    build = ended()
    assert isinstance(build.error, SmokeTestFailed) and "Jupyter does not work" in build.error.message, build.error
    assert build.assembly.environment and not builder.images.find_digest(f"{builder.prefix}/environment", build.assembly.environment.key)
    jobs = [job["metadata"]["uid"] for job in namespace.jobs()]
    again = builder.build(repo=project.url, ref="main")
    assert isinstance(again.error, SmokeTestFailed) and [job["metadata"]["uid"] for job in namespace.jobs()] == jobs
    assert not [kind for kind in ("Job", "Secret") if namespace.cluster.list(kind, namespace.name, f"{COMPONENT}=program")]


def find_trials(namespace: Namespace) -> list[dict[str, Any]]:
    pods = namespace.cluster.list("Pod", namespace.name, f"{COMPONENT}=program")
    return [pod for pod in pods if "smoke.py" in " ".join(pod["spec"]["containers"][0]["command"])]


BROKEN = """
[build-system]
requires = ["setuptools>=61"]
build-backend = "setuptools.build_meta"
[project]
name = "comm"
version = "99.0"
[tool.setuptools]
packages = ["comm"]
"""


def test_a_requirement_that_fails_is_tried_once(builder: KubeBuilder, namespace: Namespace, project: Project) -> None:
    project.write_all({"requirements.txt": make_requirements("tabulate==99.99")}).commit("bad")
    before = {job["metadata"]["name"] for job in namespace.jobs()}
    build = builder.build(repo=project.url, ref="main")
    assert isinstance(build.error, BuildError) and "tabulate" in build.error.message and build.error.file == "requirements.txt", f"{build.error} {build.error and build.error.detail}"
    new = [job for job in namespace.jobs() if job["metadata"]["name"] not in before]
    assert new and all(job["status"]["failed"] == 1 for job in new), "one pod for each way, and no second"
    again = builder.build(repo=project.url, ref="main")
    assert isinstance(again.error, BuildError) and again.attempts["environment"].path != build.attempts["environment"].path, "who asks again gets another try"


def test_many_starts_are_one_job(namespace: Namespace, server: Server, project: Project, tmp_path: Path) -> None:
    """Twenty of one service, and another service at the same time."""
    project.write_all({"requirements.txt": make_requirements("tabulate==0.9.0")}).commit("one")
    builders = [namespace.make_builder(tmp_path / f"state-many{number}", allowed_hosts=[server.url]) for number in range(2)]
    options = {"repo": project.url, "ref": "main"}
    for builder in builders:
        assert builder.plan(**options).environment or builder.must(**{**options, "new_branch": "look"})  # each knows its base
    key = builders[0].plan(**options).environment
    assert key is not None
    builders[0].forget_images()
    kubectl("delete", "jobs", "--all", "-n", namespace.name)
    start = threading.Barrier(2)

    async def race(builder: KubeBuilder) -> list[Build]:
        engine = Engine(builder.settings)
        start.wait()
        builds = [await engine.ensure(await engine.plan(parse_options({**options, "new_branch": f"n{number}"}), LOCAL), f"user{number}") for number in range(20)]
        await asyncio.gather(*(build.done.wait() for build in builds))
        await engine.close()
        return builds

    with ThreadPoolExecutor(2) as pool:
        builds = [build for found in pool.map(lambda builder: asyncio.run(race(builder)), builders) for build in found]
    assert {build.phase for build in builds} == {Phase.READY}, [str(build.error) for build in builds if build.error]
    jobs = namespace.jobs()
    assert [job["metadata"]["annotations"][KEY] for job in jobs] == [key.key]
    assert jobs[0]["status"].get("succeeded") == 1 and not jobs[0]["status"].get("failed")


@pytest.mark.parametrize("how", ["force", "evict"])
def test_a_lost_pod_is_replaced_once(builder: KubeBuilder, namespace: Namespace, project: Project, how: str) -> None:
    project.write_all({**SLOW, "setup.py": SLOW["setup.py"].replace("40", "8"), "x": how}).commit("slow")
    wait = in_background(builder, repo=project.url, ref="main")
    pod = wait_until(lambda: next((pod["metadata"]["name"] for pod in namespace.running()), None))
    if how == "force":
        kubectl("delete", "pod", pod, "-n", namespace.name, "--force", "--grace-period=0")
    else:
        body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": namespace.name}}
        namespace.cluster.request("POST", f"/api/v1/namespaces/{namespace.name}/pods/{pod}/eviction", body=body)
    build = wait()
    assert build.phase is Phase.READY, build.error
    job = next(job for job in namespace.jobs() if job["metadata"]["annotations"][KEY] == name_inputs(build)[0])
    assert job["status"]["succeeded"] == 1


def test_a_build_outlives_its_worker(builder: KubeBuilder, namespace: Namespace, project: Project) -> None:
    """As when the service's pod is killed: the Job goes on, and the next one takes it up by its name."""
    project.write_all({**SLOW, "setup.py": SLOW["setup.py"].replace("40", "8")}).commit("slow")
    wait = in_background(builder, repo=project.url, ref="main")
    wait_until(lambda: namespace.running())
    latest = next(iter((builder.settings.state / "tasks" / "environment").glob("*/*/pid")))
    uids = {job["metadata"]["uid"] for job in namespace.jobs()}
    os.kill(int(latest.read_text()), signal.SIGKILL)
    lost = wait()
    assert isinstance(lost.error, BuildError) and "interrupted" in lost.error.message
    build = builder.must(repo=project.url, ref="main")
    assert {job["metadata"]["uid"] for job in namespace.jobs()} == uids, "no second Job"
    log = [event.message for _, event in build.attempts["environment"].read_events() if event.kind is Kind.LOG]
    assert log, "the log is whole again"


def test_a_cancelled_build_leaves_nothing(builder: KubeBuilder, namespace: Namespace, project: Project) -> None:
    project.write_all(SLOW).commit("slow")

    async def cancel() -> Build:
        engine = Engine(builder.settings)
        build = await engine.ensure(await engine.plan(parse_options({"repo": project.url, "ref": "main"}), LOCAL), "tester")
        while not await asyncio.to_thread(namespace.running):
            assert not build.done.is_set(), build.error
            await asyncio.sleep(0.2)
        await engine.builds.cancel(build)
        await engine.builds.runner.settle()
        await engine.close()
        return build

    build = asyncio.run(cancel())
    assert isinstance(build.error, BuildCancelled)
    wait_until(lambda: not namespace.running(), 5.0)
    assert not [job for job in namespace.jobs() if job["metadata"]["annotations"][KEY] == name_inputs(build)[0]]


def test_the_limit_is_held_on_the_cluster(namespace: Namespace, server: Server, project: Project, tmp_path: Path) -> None:
    """Two services of one place each, but the cluster's limit is one: the second Job waits suspended, and says so."""
    builders = [namespace.make_builder(tmp_path / f"state-limit{number}", allowed_hosts=[server.url], max_parallel_builds=1) for number in range(2)]
    for number, builder in enumerate(builders):
        project.write_all({**SLOW, "setup.py": SLOW["setup.py"].replace("40", "6"), "number": str(number)}).commit(f"slow {number}", branch=f"b{number}")
        builder.plan(repo=project.url, ref=f"b{number}")
    waits = [in_background(builder, repo=project.url, ref=f"b{number}") for number, builder in enumerate(builders)]
    most = 0
    done = threading.Event()

    def watch() -> None:
        nonlocal most
        while not done.wait(0.3):
            most = max(most, len(namespace.running()))

    watcher = threading.Thread(target=watch)
    watcher.start()
    builds = [wait() for wait in waits]
    done.set()
    watcher.join()
    assert [build.phase for build in builds] == [Phase.READY] * 2, [str(build.error) for build in builds]
    assert most == 1
    told = [event.message for build in builds for _, event in build.attempts["environment"].read_events() if event.phase is Phase.QUEUED]
    assert any("queue" in message for message in told)


def test_the_cluster_says_why_a_build_waits(namespace: Namespace, server: Server, project: Project, tmp_path: Path) -> None:
    builder = namespace.make_builder(tmp_path / "state-why", allowed_hosts=[server.url], kube_build_resources={"requests": {"cpu": "1000"}}, cancel_grace=0.0)
    project.write_all({"requirements.txt": make_requirements("tabulate==0.9.0")}).commit("one")
    told: list[str] = []

    async def work() -> None:
        engine = Engine(builder.settings)
        build = await engine.ensure(await engine.plan(parse_options({"repo": project.url, "ref": "main"}), LOCAL), "tester")
        for _ in range(600):
            for part in ("environment", "base"):
                if part in build.attempts:
                    told.extend(event.message for _, event in build.attempts[part].read_events() if event.phase is Phase.QUEUED)
            if any("CPU" in message for message in told) or build.done.is_set():
                break
            await asyncio.sleep(0.2)
        await engine.builds.cancel(build)
        await engine.builds.runner.settle()
        await engine.close()

    asyncio.run(work())
    assert any("no node has enough free CPU" in message for message in told), told


def test_a_plan_asks_the_registry_and_no_engine(builder: KubeBuilder, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.write_all({"README.md": "nothing to install"}).commit("one")
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:9")
    plan = builder.plan(repo=project.url, ref="main").plan
    assert plan.part("base").state in {State.BUILD, State.READY}
    assert json.dumps(plan.as_dict())
