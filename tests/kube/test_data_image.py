"""Data where no volume can be mounted by all nodes: it is part of the image, and of the workspace from the first start on."""

from __future__ import annotations

import io
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard

from config.demo.server import Server
from hubdock.drivers.oci import Registry
from hubdock.engine.collect import Collector
from hubdock.engine.config import HubDock
from hubdock.engine.database import Database
from hubdock.engine.tasks import TaskStore
from tests.kit.canary import find_in_files
from tests.kit.kube import KubeHub, kubectl, run_kube_hub
from tests.kit.repos import Project

SECRET = "c4n4ry-of-a-dvc-remote"
# In one process: DVC is imported once, which takes seconds.
EVERYTHING = """
import sys
from dvc.cli import main

def dvc(*words):
    assert main(list(words)) == 0, words

dvc("unprotect", "images/a.txt")
open("images/a.txt", "w").write("changed")
dvc("checkout", "--quiet", "--force", "images.dvc")
open("mine.txt", "w").write("mine\\n")
for words in ("add --quiet mine.txt", "push --quiet", "status"):
    dvc(*words.split())
"""


@pytest.fixture
def hub(kube_remote: Server, tmp_path: Path) -> Iterator[KubeHub]:
    """A hub of this mode, whose DVC remote wants a password."""
    password = tmp_path / "password"
    password.write_text(SECRET)
    password.chmod(0o600)
    options = {"auth": "custom", "custom_auth_header": "X-Password", "password_file": str(password)}
    settings: dict[str, dict[str, Any]] = {
        "HubDock": {"allowed_hosts": [kube_remote.url], "data_mode": "image", "dvc_remotes": {f"{kube_remote.url}/dvc/": options}, "kube_cache_size": "5G"},
        "HubDockMixin": {"http_timeout": 45}, "KubeSpawner": {"cpu_guarantee": 0.05, "mem_guarantee": "64M"},
    }  # fmt: skip
    with run_kube_hub(tmp_path / "hub", settings) as running:
        yield running


def collect(hub: KubeHub) -> None:
    """Data images are collected like the others: what the workspace's branch was started with last stays, with all it stands on."""
    settings = HubDock(**hub.settings["HubDock"])
    with sqlite3.connect(hub.state / "hubdock.sqlite") as connection:
        for table, column in (("uses", "used"), ("builds", "finished"), ("workspaces", "used")):
            connection.execute(f"UPDATE {table} SET {column} = {column} - 7200")
    report = Collector(settings, Database(settings.database_url), TaskStore(settings.state)).collect("1")
    registry = Registry(hub.builds.registry, insecure=[hub.builds.registry])
    assert [len(registry.list_tags(f"{hub.builds.name}/{kind}")) for kind in ("data", "image")] == [1, 1] and report.freed["data"] > 0, report


def read_images(hub: KubeHub) -> dict[str, str]:
    """Return all that the data's images and the settings of those that are launched hold, by repository, and fail where there are none."""
    registry = Registry(hub.builds.registry, insecure=[hub.builds.registry])
    found: dict[str, str] = {}
    for kind in ("data", "image"):
        name = f"{hub.builds.name}/{kind}"
        for tag in registry.list_tags(name):
            manifest = registry.read_manifest(name, tag)
            assert manifest
            for blob in (manifest.config, *(manifest.layers if kind == "data" else ())):
                content = b"".join(registry.stream_blob(name, blob))
                if blob.media_type.endswith("zstd"):
                    content = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(content)).read()
                found[name] = found.get(name, "") + content.decode("latin-1")
    assert len(found) == 2
    return found


def test_data_in_the_image(hub: KubeHub, project: Project) -> None:
    project.track_directory("images", {"a.txt": "first", "gone.txt": "old"}).commit()
    want = {"repo": project.url, "ref": "main"}
    server = hub.start_server("alice", "baked", want)
    assert server.run("cat images/a.txt images/gone.txt") == "firstold"
    assert not [claim for claim in hub.list_claims() if claim.endswith("-data")], "no volume for data"
    said = server.run(f"/opt/dvc/bin/python -c '{EVERYTHING}' && git add . && git commit -qm mine && git push -q")
    assert said.endswith("Data and pipelines are up to date."), said
    assert "X-Password" not in server.run("cat .dvc/config .dvc/config.local") and project.find_object("mine\n").exists()
    hub.stop_server("alice", "baked")

    kept = read_images(hub)
    objects = kubectl("get", "jobs,pods", "-n", hub.builds.name, "-o", "json")
    logs = kubectl("logs", "-n", hub.builds.name, "-l", "hubdock/kind=data", "--tail=-1")
    assert "fetch.py" in logs, "the pod that fetched is still there to be looked at"
    assert "first" in kept[f"{hub.builds.name}/data"] and not [name for name, text in {**kept, "objects": objects, "logs": logs}.items() if SECRET in text]
    assert find_in_files(hub.directory, [SECRET.encode()]) == []

    project.git("pull", "--quiet", "origin", "main")
    project.track_directory("images", {"a.txt": "second", "b.txt": "more"}).commit()
    again = hub.start_server("alice", "baked", want)
    dangling = "find . -xtype l -not -path './.git/*'"
    assert again.run(f"{dangling}; ls images; cat images/*.txt mine.txt; dvc status") == "a.txt\nb.txt\nsecondmoremine\nData and pipelines are up to date."
    hub.stop_server("alice", "baked")
    collect(hub)
