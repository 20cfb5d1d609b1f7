"""What is built again, and what is not: counted by BuildKit's own record, never assumed."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from config.demo.server import Server
from hubdock.core.plan import State
from tests.kit.builder import Builder
from tests.kit.history import SolveCounter
from tests.kit.repos import Project, make_requirements


@pytest.fixture
def builder(docker_engine: docker.DockerClient, server: Server, seed: Path, tmp_path: Path) -> Iterator[Builder]:
    made = Builder(tmp_path / "state-keys", seed, allowed_hosts=[server.url], smoke_test=False)
    yield made
    made.clean()


class Count:
    """Solves of one project since the last question."""

    def __init__(self, builder: Builder, project: Project) -> None:
        self.builder, self.project, self.counter = builder, project, SolveCounter()

    def after(self, **options: str) -> tuple[int, int]:
        """Build, and return how many environments and images that solved."""
        build = self.builder.must(repo=self.project.url, **{"ref": "main", **options})
        assert build.assembly.environment and build.assembly.image
        environment, image = self.counter.take(("environment", build.assembly.environment.key), ("image", build.assembly.image.key))
        return environment, image


def test_environment_is_shared_by_branches_and_code_is_not(builder: Builder, project: Project) -> None:
    project.write_all({"requirements.txt": make_requirements("tabulate==0.9.0"), "README.md": "one"}).commit("one")
    project.git("checkout", "--quiet", "-b", "other")
    project.write_all({"README.md": "two"}).commit("two")
    count = Count(builder, project)
    assert count.after(ref="main") == (1, 1)
    assert count.after(ref="other") == (0, 1)
    assert count.after(ref="main") == (0, 0)
    assert count.after(ref="main", new_branch="idea") == (0, 0), "a new hypothesis builds nothing"


def test_copies_of_repositories_that_were_removed_are_fetched_again(builder: Builder, project: Project) -> None:
    """The database knows the commit still: nothing reads the copy again, until something is built of it."""
    project.write_all({"requirements.txt": make_requirements("tabulate==0.9.0"), "a.py": "a"}).commit("one")
    known = builder.must(repo=project.url, ref="main")
    shutil.rmtree(builder.settings.state / "git")
    assert builder.must(repo=project.url, ref="main").attempts == {}, "a ready image needs no copy"
    shutil.rmtree(builder.settings.state / "git")
    builder.forget(known)
    again = builder.must(repo=project.url, ref="main")
    assert again.assembly.image == known.assembly.image and set(again.attempts) == {"environment", "image"}
    assert builder.docker.containers.run(again.assembly.image and builder.image("image", again).id, ["cat", "/hubdock/code/a.py"], remove=True) == b"a"


def test_history_builds_nothing(builder: Builder, project: Project) -> None:
    """An amended message, a rebase that ends in the same tree and a moved branch are hits."""
    first = project.write_all({"requirements.txt": make_requirements("tabulate==0.9.0"), "a.py": "a"}).commit("one")
    project.write_all({"b.py": "b"}).commit("two")
    count = Count(builder, project)
    assert count.after() == (1, 1)
    project.git("commit", "--quiet", "--amend", "-m", "other words")
    project.push(force=True)
    assert count.after() == (0, 0)
    project.git("reset", "--quiet", "--soft", first)
    project.git("commit", "--quiet", "--amend", "-m", "squashed")
    project.push(force=True)
    assert count.after() == (0, 0)
    project.push("elsewhere")
    assert count.after(ref="elsewhere") == (0, 0)


def test_two_repositories_share_an_environment(builder: Builder, project: Project, server: Server, tmp_path: Path) -> None:
    requirements = make_requirements("tabulate==0.9.0")
    twin = Project(server, tmp_path, "twin")
    for each in (project, twin):
        each.write_all({"requirements.txt": requirements, "name.txt": each.remote_name}).commit()
    assert Count(builder, project).after() == (1, 1)
    assert Count(builder, twin).after() == (0, 1)


@pytest.fixture(scope="module")
def known(docker_engine: docker.DockerClient, server: Server, seed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Count]:
    """A project whose branch ``main`` is built."""
    directory = tmp_path_factory.mktemp("known")
    builder, project = Builder(directory / "state-known", seed, allowed_hosts=[server.url], smoke_test=False), Project(server, directory, "known")
    project.write_all({"requirements.txt": "-r env/more.txt\ntabulate==0.9.0\n", "env/more.txt": make_requirements("six==1.16.0"), "README.md": "one"}).commit("one")
    count = Count(builder, project)
    assert count.after() == (1, 1)
    yield count
    builder.clean()


@pytest.mark.parametrize(
    ("change", "solves"),
    [
        ({"README.md": "edited"}, (0, 1)),
        ({"requirements.txt": "-r env/more.txt\ntabulate==0.9.0\nsix==1.16.0\n"}, (1, 1)),
        ({"env/more.txt": "# nested\nsix==1.17.0\n"}, (1, 1)),
        ({"apt.txt": "tree\n"}, (1, 1)),
        ({".hubdock.yml": "env: {COLOUR: blue}\n"}, (1, 1)),
        ({".hubdock.yml": "copy: [{from: README.md, to: /srv/README.md}]\n"}, (0, 1)),
        ({"environment.yml": "name: x\n"}, (0, 1)),
    ],
    ids=["README", "requirement", "nested file", "apt.txt", "env", "copy", "unused file"],
)
def test_one_change(known: Count, change: dict[str, str], solves: tuple[int, int]) -> None:
    branch = uuid.uuid4().hex
    known.project.git("checkout", "--quiet", "-b", branch, "main")
    known.project.write_all(dict(change)).commit("two")
    assert known.after(ref=branch) == solves


def test_another_base_is_another_environment(builder: Builder, project: Project, docker_engine: docker.DockerClient) -> None:
    project.write_all({"requirements.txt": make_requirements("tabulate==0.9.0")}).commit()
    first = builder.must(repo=project.url, ref="main").assembly
    tag = f"hubdock-test-base:{project.remote_name}"
    container = docker_engine.containers.create(builder.settings.base_image)
    try:
        container.commit(tag.split(":")[0], tag.split(":")[1], changes="ENV MADE_OTHERWISE=1")
        builder.settings.base_image = tag
        second = builder.must(repo=project.url, ref="main").assembly
        assert first.environment and second.environment and first.environment.key != second.environment.key
        assert first.code == second.code
    finally:
        container.remove(force=True)
        builder.clean()
        docker_engine.images.remove(tag, force=True)


def test_data_alone(builder: Builder, project: Project) -> None:
    """A change of the data changes the data key; the environment stays, and what stays of the data is not fetched again."""
    project.write_all({"requirements.txt": make_requirements("tabulate==0.9.0")})
    images = {f"{n}.bin": str(n) * 10_000 for n in range(10)}
    project.track_directory("images", images).commit("one")
    first = builder.must(repo=project.url, ref="main")
    assert first.attempts["data"].result().data["fetched"] > 100_000  # type: ignore[union-attr]
    project.track_directory("images", images | {"new.bin": "new" * 5_000}).commit("two")
    second = builder.must(repo=project.url, ref="main")
    a, b = first.assembly, second.assembly
    assert a.environment == b.environment and a.dataset and b.dataset and a.dataset.inputs.key != b.dataset.inputs.key
    fetched = second.attempts["data"].result().data["fetched"]  # type: ignore[union-attr]
    assert 15_000 <= fetched < 30_000, f"one file of 15,000 bytes is new; {fetched} bytes came"
    project.write_all({"requirements.txt": make_requirements("tabulate==0.9.0")}).commit("three")
    third = builder.plan(repo=project.url, ref="main").plan
    assert third.part("environment").state is State.BUILD and third.part("data").state is State.READY


def test_a_removed_image_is_made_again(builder: Builder, project: Project) -> None:
    """Behind hubdock's back: noticed at the plan, and rebuilt."""
    project.write_all({"requirements.txt": make_requirements("tabulate==0.9.0")}).commit()
    build = builder.must(repo=project.url, ref="main")
    assert builder.plan(repo=project.url, ref="main").plan.ready
    builder.forget(build)
    again = builder.plan(repo=project.url, ref="main").plan
    assert [again.part(name).state for name in ("environment", "image")] == [State.BUILD, State.BUILD]
    builder.must(repo=project.url, ref="main")


def test_known_commit_costs_one_ls_remote(builder: Builder, project: Project, server: Server) -> None:
    """Two requests, which is what one ls-remote of protocol 2 makes, and nothing else over the network."""
    project.write_all({"requirements.txt": make_requirements("tabulate==0.9.0")}).commit()
    builder.must(repo=project.url, ref="main")
    server.requests.clear()
    assert builder.plan(repo=project.url, ref="main").plan.ready
    assert [path.rpartition(".git/")[2] for _, path in server.requests] == ["info/refs", "git-upload-pack"]
