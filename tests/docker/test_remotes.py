"""Remotes that hang, refuse, send elsewhere or fail: bounded time, a named cause, and everything else goes on; once they are back nothing is made again."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from config.demo.server import Server as Remote
from hubdock.core.errors import BackendError
from tests.kit.builder import Builder
from tests.kit.faces import Faces, Refusal
from tests.kit.history import SolveCounter
from tests.kit.hub import Hub, find_gateway, run_hub
from tests.kit.ports import find_port
from tests.kit.remotes import METADATA, Index, MoodyServer, make_wheel
from tests.kit.repos import Project, make_requirements

TIMEOUT = 3.0
HANGING = 33  # more than the service has threads


@pytest.fixture(scope="module")
def moody(docker_engine: docker.DockerClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MoodyServer]:
    running = MoodyServer(tmp_path_factory.mktemp("moody"), find_gateway())
    running.start()
    yield running
    running.please()
    running.shutdown()


@pytest.fixture(scope="module")
def closed() -> str:
    """The origin of a port that nobody listens on."""
    return f"http://{find_gateway()}:{find_port(find_gateway())}"


@pytest.fixture(scope="module")
def patient(moody: MoodyServer, server: Remote, closed: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """A hub that does not wait long for its remotes."""
    settings = {"allowed_hosts": [moody.url, server.url, closed], "git_timeout": TIMEOUT}
    with run_hub(tmp_path_factory.mktemp("patient"), {"HubDock": settings}) as running:
        yield running


@pytest.fixture(scope="module")
def well(patient: Hub, server: Remote, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Faces]:
    """A user whose server runs, and whose repository is on a remote that is always well."""
    project = Project(server, tmp_path_factory.mktemp("well"), "well")
    project.write_all({"README.md": "well"}).commit()
    faces = Faces(patient, project.url)
    yield faces
    faces.close()


@pytest.fixture(scope="module")
def made(patient: Hub, moody: MoodyServer, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A repository on the remote with moods, its image and data made while it was well."""
    project = Project(moody, tmp_path_factory.mktemp("ready"), "ready")
    project.track("a.txt", "a").write_all({"README.md": "ready"}).commit()
    patient.start_server("bob", "before", {"repo": project.url, "ref": "main"}).stop()
    return project


@pytest.fixture
def ready(made: Project, moody: MoodyServer) -> Iterator[Project]:
    yield made
    moody.please()


MOODS = [
    ("silent", Refusal(502, "repo_unreachable", (f"did not answer within {TIMEOUT:g} s", "Try again"), "repo")),
    ("reset", Refusal(502, "repo_unreachable", ("could not be reached", "Try again in a moment"), "repo")),
    (METADATA, Refusal(502, "repo_unreachable", ("answers with another address", "use the address shown there"), "repo")),
    ("500", Refusal(502, "repo_unreachable", ("could not be reached",), "repo")),
]


@pytest.mark.parametrize(("mood", "expected"), MOODS, ids=["hangs", "hangs up", "redirects to a private address", "fails"])
def test_git(patient: Hub, well: Faces, moody: MoodyServer, ready: Project, mood: str, expected: Refusal) -> None:
    """Every face says what is wrong, in time. Without an access check there is no hit; when the remote is back there is, and nothing is made."""
    options = {"repo": ready.url, "ref": "main"}
    moody.moods = {f"/git/{ready.remote_name}": mood}
    began = time.monotonic()
    well.refuse(options, expected)
    assert time.monotonic() - began < 4 * (TIMEOUT + 3), "four faces asked, one after the other"
    moody.please()
    counter = SolveCounter()
    server = patient.start_server("bob", "after", options)
    assert server.run("cat README.md a.txt") == "readya" and counter.new("image", ready.remote_name) == 0
    server.stop()


def test_git_that_refuses(well: Faces, closed: str) -> None:
    began = time.monotonic()
    well.refuse({"repo": f"{closed}/git/x.git", "ref": "main"}, Refusal(502, "repo_unreachable", ("could not be reached", "Try again in a moment"), "repo"))
    assert time.monotonic() - began < 4 * TIMEOUT


def test_a_redirect_is_not_followed(patient: Hub, well: Faces, moody: MoodyServer, server: Remote, ready: Project) -> None:
    """Not even to a host that is allowed, which would see what is sent."""
    moody.moods = {f"/git/{ready.remote_name}": f"{server.url}/stolen"}
    server.requests.clear()
    assert patient.service("POST", "plan", {"repo": ready.url, "ref": "main"}).json()["error"]["code"] == "repo_unreachable"
    assert not [path for _, path in server.requests if "stolen" in path]


def test_one_that_hangs_holds_up_nobody_else(patient: Hub, well: Faces, moody: MoodyServer, ready: Project) -> None:
    """Many wait for a remote that hangs. Meanwhile a ready image of another starts as ever, pages are drawn, and running servers answer."""
    other = {"repo": patient.read_server("alice", "goes-on")["user_options"]["repo"], "ref": "main"}
    patient.start_server("carol", "quick", other).stop()
    moody.moods = {f"/git/{ready.remote_name}": "silent"}
    told: list[float] = []

    def ask() -> None:
        began = time.monotonic()
        error = patient.service("POST", "plan", {"repo": ready.url, "ref": "main"}).json()["error"]
        assert error["code"] == "repo_unreachable", error
        told.append(time.monotonic() - began)

    threads = [threading.Thread(target=ask) for _ in range(HANGING)]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    assert patient.service("GET", "health").status_code == 200
    assert patient.service("GET", "builds").status_code == 200
    plan = patient.service("POST", "plan", other).json()
    given_up = len(told)
    assert well.running.ask("contents").status_code == 200
    for thread in threads:
        thread.join()
    assert plan["ready"] and not given_up, f"it was planned only after {given_up} of those that hang were given up"
    assert len(told) == HANGING and max(told) < 5 * TIMEOUT
    well.check_nothing_lost()


def test_dvc_that_hangs(patient: Hub, well: Faces, moody: MoodyServer, ready: Project) -> None:
    """The fetch is given up once nothing has come for a while; what came is kept, and the next start brings the rest."""
    ready.git("checkout", "--quiet", "-b", "more")
    ready.track("b.txt", "b").commit("more data")
    options = {"repo": ready.url, "ref": "more"}
    moody.moods = {f"/dvc/{ready.remote_name}": "silent"}
    began = time.monotonic()
    well.refuse_build(options, Refusal(502, "backend_unavailable", (f"sent nothing for {TIMEOUT:g} s", f"{moody.url}/dvc/", "Try again in a moment")))
    assert time.monotonic() - began < 10 * TIMEOUT
    assert not patient.engine.containers.list(filters={"label": "hubdock.job", "volume": f"{patient.prefix}-data"}), "no fetch runs on"
    moody.please()
    counter = SolveCounter()
    server = patient.start_server("bob", "fetched", options)
    assert server.run("cat a.txt b.txt") == "ab" and counter.new("image", ready.remote_name) == 0, "the image was finished meanwhile"
    server.stop()


@pytest.mark.parametrize("mood", ["500", "reset", METADATA], ids=["fails", "hangs up", "redirects to a private address"])
def test_dvc_that_fails(patient: Hub, moody: MoodyServer, ready: Project, mood: str) -> None:
    """The remote and the file are named, in time. (A file that is not there: test_bad_input_dvc.py.)"""
    branch, name = mood[:5].strip(":"), f"{mood[:4]}.txt"
    ready.git("checkout", "--quiet", "-B", branch)
    ready.track(name, mood).commit("more data")
    moody.moods = {f"/dvc/{ready.remote_name}": mood}
    build = patient.service("POST", "builds", {"repo": ready.url, "ref": branch}).json()["id"]
    error = patient.wait_for(lambda: patient.service("GET", f"builds/{build}").json()["error"], 60, "the fetch fails")
    assert error["code"] in {"data_failed", "data_not_found", "backend_unavailable"} and f"{moody.url}/dvc/{ready.remote_name}" in error["message"], error
    assert error["code"] == "backend_unavailable" or name in error["message"], error


def test_an_index_that_fails(docker_engine: docker.DockerClient, server: Remote, tmp_path: Path, project: Project) -> None:
    """Every answer a 500: named as the index's fault, in time; what was built before stays ready meanwhile, and the build works once it is back."""
    index = Index(find_gateway(), {"hubdocktiny": make_wheel("hubdocktiny")}).start()
    builder = Builder(tmp_path / "state-index", allowed_hosts=[server.url], extra_index_urls=[f"{index.origin}/simple"])
    try:
        project.write_all({"requirements.txt": make_requirements("hubdocktiny==1.0")}).commit()
        builder.must(repo=project.url, ref="main")
        index.status = 500
        project.git("checkout", "--quiet", "-b", "more")
        project.write_all({"requirements.txt": make_requirements("hubdocktiny==1.0")}).commit()
        began = time.monotonic()
        error = builder.build(repo=project.url, ref="more").error
        assert isinstance(error, BackendError) and (error.status, error.code) == (502, "index_unavailable"), error
        assert "The package index does not answer as it should. Try again in a moment" in error.message and index.origin in error.message, error.message
        assert time.monotonic() - began < 60
        assert builder.plan(repo=project.url, ref="main").plan.ready
        index.status = 0
        builder.must(repo=project.url, ref="more")
    finally:
        builder.clean()
        index.shutdown()
