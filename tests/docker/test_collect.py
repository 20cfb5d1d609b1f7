"""Collection on a real engine: what goes, what stays, and starts that come in between."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from config.demo.server import Server
from hubdock.core.collection import Item
from hubdock.core.events import Phase
from hubdock.core.naming import make_data_volume, make_tag
from hubdock.drivers import disk
from hubdock.engine.backend_docker import DockerBackend
from hubdock.engine.build import Build
from hubdock.engine.collect import Collector, Report
from hubdock.engine.database import Database
from hubdock.engine.inventory import list_cache_items
from hubdock.engine.launch import Launch, make_launch
from hubdock.engine.tasks import TaskStore
from tests.kit.builder import Builder
from tests.kit.hub import Hub, find_base
from tests.kit.kubebuild import wait_until
from tests.kit.repos import Project


class Shelf(Builder):
    """An engine whose past can be put back, with its collector."""

    @property
    def database(self) -> Database:
        return Database(self.settings.database_url)

    @property
    def tasks(self) -> TaskStore:
        return TaskStore(self.settings.state)

    @property
    def collector(self) -> Collector:
        return Collector(self.settings, self.database, self.tasks)

    def age(self, seconds: float = 7200.0, *keys: str) -> None:
        """Make all uses older, or those of some keys."""
        with sqlite3.connect(self.settings.state / "hubdock.sqlite") as connection:
            if keys:
                connection.execute(f"UPDATE uses SET used = used - {seconds} WHERE key IN ({','.join('?' * len(keys))})", keys)
                return
            for table, column in (("uses", "used"), ("builds", "finished"), ("workspaces", "used"), ("workspaces", "trashed")):
                connection.execute(f"UPDATE {table} SET {column} = {column} - {seconds}")
        for mark in self.settings.state.glob("git/*/packs/*/refs"):
            os.utime(mark, (time.time() - seconds,) * 2)

    def launch(self, build: Build, user: str = "alice", server: str = "s") -> Launch:
        return make_launch(self.settings, build.assembly, self.database, self.tasks, user, server)

    def has(self, kind: str, build: Build) -> bool:
        a = build.assembly
        assert a.environment and a.image and a.dataset
        if kind == "data":
            return DockerBackend().find_data(self.tasks, a.dataset.inputs.key, make_data_volume(self.settings.volume_prefix))
        inputs = a.environment if kind == "environment" else a.image
        return DockerBackend().find_image(kind, inputs.key, inputs.canonical) is not None

    def what_is_left(self, build: Build) -> set[str]:
        return {kind for kind in ("environment", "image", "data") if self.has(kind, build)}

    def list_store(self) -> list[str]:
        """Return the paths of the data store's files."""
        script = "cd /store && find . -type f | sort"
        found = self.docker.containers.run(find_base(), ["-c", script], entrypoint="sh", user="0", volumes={make_data_volume(self.settings.volume_prefix): {"bind": "/store", "mode": "ro"}}, remove=True)
        return str(found.decode()).split()


ALL = {"environment", "image", "data"}


@pytest.fixture
def shelf(docker_engine: docker.DockerClient, server: Server, seed: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Shelf]:
    made = Shelf(tmp_path / f"state-{os.urandom(4).hex()}", getattr(request, "param", seed), allowed_hosts=[server.url], smoke_test=False, collect_build_cache=False)
    yield made
    made.clean()


@pytest.fixture(scope="module")
def project(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Two branches, of other environments and data; one object is in both."""
    made = Project(server, tmp_path_factory.mktemp("work"), "digits")
    made.write_all({".hubdock.yml": f"env: {{MARK: {os.urandom(4).hex()}}}\n"})  # an environment of its own, made within a second
    made.track_directory("data", {"same.txt": "in both\n", "one.txt": "only here\n" * 2000}).commit("main")
    made.git("checkout", "--quiet", "-b", "other")
    made.write_all({".hubdock.yml": f"env: {{MARK: {os.urandom(4).hex()}}}\n"})
    made.track_directory("data", {"same.txt": "in both\n", "two.txt": "only there\n" * 2000}).commit("other")
    return made


@pytest.fixture
def two(shelf: Shelf, project: Project) -> tuple[Build, Build]:
    """Both branches, built long ago; ``main`` was used after ``other``."""
    builds = shelf.build_all({"repo": project.url, "ref": "main"}, {"repo": project.url, "ref": "other"})
    assert [build.phase for build in builds] == [Phase.READY] * 2, [build.error for build in builds]
    shelf.age()
    shelf.age(3600, *(key for key in list_keys(builds[1])))
    return builds[0], builds[1]


def list_keys(build: Build) -> list[str]:
    a = build.assembly
    assert a.environment and a.image and a.dataset
    return [a.environment.key, a.image.key, a.dataset.inputs.key]


def read(report: Report) -> dict[str, list[str]]:
    """Return the keys that went, by kind."""
    found: dict[str, list[str]] = {}
    for removal in report.removals:
        found.setdefault(removal.item.kind, []).append(removal.item.key)
    return found


def test_the_least_recently_used_goes_and_is_made_again(shelf: Shelf, two: tuple[Build, Build]) -> None:
    main, other = two
    foreseen = shelf.collector.look("1")
    assert foreseen.dry and shelf.what_is_left(other) == ALL
    order = [removal.item.key for removal in foreseen.removals if removal.item.kind in {"image", "environment"}]
    assert order.index(list_keys(other)[1]) < order.index(list_keys(other)[0]) < order.index(list_keys(main)[1]) < order.index(list_keys(main)[0])
    enough = foreseen.total - 1  # one byte over the budget: the oldest goes, and that is enough
    report = shelf.collector.collect(str(enough))
    assert [removal.item.key for removal in report.removals] == order[:1] and shelf.what_is_left(other) == {"environment", "data"} and shelf.what_is_left(main) == ALL
    report = shelf.collector.collect("1")
    assert read(report)["data"] and not report.stayed and shelf.what_is_left(main) == shelf.what_is_left(other) == set()
    assert shelf.list_store() == [], "no object is left behind"
    assert shelf.collector.look("1").removals == ()
    assert shelf.must(repo=other.assembly.options.repo.url, ref="other").assembly.plan.commit == other.assembly.plan.commit
    assert shelf.what_is_left(other) == ALL and len(shelf.list_store()) == 2 * 3 + 1  # two files and their list, in the pool and in the view, and its manifest


def test_pins_stay_and_so_does_what_two_share(shelf: Shelf, two: tuple[Build, Build], project: Project) -> None:
    main, other = two
    shelf.settings.pins = [f"{project.url.partition('://')[2].removesuffix('.git')}@main"]
    report = shelf.collector.collect("1")
    assert shelf.what_is_left(main) == ALL and shelf.what_is_left(other) == set()
    assert {item.held for item in report.kept if item.kind == "data"} == {"pinned"} and report.over
    assert len(shelf.list_store()) == 2 * 3 + 1
    launch = shelf.launch(main)
    assert DockerBackend().find_image("image", *_image(main)) == launch.image


def _image(build: Build) -> tuple[str, str]:
    assert build.assembly.image
    return build.assembly.image.key, build.assembly.image.canonical


def test_what_a_container_uses_stays_whether_it_runs_or_not(shelf: Shelf, two: tuple[Build, Build]) -> None:
    main, other = two
    container = shelf.docker.containers.create(shelf.image("image", main), labels={"hubdock.image": _image(main)[0]})
    try:
        report = shelf.collector.collect("1")
        assert {"environment", "image"} <= shelf.what_is_left(main) and shelf.what_is_left(other) == set()
        held = {item.key: item.held for item in report.kept}
        assert held[_image(main)[0]] == f"used by the container {container.name}"
    finally:
        container.remove()
    assert shelf.collector.look("1").removals == (), "it was in use until a moment ago"
    shelf.age()
    assert _image(main)[0] in read(shelf.collector.collect("1"))["image"]


def test_a_workspace_keeps_its_data_for_ever_and_its_image_while_it_is_used(shelf: Shelf, two: tuple[Build, Build]) -> None:
    main, _ = two
    launch = shelf.launch(main)
    volume = next(mount["volume"] for mount in launch.mounts if "-work-" in mount["volume"])
    shelf.docker.volumes.create(volume)
    shelf.age()
    shelf.collector.collect("1")
    assert shelf.what_is_left(main) == ALL
    shelf.settings.unused_max_age = 3600.0
    shelf.collector.collect("1")
    assert shelf.what_is_left(main) == {"data"}
    shelf.collector.workspaces.delete(volume)
    shelf.collector.collect("1")
    assert shelf.what_is_left(main) == {"data"}, "what is in the trash can be restored whole"
    shelf.age()
    shelf.settings.workspace_retention = 3600.0
    assert read(shelf.collector.collect("1"))["workspace"] == [volume]
    shelf.collector.collect("1")
    assert shelf.what_is_left(main) == set() and not shelf.docker.volumes.list(filters={"name": volume})


def test_what_was_planned_a_moment_ago_stays(shelf: Shelf, two: tuple[Build, Build], project: Project) -> None:
    main, other = two
    assert shelf.plan(repo=project.url, ref="main").plan.ready
    shelf.collector.collect("1")
    assert shelf.what_is_left(main) == ALL and shelf.what_is_left(other) == set()


def test_what_comes_into_use_between_choice_and_removal_is_put_back(shelf: Shelf, two: tuple[Build, Build]) -> None:
    main, _ = two
    collector = shelf.collector
    inventory = collector.stock.take()
    items = {item.key: item for item in inventory.items}
    environment, image, data = (items[key] for key in list_keys(main))
    history = next(item for item in inventory.items if item.kind == "history" and main.assembly.ref.commit in item.key)
    shelf.plan(repo=main.assembly.options.repo.url, ref="main")
    assert [collector.remover.remove(item, inventory.images) for item in (image, environment)] == [None, None]
    assert collector.remover.remove_data([data], find_base()) == ([], 0)
    assert shelf.what_is_left(main) == ALL and shelf.docker.images.list("hubdock/removed") == []
    collector.usage.record([history.identity])
    assert collector.remover.remove(history, {}) is None and (shelf.settings.state / "git" / history.key.replace("/", "/packs/") / "refs").exists()


def test_nothing_is_removed_from_the_store_while_something_is_fetched(shelf: Shelf, two: tuple[Build, Build]) -> None:
    from hubdock.engine.store import fetching

    with fetching(shelf.settings.state):
        report = shelf.collector.collect("1")
    assert all(shelf.has("data", build) for build in two) and {removal.item.kind for removal in report.stayed} == {"data"}
    assert read(shelf.collector.collect("1"))["data"]


KILLED = """
import os, sys
from hubdock.drivers import disk
from hubdock.engine import store
from hubdock.engine.collect import Collector
from hubdock.engine.config import load_config, make_settings
from hubdock.engine.database import Database
from hubdock.engine.tasks import TaskStore
config, place = sys.argv[1:]
settings = make_settings(load_config(config))
calls = {"image": (disk, "remove_image"), "data": (store, "remove_views")}
module, name = calls[place.partition(":")[0]]
real, left = getattr(module, name), [int(place.partition(":")[2])]
def call(*arguments):
    left[0] -= 1
    if left[0] < 0:
        os._exit(9)
    return real(*arguments)
setattr(module, name, call)
Collector(settings, Database(settings.database_url), TaskStore(settings.state)).collect("1")
"""


@pytest.mark.parametrize("place", ["image:0", "image:1", "image:2", "data:0"])
def test_killed_at_any_moment(shelf: Shelf, two: tuple[Build, Build], place: str, tmp_path: Path) -> None:
    """What a plan then calls ready is there, a start makes the rest, and the next collection takes up what was left."""
    main, _ = two
    names = ("state_dir", "base_image", "gpu_base_image", "volume_prefix", "allowed_hosts", "smoke_test", "collect_build_cache")
    (tmp_path / "config.json").write_text(json.dumps({"HubDock": {name: getattr(shelf.settings, name) for name in names}}))
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "config.json"), place], capture_output=True, text=True)
    assert done.returncode == 9, done.stderr
    planned = shelf.plan(repo=main.assembly.options.repo.url, ref="main").plan
    for part in ("environment", "image", "data"):
        if planned.part(part).state == "ready" and (part != "environment" or planned.part("image").state != "ready"):
            assert shelf.has(part, main), part
    shelf.must(repo=main.assembly.options.repo.url, ref="main")
    assert shelf.what_is_left(main) == ALL
    shelf.launch(main)
    shelf.age()
    with sqlite3.connect(shelf.settings.state / "hubdock.sqlite") as connection:
        connection.execute("DELETE FROM workspaces")
    shelf.collector.collect("1")
    assert shelf.what_is_left(main) == set() and not shelf.docker.images.list("hubdock/removed") and shelf.list_store() == []


def test_starts_beside_collections_find_what_was_ready(shelf: Shelf, two: tuple[Build, Build], project: Project) -> None:
    """A plan that says ready is followed by a launch that works, however often a collection comes in between."""
    main, _ = two
    stop, collected, failed = threading.Event(), [0], []

    def collect() -> None:
        while not stop.is_set():
            try:
                shelf.collector.collect("1")
                collected[0] += 1
            except Exception as error:
                failed.append(error)

    thread = threading.Thread(target=collect)
    thread.start()
    try:
        for _ in range(4):
            build = shelf.must(repo=project.url, ref="main")
            shelf.launch(build)
            with sqlite3.connect(shelf.settings.state / "hubdock.sqlite", timeout=30) as connection:
                connection.execute("DELETE FROM workspaces")
            assert shelf.what_is_left(main) == ALL
            shelf.age()
            seen = collected[0]  # the next one may have begun before
            wait_until(lambda seen=seen: collected[0] >= seen + 2 or failed, 60)
    finally:
        stop.set()
        thread.join()
    assert not failed and collected[0] >= 2


def test_copies_of_a_repository_are_made_again(shelf: Shelf, two: tuple[Build, Build], project: Project) -> None:
    """The commit is remembered for ever; what it was read from is not, and a worker fetches it anew."""
    main, _ = two
    report = shelf.collector.collect("1")
    assert read(report)["repository"] and len(read(report)["history"]) == 2
    assert not list((shelf.settings.state / "git").glob("*/plan.git")) and not list((shelf.settings.state / "git").glob(".gone-*"))
    shelf.must(repo=project.url, ref="main")
    assert shelf.what_is_left(main) == ALL
    files = list(shelf.settings.state.glob("git/*/packs/*/history.pack"))
    assert len(files) == 1


@pytest.mark.parametrize("shelf", [None], ids=["with the base's"], indirect=True)
def test_old_logs_and_rows_go_but_not_the_proof_of_data(shelf: Shelf, two: tuple[Build, Build]) -> None:
    shelf.settings.log_max_age = 3600.0
    for attempt in (shelf.settings.state / "tasks").glob("*/*/*"):
        if attempt.is_dir():
            os.utime(attempt, (time.time() - 7200,) * 2)
    report = shelf.collector.collect("")
    assert report.rows >= 2 and len(read(report)["log"]) == 5  # the base's, and two environments' and images'
    assert {path.parent.name for path in (shelf.settings.state / "tasks").glob("*/*/1")} == {list_keys(build)[2] for build in two}
    assert all(shelf.what_is_left(build) == ALL for build in two)
    assert not list((shelf.settings.state / "tasks" / "environment").glob("*")) and shelf.database.estimate("environment")[1] == 2
    shelf.collector.collect("1")
    assert all(shelf.what_is_left(build) == set() for build in two), "they are still known to be this hub's"


def test_other_hubs_images_are_none_of_it(shelf: Shelf, two: tuple[Build, Build]) -> None:
    known = {path.name for path in shelf.tasks.root.glob("*/*")}
    inventory = shelf.collector.stock.take()
    assert {item.key for item in inventory.items if item.kind in {"image", "environment"}} <= known
    assert {tag for image in shelf.docker.images.list("hubdock/image") for tag in image.tags} >= {make_tag("image", _image(build)[0]) for build in two}


# --- BuildKit's cache ---


def test_records_of_the_cache_are_removed_by_name(docker_engine: docker.DockerClient) -> None:
    """Steps like hubdock's, of this test alone: those chosen go, the image's stay with the image."""
    mark = os.urandom(6).hex()
    for number in range(2):
        text = f"FROM {find_base()}\nRUN echo /tmp/hubdock/{mark}-{number} >/tmp/x\nRUN cat /tmp/x >/tmp/y\n"
        subprocess.run(["docker", "buildx", "build", "--quiet", "--builder", "default", "--tag", f"hubdock-test:{mark}-{number}", "-"], input=text.encode(), check=True, capture_output=True)

    def find() -> list[Item]:
        items = list_cache_items(disk.list_cache(), time.time())
        mine = {item.key for item in items if mark in item.name}
        return [item for item in items if item.key in mine or {need[1] for need in item.needs} & mine]

    assert len(find()) == 4 and {item.held for item in find()} == {"part of an image"}
    docker_engine.images.remove(f"hubdock-test:{mark}-0")
    free = [item for item in find() if not item.held]
    assert len(free) == 2 and sum(item.size for item in free) > 0
    assert disk.prune_cache([item.key for item in free]) > 0
    assert len(find()) == 2 and docker_engine.images.get(f"hubdock-test:{mark}-1")
    docker_engine.images.remove(f"hubdock-test:{mark}-1")
    disk.prune_cache([item.key for item in find()])
    assert find() == []


# --- through the command line and the service ---


def test_the_command_line(shelf: Shelf, two: tuple[Build, Build], tmp_path: Path) -> None:
    from tests.kit.cli import CLI

    main, other = two
    names = ("state_dir", "base_image", "gpu_base_image", "volume_prefix", "allowed_hosts", "smoke_test", "collect_build_cache")
    (tmp_path / "config.json").write_text(json.dumps({"HubDock": {name: getattr(shelf.settings, name) for name in names}}))
    cli = CLI(tmp_path / "config.json", shelf.docker, shelf.settings.volume_prefix)
    foreseen = cli.read("gc", "--dry-run", "--budget", "1")
    assert foreseen["dry_run"] and foreseen["budget"] == 1 and {"image", "environment", "data", "repository", "history"} <= set(foreseen["freed"])
    shown = cli("gc", "--dry-run", "--budget", "1").stdout
    assert "would be freed" in shown and "least recently used" in shown and list_keys(other)[1][:12] in shown
    assert shelf.what_is_left(main) == ALL
    assert cli.read("gc")["removed"] == []
    done = cli("gc", "--budget", "1")
    assert done.returncode == 0 and " freed." in done.stdout and shelf.what_is_left(main) == set()
    assert cli("gc", "--budget", "much").returncode == 2
    with (shelf.settings.state / "collect.lock").open("a") as file:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX)
        busy = cli("gc")
    assert busy.returncode == 5 and "runs already" in busy.stderr


def test_the_service_collects_for_administrators(hub: Hub) -> None:
    from tests.docker.test_service import check

    assert hub.service("GET", "collection", token=hub.make_token("alice")).status_code == 403
    assert hub.service("POST", "collection", {}, token=hub.make_token("alice")).status_code == 403
    foreseen = check(hub, "/api/collection", "get", hub.service("GET", "collection", timeout=300))
    assert foreseen["dry_run"] and foreseen["budget"] is None
    assert hub.service("POST", "collection", {"budget": "lots"}).status_code == 400
    assert hub.service("POST", "collection", {"keep": "lots"}).status_code == 400
    report = check(hub, "/api/collection", "post", hub.service("POST", "collection", {"budget": "900T"}, timeout=300))
    assert not report["dry_run"] and report["removed"] == []
    metrics = hub.service("GET", "metrics").text
    assert "hubdock_last_collection_timestamp_seconds 1" in metrics and "# TYPE hubdock_disk_bytes gauge" in metrics
