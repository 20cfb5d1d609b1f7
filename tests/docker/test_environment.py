"""Environments: what can't work is told with its place and never launched; what can is complete."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from config.demo.server import Server
from hubdock.core.errors import BuildError, RecipeError, SmokeTestFailed
from hubdock.core.events import Phase
from tests.kit.builder import Builder
from tests.kit.repos import Project, make_package, make_requirements


@pytest.fixture
def builder(docker_engine: docker.DockerClient, server: Server, seed: Path, tmp_path: Path) -> Iterator[Builder]:
    made = Builder(tmp_path / "state-environment", seed, allowed_hosts=[server.url])
    yield made
    made.clean()


def run_in(builder: Builder, image: object, script: str) -> str:
    return builder.docker.containers.run(image.id, ["bash", "-c", script], entrypoint=[], remove=True).decode().strip()  # type: ignore[attr-defined]


def has_image(builder: Builder) -> bool:
    """True if anything of this builder's tasks became an image that could be launched."""
    tags = {tag for image in builder.docker.images.list() for tag in image.tags}
    keys = [path.name for kind in ("environment", "image") for path in (builder.settings.state / "tasks" / kind).glob("*")]
    return any(key in tag for tag in tags for key in keys)


def test_a_pin_that_breaks_jupyter_is_refused_at_the_plan(builder: Builder, project: Project) -> None:
    shutil.rmtree(builder.settings.state)
    project.write_all({"requirements.txt": "tabulate\n-r env/more.txt\n", "env/more.txt": "# pins\n\njupyter-server==1.24.0\n"}).commit()
    first = builder.build(repo=project.url, ref="main").error  # the base was not looked into before: known only now
    with pytest.raises(RecipeError) as caught:
        builder.plan(repo=project.url, ref="main")
    for error in (first, caught.value):
        assert error is not None and (error.file, error.line) == ("env/more.txt", 3)
        assert "breaks Jupyter" in error.message
    assert not has_image(builder)


@pytest.mark.parametrize(
    ("lines", "line", "words"),
    [
        (["tabulate==0.9.0", "jupyterlab<4"], 3, "jupyterlab"),
        (["tabulate==0.9.0", "tornado==4.5.3"], 3, "tornado"),
        (["tabulate==99.0"], 2, "tabulate==99.0"),
        (["six==1.16.0", "six==1.17.0"], 2, "six"),
        (["no-such-package-of-hubdock"], 2, "no-such-package-of-hubdock"),
    ],
    ids=["range", "transitive", "no such version", "conflict", "no such package"],
)
def test_unsatisfiable_names_file_and_line(builder: Builder, project: Project, lines: list[str], line: int, words: str) -> None:
    project.write_all({"requirements.txt": make_requirements(*lines)}).commit()
    build = builder.build(repo=project.url, ref="main")
    assert build.phase is Phase.FAILED and isinstance(build.error, BuildError)
    assert (build.error.file, build.error.line) == ("requirements.txt", line), f"{build.error} {build.error.detail}"
    assert words in build.error.message
    assert not has_image(builder)


def test_no_kernel_fails_the_smoke_test(builder: Builder, project: Project) -> None:
    """A package that shadows one of the kernel's installs, and Jupyter starts with it; then no kernel does."""
    broken = {"broken/pyproject.toml": make_package("comm"), "broken/comm/__init__.py": "raise SystemExit('no kernel with this')\n"}
    project.write_all({"requirements.txt": make_requirements("./broken"), **broken})
    project.commit()
    build = builder.build(repo=project.url, ref="main")
    assert isinstance(build.error, SmokeTestFailed), f"{build.phase} {build.error} {build.error.detail if build.error else ''}"
    assert "Jupyter does not work" in build.error.message
    assert not has_image(builder)
    assert not builder.plan(repo=project.url, ref="main").plan.ready


def test_built_from_source_and_locally(builder: Builder, project: Project) -> None:
    """A package without a wheel, and one of the repository itself, are built; the shared cache is no part of those steps."""
    local = {"pkg/pyproject.toml": make_package("mine"), "pkg/mine/__init__.py": "VALUE = 7\n"}
    project.write_all({"requirements.txt": make_requirements("docopt==0.6.2", "./pkg"), **local}).commit()
    build = builder.must(repo=project.url, ref="main")
    image = builder.image("environment", build)
    assert run_in(builder, image, "python -c 'import docopt, mine; print(docopt.__version__, mine.VALUE)'") == "0.6.2 7"
    log = build.attempts["environment"].events_path.read_text()
    assert "hubdock-source-" in log and "Built docopt" in log


def test_editable_is_the_workspace(builder: Builder, project: Project) -> None:
    """`-e .` imports what the user edits, not a copy in the image."""
    project.write_all({"requirements.txt": make_requirements("-e ."), "pyproject.toml": make_package("mine"), "mine/__init__.py": "VALUE = 7\n"}).commit()
    build = builder.must(repo=project.url, ref="main")
    where = run_in(builder, builder.image("environment", build), "cat /opt/conda/lib/python3*/site-packages/__editable__*mine*")
    assert build.assembly.workspace in where


def test_uv_lock(builder: Builder, project: Project) -> None:
    project.write_all({"pyproject.toml": LOCKED, "uv.lock": LOCK}).commit()
    build = builder.must(repo=project.url, ref="main")
    assert run_in(builder, builder.image("environment", build), "python -c 'import six; print(six.__version__)'") == "1.16.0"


LOCKED = """
[project]
name = "locked"
version = "0"
requires-python = ">=3.9"
dependencies = ["six>=1.10"]
"""
LOCK = """
version = 1
requires-python = ">=3.9"

[[package]]
name = "locked"
version = "0"
source = { virtual = "." }
dependencies = [{ name = "six" }]

[package.metadata]
requires-dist = [{ name = "six", specifier = ">=1.10" }]

[[package]]
name = "six"
version = "1.16.0"
source = { registry = "INDEX" }
"""


def test_what_hubdock_yml_sets(builder: Builder, project: Project) -> None:
    """env, labels, copy, command and another place of the requirements; apt.txt."""
    settings = 'requirements: env/dev.txt\nenv: {GREETING: "it is $HOME \\"quoted\\""}\nlabels: {team: vision}\ncopy: [{from: conf, to: ~/.myconf}, {from: conf/a.txt, to: /srv/a.txt}]\n'
    project.write_all({".hubdock.yml": settings, "env/dev.txt": make_requirements("six==1.16.0"), "env/apt.txt": "tree\n", "conf/a.txt": "A", "conf/b/c.txt": "C"}).commit()
    build = builder.must(repo=project.url, ref="main")
    image = builder.image("image", build)
    assert image.labels["team"] == "vision"
    script = "echo $GREETING; cat /srv/a.txt /hubdock/home/.myconf/b/c.txt; which tree; python -c 'import six; print(six.__version__)'"
    assert run_in(builder, image, script) == 'it is $HOME "quoted"\nAC/usr/bin/tree\n1.16.0'


def test_no_requirements_is_the_base(builder: Builder, project: Project) -> None:
    project.write_all({"README.md": "nothing else"}).commit()
    plan = builder.plan(repo=project.url, ref="main").plan
    assert any("No requirements" in notice for notice in plan.notices)
    builder.must(repo=project.url, ref="main")


def test_the_image_alone(builder: Builder, project: Project) -> None:
    """`docker run -p 8888:8888 IMAGE` is JupyterLab with the code, without hub or hubdock."""
    import httpx

    project.write_all({"hello.py": "print('hello')\n"}).commit()
    image = builder.image("image", builder.must(repo=project.url, ref="main"))
    container = builder.docker.containers.run(image.id, detach=True, environment={"JUPYTER_TOKEN": "only-a-test"}, ports={"8888/tcp": ("127.0.0.1", None)})
    try:
        container.reload()
        port = container.ports["8888/tcp"][0]["HostPort"]
        listed = None
        for _ in range(200):
            try:
                listed = httpx.get(f"http://127.0.0.1:{port}/api/contents?token=only-a-test", timeout=5)
                break
            except httpx.HTTPError:
                import time

                time.sleep(0.1)
        assert listed is not None, container.logs().decode()
        assert "hello.py" in {entry["name"] for entry in listed.json()["content"]}
    finally:
        container.remove(force=True)


def test_tensorflow_replaces_the_bases_variant(builder: Builder, project: Project) -> None:
    """`tensorflow` and `tensorflow-cpu` hold the same files: the plan says which goes, and one whole TensorFlow is left."""
    project.write_all({"requirements.txt": make_requirements("tensorflow")}).commit()
    plan = builder.plan(repo=project.url, ref="main").plan
    assert any("replaces the base image's tensorflow-cpu" in notice for notice in plan.notices)
    build = builder.must(repo=project.url, ref="main")
    script = "python -c 'import importlib.metadata as m; print(sorted(d.name for d in m.distributions() if d.name.startswith(\"tensorflow\"))); import tensorflow as tf; print(int(tf.add(1, 1)))' 2>/dev/null"
    assert run_in(builder, builder.image("environment", build), script) == "['tensorflow']\n2"
