"""Secrets of git, the package index and DVC, each used for real: found nowhere afterwards but in the files that the admin put them into."""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import httpx
import pytest

from hubdock.core.naming import make_scope_name
from tests.kit.canary import ProcessWatch, find_in_files, find_in_images, spell
from tests.kit.hub import Hub, Server, find_base, find_gateway, run_hub
from tests.kit.remotes import Index, MoodyServer, make_wheel
from tests.kit.repos import Project, make_requirements


@dataclass
class Team:
    """A team's remotes, each behind a password of its own, and what to look for."""

    git: MoodyServer
    data: MoodyServer
    index: Index
    files: Path
    words: list[bytes]

    def settings(self) -> dict[str, Any]:
        return {
            "allowed_hosts": [self.git.url], "git_credentials": [{"origin": self.git.url, "username": "team", "password_file": str(self.files / "git")}],
            "extra_index_urls": [f"{self.index.origin}/simple"],
            "index_credentials": [{"origin": self.index.origin, "username": "reader", "password_file": str(self.files / "index")}],
            "dvc_remotes": {f"{self.data.url}/": {"auth": "basic", "user": "data", "password_file": str(self.files / "data")}},
        }  # fmt: skip


@pytest.fixture(scope="module")
def team(docker_engine: docker.DockerClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    files, root = tmp_path_factory.mktemp("secrets"), tmp_path_factory.mktemp("team")
    chosen = {name: f"canary{name}{secrets.token_hex(8)}" for name in ("git", "index", "data")}
    for name, secret in chosen.items():
        (files / name).touch(mode=0o600)
        (files / name).write_text(secret)
    index = Index(find_gateway(), {"hubdocktiny": make_wheel("hubdocktiny")}, f"reader:{chosen['index']}").start()
    git, data = MoodyServer(root, find_gateway(), f"team:{chosen['git']}"), MoodyServer(root, find_gateway(), f"data:{chosen['data']}")
    git.start()
    data.start()
    yield Team(git, data, index, files, spell([("team", chosen["git"]), ("reader", chosen["index"]), ("data", chosen["data"])]))
    for server in (git, data, index):
        server.shutdown()


@pytest.fixture(scope="module")
def project(team: Team, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A private repository with private packages and data; two branches more, whose data and packages can't be had."""
    made = Project(team.git, tmp_path_factory.mktemp("private"), "private", push_as=f"team:{(team.files / 'git').read_text()}")

    def track(name: str) -> None:
        made.track(name, name)
        config = (made.path / ".dvc/config").read_text().replace(team.git.url, team.data.url)
        made.write_all({".dvc/config": config})

    track("a.txt")
    made.write_all({"requirements.txt": make_requirements("hubdocktiny==1.0")}).commit()
    for branch in ("lost", "broken"):
        made.git("checkout", "--quiet", "-b", branch, "main")
        if branch == "lost":
            track("lost.txt")
            for path in (team.git.root / "dvc" / made.remote_name).rglob("*"):
                if path.is_file() and path.read_text() == "lost.txt":
                    path.unlink()
        made.write_all({"requirements.txt": make_requirements("hubdocktiny==1.0" if branch == "lost" else "hubdocktiny==2.0")}).commit()
    return made


@pytest.fixture(scope="module")
def private_hub(team: Team, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    with run_hub(tmp_path_factory.mktemp("private-hub"), {"HubDock": team.settings()}) as running:
        yield running


@pytest.fixture(scope="module")
def used(private_hub: Hub, team: Team, project: Project) -> Iterator[Server]:
    """A server that took all three secrets to make, after starts that failed with each of them in use; the machine was watched meanwhile."""
    with ProcessWatch(private_hub.engine, team.words) as watch:
        server = private_hub.start_server("alice", "private", {"repo": project.url, "ref": "main"})
        for branch in ("lost", "broken"):
            answer = private_hub.api("POST", "users/bob/servers/fails", {"repo": project.url, "ref": branch})
            private_hub.wait_for(lambda: not private_hub.read_server("bob", "fails").get("pending"), 90, "the start fails")
            assert answer.status_code in {202, 422}, answer.text
        team.index.status = 500
        private_hub.service("POST", "plan", {"repo": project.url, "ref": "gone"})
        team.git.moods = {"/git/": "500"}
        assert private_hub.service("POST", "plan", {"repo": project.url, "ref": "main"}).status_code == 502
        team.git.please()
        team.index.status = 0
    assert not watch.found and any(b"hubdock.engine.worker" in line for line in watch.lines), "it saw the workers, and no secret"
    assert server.run("cat a.txt && python -c 'import hubdocktiny; print(hubdocktiny.VERSION)'") == "a.txt1.0"
    yield server
    server.stop()


def test_each_was_used(used: Server, team: Team) -> None:
    """Nothing of this would prove anything if the remotes had let everybody in."""
    assert any(given and path.startswith("/files/") for path, given in team.index.requests)
    for server, prefix in ((team.git, "/git/private"), (team.data, "/dvc/private")):
        asked = next(path for _, path in server.requests if path.startswith(prefix))
        assert httpx.get(f"{server.url}{asked}").status_code == 401


def test_files_of_the_hub(used: Server, private_hub: Hub, team: Team) -> None:
    """Logs, both databases, plans, results and logs of workers, copies of repositories, configuration; what the hub tells of its users."""
    assert not find_in_files(private_hub.directory, team.words)
    told = private_hub.api("GET", "users?include_stopped_servers").content + private_hub.service("GET", "builds").content
    assert b"private" in told and not any(word in told for word in team.words)


def test_the_server(used: Server, team: Team) -> None:
    """Its environment, log, settings, and all files that are not the image's."""
    container = used.container
    shown = [container.logs(), str(container.attrs).encode(), container.exec_run(["sh", "-c", "cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline"], user="0").output]
    assert all(shown) and not any(word in text for text in shown for word in team.words)
    patterns = "|".join(word.decode() for word in team.words)
    found = container.exec_run(["grep", "-rlaE", patterns, "/home", "/hubdock", "/tmp", "/run", "/etc", "/var", "/root", "/srv"], user="0").output
    assert not found, found


def test_what_stays_on_the_engine(used: Server, private_hub: Hub, team: Team) -> None:
    """The store of the data, and the cache of wheels that later builds mount."""
    patterns = "|".join(word.decode() for word in team.words)
    run = private_hub.engine.containers.run
    command = ["sh", "-c", f"ls /store/views/* && ! grep -rlaE '{patterns}' /store"]
    assert run(find_base(), command, entrypoint=[], user="0", remove=True, volumes={f"{private_hub.prefix}-data": {"bind": "/store", "mode": "ro"}})
    cache = f"hubdock-wheels-{make_scope_name(team.index.origin)}"
    recipe = f"FROM {find_base()}\nUSER root\nRUN --mount=type=cache,id={cache},target=/cache,uid=1000,gid=100 --mount=type=secret,id=words find /cache -name '*.whl' -o -name '*hubdocktiny*' | grep . && ! grep -rlaE -f /run/secrets/words /cache\n"
    words = team.files / "words"
    words.write_text(patterns)
    argv = ["docker", "buildx", "build", "--builder", "default", "--no-cache", "--output", "type=cacheonly", f"--secret=id=words,src={words}", "-"]
    done = subprocess.run(argv, input=recipe.encode(), capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr.decode()[-1500:]


def test_the_images(used: Server, private_hub: Hub, team: Team) -> None:
    """Every layer that is not the base's (older than the secrets), the history, labels and environment of every image made."""
    made = [f"hubdock/{kind}:{key.name}" for kind in ("environment", "image") for key in (private_hub.state / "tasks" / kind).glob("*")]
    tags = [tag for tag in made if private_hub.engine.images.list(tag)]
    assert len(tags) >= 2
    there = {b"Metadata-Version: 2.1\nName: hubdocktiny\n", b'"hubdock.kind":"image"'}  # of a layer, and of a label
    assert find_in_images(private_hub.engine, tags, find_base(), team.words, there) == there
