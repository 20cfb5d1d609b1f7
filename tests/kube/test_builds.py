"""Builds on a real cluster: one Job for a key, in the registry when it is done, and what happens when something is lost."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from config.demo.server import Server
from hubdock.core.errors import BuildError, SmokeTestFailed
from hubdock.core.events import Kind, Phase
from hubdock.core.kubeobjects import COMPONENT, KEY
from hubdock.core.plan import State
from hubdock.engine.build import Build
from tests.kit.builder import Builder
from tests.kit.kube import kubectl, new_namespace
from tests.kit.kubebuild import BASE, KubeBuilder, Namespace, wait_until
from tests.kit.repos import Project, make_package, make_requirements


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
    (name,) = (job["metadata"]["name"] for job in jobs)
    assert name not in builder.images.list_tags(f"{builder.prefix}/context"), "what only the build needed is gone"

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
    broken = {"broken/pyproject.toml": make_package("comm"), "broken/comm/__init__.py": "raise SystemExit('no kernel with this')\n"}
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


def test_a_requirement_that_fails_is_tried_once(builder: KubeBuilder, namespace: Namespace, project: Project) -> None:
    project.write_all({"requirements.txt": make_requirements("tabulate==99.99")}).commit("bad")
    before = {job["metadata"]["name"] for job in namespace.jobs()}
    build = builder.build(repo=project.url, ref="main")
    assert isinstance(build.error, BuildError) and "tabulate" in build.error.message and build.error.file == "requirements.txt", f"{build.error} {build.error and build.error.detail}"
    new = [job for job in namespace.wait_for_ends(name_inputs(build)[0]) if job["metadata"]["name"] not in before]
    assert new and all(job["status"]["failed"] == 1 for job in new), "one pod for each way, and no second"
    again = builder.build(repo=project.url, ref="main")
    assert isinstance(again.error, BuildError) and again.attempts["environment"].path != build.attempts["environment"].path, "who asks again gets another try"


def test_a_plan_asks_the_registry_and_no_engine(builder: KubeBuilder, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.write_all({"README.md": "nothing to install"}).commit("one")
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:9")
    plan = builder.plan(repo=project.url, ref="main").plan
    assert plan.part("base").state in {State.BUILD, State.READY}
    assert json.dumps(plan.as_dict())
