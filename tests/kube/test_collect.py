"""Collection on a cluster: images go from the registry, data from the claim; what a pod uses stays."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from config.demo.server import Server
from hubdock.core.naming import make_data_volume
from hubdock.core.plan import State
from hubdock.engine.backend_kube import KubeBackend
from hubdock.engine.build import Build
from hubdock.engine.collect import Collector
from hubdock.engine.database import Database
from hubdock.engine.images import list_made_images
from hubdock.engine.tasks import TaskStore
from tests.kit.kube import kubectl
from tests.kit.kubebuild import KubeBuilder, Namespace, wait_until
from tests.kit.repos import Project


def age(builder: KubeBuilder) -> None:
    """Let everything have happened two hours ago."""
    with sqlite3.connect(builder.settings.state / "hubdock.sqlite") as connection:
        for table, column in (("uses", "used"), ("builds", "finished"), ("workspaces", "used")):
            connection.execute(f"UPDATE {table} SET {column} = {column} - 7200")


def what_is_left(builder: KubeBuilder, backend: KubeBackend, build: Build) -> set[str]:
    a = build.assembly
    assert a.environment and a.image and a.dataset
    found = {kind for kind, inputs in (("environment", a.environment), ("image", a.image)) if backend.find_image(kind, inputs.key, inputs.canonical)}
    data = backend.find_data(TaskStore(builder.settings.state), a.dataset.inputs.key, make_data_volume(builder.settings.volume_prefix))
    return found | ({"data"} if data else set())


def test_what_nobody_uses_goes_and_is_made_again(namespace: Namespace, server: Server, project: Project, tmp_path: Path) -> None:
    place = f"{namespace.registry}/{namespace.name}-collected"  # what others need stays
    builder = namespace.make_builder(tmp_path / "state-gone", allowed_hosts=[server.url], registry=place)
    backend = KubeBackend(builder.settings.backend_values)
    project.write_all({".hubdock.yml": f"env: {{MARK: {os.urandom(4).hex()}}}\n"})
    project.track_directory("data", {"one.txt": "one\n" * 2000}).commit("main")
    build = builder.must(repo=project.url, ref="main")
    everything = {"environment", "image", "data"}
    assert what_is_left(builder, backend, build) == everything
    assert {image.kind for image in list_made_images(backend)} == {"base", "environment", "image"}
    age(builder)
    collector = Collector(builder.settings, Database(builder.settings.database_url), TaskStore(builder.settings.state))
    assert build.assembly.image and build.assembly.environment
    image = backend.find_image("image", build.assembly.image.key, build.assembly.image.canonical)
    kubectl("run", "user", "-n", namespace.name, "--quiet", f"--image={image}", "--command", "--", "sleep", "60")
    foreseen = collector.look("1")
    held = {item.kind: item.held for item in foreseen.kept}
    assert "the container user" in held["image"] and held["environment"] and held["base"] and {removal.item.kind for removal in foreseen.removals} >= {"data"}
    kubectl("delete", "pod", "user", "-n", namespace.name, "--grace-period=0", "--force")
    wait_until(lambda: "user" not in kubectl("get", "pods", "-n", namespace.name, "-o", "name"), 20)
    report = collector.collect("1")
    assert what_is_left(builder, backend, build) == set() and report.freed["image"] > 0 and report.freed["data"] > 7000, report
    planned = builder.plan(repo=project.url, ref="main").plan
    assert {part.name for part in planned.parts if part.state is State.BUILD} >= {"environment", "image", "data"}
    again = builder.must(repo=project.url, ref="main")
    assert what_is_left(builder, backend, again) == everything
