"""The shared store on a Docker host, when somebody spoils it. What people do with data in a server: tests/contract/test_workspace_data.py."""

from __future__ import annotations

from config.demo.server import Server as Remote
from tests.kit.hub import Hub
from tests.kit.repos import Project


def test_an_emptied_view_is_mended_by_the_next_start(hub: Hub, project: Project, server: Remote) -> None:
    """Whoever emptied it: the start fetches it anew, without a download, and a server that runs on it has its data again."""
    project.track_directory("images", {f"{n}.txt": f"image {n}" for n in range(5)}).commit("data")
    options = {"repo": project.url, "ref": "main"}
    first = hub.start_server("alice", "runs", options)
    server.requests.clear()
    hub.engine.containers.run(
        hub.settings["HubDock"]["base_image"], ["bash", "-c", "rm -r /store/views/*/*"], entrypoint=[], user="0", remove=True, volumes={f"{hub.prefix}-data": {"bind": "/store"}}
    )
    assert first.run("cat images/3.txt", check=False) != "image 3"
    second = hub.start_server("bob", "anew", options)
    assert not [path for _, path in server.requests if path.startswith("/dvc/")]
    for each in (first, second):
        assert each.run("cat images/3.txt; dvc status") == "image 3Data and pipelines are up to date."
        each.stop()
