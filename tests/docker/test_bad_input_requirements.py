"""What requirements files get wrong: refused with file and line, at the plan where that can be known, else by the build that every face waits for."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from config.demo.server import Server as Remote
from hubdock.core.errors import BuildTimeout
from tests.kit.builder import Builder
from tests.kit.canary import ProcessWatch
from tests.kit.faces import Faces, Refusal
from tests.kit.repos import Project, make_requirements


def recipe(place: str, *words: str) -> Refusal:
    return Refusal(422, "recipe_error", words, place=place)


MAIN = "requirements.txt"
BAD: dict[str, tuple[dict[str, str | bytes], Refusal]] = {
    "not UTF-8": ({MAIN: b"six\n# caf\xe9\n"}, recipe(f"{MAIN}:2", "Byte 6 of this line (0xe9) is not UTF-8", "Save the file as UTF-8")),
    "UTF-16": ({MAIN: "six\n".encode("utf-16")}, recipe(f"{MAIN}:1", "Byte 1 of this line (0xff) is not UTF-8")),
    "a secret of the build": ({MAIN: "-r /run/secrets/netrc\n"}, recipe(f"{MAIN}:1", "An absolute path is not part of the repository", "Use a relative path")),
    "a file outside": ({MAIN: "six\n-r ../other.txt\n"}, recipe(f"{MAIN}:2", "leads out of the repository", "Move the file into it")),
    "a file outside, two steps": ({MAIN: "-r env/a.txt\n", "env/a.txt": "\n-c ../../x\n"}, recipe("env/a.txt:2", "leads out of the repository")),
    "a file that is not there": ({MAIN: "-r more.txt\n"}, recipe(f"{MAIN}:1", "names more.txt, which this branch does not have")),
    "a link to a file": ({MAIN: "-r sub\n", "sub/x": ""}, recipe(f"{MAIN}:1", "names sub, which is a directory")),
    "an index": ({MAIN: "--index-url https://evil.example.org/simple\n"}, recipe(f"{MAIN}:1", "https://evil.example.org/simple is not allowed", "HubDock.allowed_indexes")),
    "one more index": ({MAIN: "six\n\n--extra-index-url=https://evil.example.org/simple\n"}, recipe(f"{MAIN}:3", "is not allowed on this hub", "HubDock.allowed_indexes")),
    "an index with a password": ({MAIN: "--index-url https://me:pa55@evil.example.org/simple\n"}, recipe(f"{MAIN}:1", "Remove the credential", "and change it")),
    "a trusted host": ({MAIN: "--trusted-host evil.example.org\n"}, recipe(f"{MAIN}:1", "--trusted-host would switch off a check", "Remove the line")),
    "a variable": ({MAIN: "six\n--index-url https://${TOKEN}@pypi.example.org/simple\n"}, recipe(f"{MAIN}:2", "${VARIABLE} can't be used", "Write the value itself")),
    "git over ssh": ({MAIN: "x @ git+ssh://git@github.com/a/x.git\n"}, recipe(f"{MAIN}:1", "Only git+https:// is supported")),
    "git of another host": ({MAIN: f"x @ git+https://elsewhere.example.org/a/x@{'0' * 40}\n"}, recipe(f"{MAIN}:1", "elsewhere.example.org are not allowed")),
    "a file of the machine": ({MAIN: "six\nx @ file:///srv/x.whl\n"}, recipe(f"{MAIN}:2", "a disk that the build does not have", "a path relative to the repository's root")),
    "an option that is none": ({MAIN: "--use-pep517\n"}, recipe(f"{MAIN}:1", "--use-pep517 is not supported", "Remove it")),
    "no requirement": ({MAIN: "six\nthis is no requirement\n"}, recipe(f"{MAIN}:2", "not a requirement that pip understands")),
    "a pin that breaks Jupyter": ({MAIN: "six\njupyter-server==1.24.0\n"}, recipe(f"{MAIN}:2", "breaks Jupyter")),
}


@pytest.mark.parametrize("name", BAD)
def test_by_every_face(faces: Faces, project: Project, name: str) -> None:
    files, expected = BAD[name]
    project.write_all(files).commit()
    faces.refuse({"repo": project.url, "ref": "main"}, expected)


@pytest.mark.parametrize(
    ("lines", "place", "words"),
    [
        (["six==1.16.0", "tabulate==99.0"], f"{MAIN}:3", ("can't be installed together", "tabulate==99.0", "unsatisfiable")),
        (["tornado==4.5.3"], f"{MAIN}:2", ("can't be installed together", "tornado==4.5.3")),
    ],
    ids=["unsatisfiable", "against Jupyter"],
)
def test_what_the_resolver_finds_out(faces: Faces, project: Project, lines: list[str], place: str, words: tuple[str, ...]) -> None:
    """The resolver's own last words, and the line that they are about."""
    project.write_all({MAIN: make_requirements(*lines)}).commit()
    faces.refuse_build({"repo": project.url, "ref": "main"}, Refusal(422, "unsatisfiable", words, place=place))


@pytest.fixture
def builder(docker_engine: docker.DockerClient, server: Remote, seed: Path, tmp_path: Path) -> Iterator[Builder]:
    made = Builder(tmp_path / "state-timeout", seed, allowed_hosts=[server.url], build_timeout=12)
    yield made
    made.clean()


def test_what_never_ends_is_ended(builder: Builder, project: Project) -> None:
    """A package whose build waits for ever: the limit ends it, and says whose limit it is; nothing of it runs on."""
    seconds = f"9{uuid.uuid4().int % 10**8}"
    project.write_all({MAIN: make_requirements("./slow"), "slow/setup.py": f"import subprocess\nsubprocess.run(['sleep', '{seconds}'])\n"}).commit()
    began = time.monotonic()
    with ProcessWatch(builder.docker, [seconds.encode()]) as watch:
        error = builder.build(repo=project.url, ref="main").error
    assert isinstance(error, BuildTimeout) and (error.status, error.code) == (504, "build_timeout"), error
    assert "took more than 0.2 minutes" in error.message and "HubDock.build_timeout" in error.message
    assert time.monotonic() - began < 25
    assert any(b"sleep\0" in line for line in watch.lines if seconds.encode() in line), "it ran"
    assert not [path for path in Path("/proc").glob("[0-9]*/cmdline") if seconds in path.read_text(errors="replace")]
