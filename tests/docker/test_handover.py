"""A server whose start files nobody put into its container: it fetches them by its own token, and becomes the same."""

from __future__ import annotations

import io
import secrets
import tarfile
from collections.abc import Iterator
from typing import Any

import pytest

from tests.kit.hub import Hub, Server
from tests.kit.ports import find_port
from tests.kit.repos import Project

SHOW = "find . -path ./.git -prune -o -path '*/.dvc/tmp' -prune -o \\( -type l -printf '%p -> %l\\n' -o -type f -printf '%p %m %s\\n' \\) | sort; git status --porcelain=v1 --branch; git log --format=%H; git for-each-ref; git config user.name; git config remote.origin.url"


@pytest.fixture
def first(hub: Hub, project: Project) -> Iterator[Server]:
    """A server that was started as ever, with code, data and history."""
    project.write_all({"README.md": "# one\n", "run.sh": "#!/bin/sh\n"})
    project.track_directory("images", {f"{n}.txt": f"image {n}" for n in range(5)})
    project.commit("first")
    project.write_all({"README.md": "# two\n"}).commit("second")
    server = hub.start_server("alice", "handed", {"repo": project.url, "ref": "main"})
    yield server
    hub.stop_server("alice", "handed")


def read_env(container: Any) -> dict[str, str]:
    return dict(pair.split("=", 1) for pair in container.attrs["Config"]["Env"])


def run_second(hub: Hub, first: Server, env: dict[str, str]) -> Any:
    """Run the image again on the host's network, from where it reaches the service, with the data and nothing else of the first."""
    data = [mount for mount in first.container.attrs["HostConfig"]["Mounts"] if mount["Target"].startswith("/hubdock/data")]
    engine = hub.engine.api
    host = engine.create_host_config(network_mode="host", mounts=data, tmpfs={"/hubdock/run": "mode=1777"})
    made = engine.create_container(first.container.attrs["Image"], environment=env, host_config=host, name=f"{hub.prefix}-second-{secrets.token_hex(4)}")
    engine.start(made["Id"])
    return hub.engine.containers.get(made["Id"])


def test_a_server_fetches_what_it_was_not_given(hub: Hub, first: Server) -> None:
    build = hub.read_server("alice", "handed")["state"]["hubdock"]["build"]
    env = read_env(first.container) | {
        "HUBDOCK_SERVICE_URL": f"{hub.url}/services/hubdock/", "HUBDOCK_BUILD": build, "JUPYTERHUB_SERVICE_URL": f"http://127.0.0.1:{find_port()}/user/alice/handed/",
    }  # fmt: skip
    second = run_second(hub, first, env)
    hub.wait_for(lambda: b"workspace made" in second.logs() or (not second.reload() and second.status == "exited"), 60, "the workspace is there")
    code, output = second.exec_run(["bash", "-c", SHOW], workdir=first.workspace, user="1000:100")
    assert code == 0 and output.decode().strip() == first.run(SHOW), second.logs().decode()
    assert "images/3.txt -> /hubdock/data/" in output.decode() and "second" in second.exec_run(["git", "log", "--format=%s"], workdir=first.workspace).output.decode()


def test_each_server_is_given_its_own_alone(hub: Hub, first: Server, project: Project) -> None:
    """By the server's own token, which may not use the service otherwise. Another user's, another server's, and no token get nothing."""
    build = hub.read_server("alice", "handed")["state"]["hubdock"]["build"]
    other = hub.start_server("bob", "other", {"repo": project.url, "ref": "main"})
    own, others = read_env(first.container)["JUPYTERHUB_API_TOKEN"], read_env(other.container)["JUPYTERHUB_API_TOKEN"]
    path = f"launches/{build}/archive"
    given = hub.service("GET", path, params={"server": "handed"}, token=own)
    with tarfile.open(fileobj=io.BytesIO(given.content)) as tar:
        assert {"hubdock/run/start.json", "hubdock/run/history.pack", "hubdock/run/history.idx", "hubdock/run/refs"} <= set(tar.getnames())
    assert hub.service("GET", "builds", token=own).status_code == 403
    assert hub.service("GET", path, params={"server": "handed"}, token=others).status_code == 404
    assert hub.service("GET", path, params={"server": "handed", "user": "alice"}, token=others).status_code == 404
    assert hub.service("GET", path, params={"server": "other"}, token=own).status_code == 404
    assert hub.service("GET", path, params={"server": "handed"}, token="wrong").status_code == 403
    bobs = hub.read_server("bob", "other")["state"]["hubdock"]["build"]
    assert hub.service("GET", f"launches/{bobs}/archive", params={"server": "other"}, token=others).status_code == 200
    assert hub.service("GET", f"launches/{bobs}/archive", params={"server": "other"}, token=own).status_code == 404
    second = hub.start_server("alice", "second", {"repo": project.url, "ref": "main"})
    assert hub.service("GET", path, params={"server": "handed"}, token=read_env(second.container)["JUPYTERHUB_API_TOKEN"]).status_code == 404
    assert hub.service("GET", path, params={"server": "handed"}, token=hub.make_token("alice")).status_code == 200
    hub.stop_server("alice", "second")
    hub.stop_server("bob", "other")


def test_a_server_that_is_refused_says_why(hub: Hub, first: Server) -> None:
    env = read_env(first.container) | {"HUBDOCK_SERVICE_URL": f"{hub.url}/services/hubdock/", "HUBDOCK_BUILD": "0" * 32, "JUPYTERHUB_SERVICE_URL": f"http://127.0.0.1:{find_port()}/user/alice/handed/"}
    second = run_second(hub, first, env)
    assert second.wait(timeout=60)["StatusCode"] == 1
    log = second.logs().decode()
    assert "refuses to give the start files: 404" in log and "the workspace could not be prepared" in log and env["JUPYTERHUB_API_TOKEN"] not in log
