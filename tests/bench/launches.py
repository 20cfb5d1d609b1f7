"""Hits: POST to ready, hubdock beside stock DockerSpawner with the same image, in turn. And the second hypothesis on one large data set."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx

from config.demo.server import Server
from tests.bench.report import Figure, describe, median
from tests.kit.hub import PASSWORD, USERS, Hub, find_gateway, find_proxy
from tests.kit.repos import Project

CONFIG = Path(__file__).with_name("jupyterhub_config_plain.py")
FILES = 10_000
QUEUED = 30
SETTLE = 8.0


class PlainHub(Hub):
    """A hub with stock DockerSpawner and one image."""

    def __init__(self, directory: Path, image: str) -> None:
        super().__init__(directory, {})
        self.image, self.gateway = image, find_gateway()

    def start(self) -> PlainHub:
        given = {
            "password": PASSWORD, "users": USERS, "url": self.url, "gateway": self.gateway, "proxy": find_proxy(), "token": self.token,
            "prefix": self.prefix, "image": self.image, **self.ports,
        }  # fmt: skip
        with (self.directory / "hub.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "jupyterhub", "-f", str(CONFIG)], cwd=self.directory, env={**os.environ, "HUBDOCK_TEST_CONFIG": json.dumps(given)},
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        self.wait_for(self.service_answers, 60, "the hub answers")
        return self

    def service_answers(self) -> bool:
        try:
            return self.api("GET", "").status_code == 200
        except httpx.HTTPError:
            return False


def time_start(hub: Hub, server: str, options: dict[str, Any]) -> float:
    """Return seconds from the POST until the hub tells that the server is ready, by the stream that its own page waits at: asking again and again costs a core of two."""
    began = time.perf_counter()
    answer = hub.api("POST", f"users/alice/servers/{server}", options)
    assert answer.status_code in {201, 202}, answer.text
    events = hub.read_progress("alice", server)
    taken = time.perf_counter() - began
    assert events and events[-1].get("ready"), events
    return taken


def time_in_turn(plain: Hub, ours: Hub, options: dict[str, Any], rounds: int) -> dict[str, list[float]]:
    """Return the seconds of starts by each hub, one after the other; each has a name of its own and is stopped again."""
    times: dict[str, list[float]] = {"hubdock": [], "plain": []}
    for number in range(rounds):
        for name, hub, asked in (("plain", plain, {}), ("hubdock", ours, options)):
            times[name].append(time_start(hub, f"round{number}", asked))
            hub.stop_server("alice", f"round{number}")
    return times


def measure_hits(work: Path, server: Server, rounds: int) -> list[Figure]:
    project = Project(server, work, "hits")
    project.write_all({f"src/module{n}.py": f"VALUE = {n}\n" for n in range(100)}).commit()
    ours = Hub(work / "ours", {"HubDock": {"allowed_hosts": [server.url]}})
    plain: PlainHub | None = None
    options = {"repo": project.url, "ref": "main"}
    try:
        first = ours.start().start_server("alice", "warm", options)
        plain = PlainHub(work / "plain", first.container.attrs["Image"]).start()
        first.stop()
        time_start(plain, "warm", {})
        plain.stop_server("alice", "warm")
        times = time_in_turn(plain, ours, options, rounds)
    finally:
        for hub in (ours, plain):
            if hub is not None:
                hub.stop()
                hub.clean()
    ratio = median(times["hubdock"]) / median(times["plain"])
    return [Figure("hit, POST to ready: hubdock / plain DockerSpawner", ratio, 0.5, "lower", rounds, describe(**times))]


def measure_second_hypothesis(work: Path, server: Server, rounds: int) -> list[Figure]:
    """A second user on a branch with the same 10,000 files: what the data costs, and how many bytes come."""
    project = Project(server, work, "large").init_dvc()
    project.write_all({"README.md": "large\n"})
    project.add_data("images", {f"{n // 100}/{n}.txt": f"image {n}\n" for n in range(FILES)}).commit()
    project.push("second")
    hub = Hub(work / "second", {"HubDock": {"allowed_hosts": [server.url]}})
    seconds, fetched = [], 0
    try:
        hub.start().start_server("bob", "first", {"repo": project.url, "ref": "main"}).stop()
        for number in range(rounds):
            server.requests.clear()
            running = hub.start_server("alice", f"second{number}", {"repo": project.url, "ref": "second"})
            fetched += sum(path.startswith("/dvc/") for _, path in server.requests)
            told = re.search(r"workspace made in .*data ([0-9.]+)\)", running.container.logs().decode())
            assert told and running.run("ls images/42 | wc -l") == "100"
            seconds.append(float(told[1]))
            running.stop()
    finally:
        hub.stop()
        hub.clean()
    return [
        Figure(f"second hypothesis on {FILES:,} files: seconds of data work", median(seconds), 1.5, "lower", rounds, describe(linking=seconds)),
        Figure("second hypothesis: requests to the data remote", fetched, 0, "lower", rounds),
    ]


def measure_queue(work: Path, server: Server, rounds: int) -> list[Figure]:
    """A ready image's start beside 30 builds that wait for their turn, and on the same hub with none."""
    project = Project(server, work, "queue")
    project.write_all({"README.md": "ready\n", "slow/setup.py": "import time\ntime.sleep(600)\n"}).commit()
    for number in range(QUEUED + 1):
        project.write_all({"requirements.txt": f"# {number}\n./slow\n"}).commit(push=False)
        project.push(f"wait{number}")
    settings = {"allowed_hosts": [server.url], "max_parallel_builds": 1, "max_queued_builds_per_user": 100, "cancel_grace": 0.1}
    hub = Hub(work / "queue", {"HubDock": settings})
    options = {"repo": project.url, "ref": "main"}
    times: dict[str, list[float]] = {"idle": [], "queue": []}
    try:
        hub.start().start_server("alice", "warm", options).stop()
        for number in range(rounds):
            for name in ("idle", "queue"):
                builds = [queue_build(hub, project, n) for n in range(QUEUED + 1)] if name == "queue" else []
                time.sleep(SETTLE)  # the one that has its place takes the processor until its package waits
                times[name].append(time_start(hub, f"{name}{number}", options))
                assert sum(bool(hub.service("GET", f"builds/{build}").json()["queue"]) for build in builds) >= len(builds) - 1
                hub.stop_server("alice", f"{name}{number}")
                for build in builds:
                    hub.service("DELETE", f"builds/{build}")
                hub.wait_for(lambda: all(hub.service("GET", f"builds/{build}").json()["finished"] for build in builds), 60, "the builds end")  # noqa: B023
    finally:
        hub.stop()
        hub.clean()
    ratio = median(times["queue"]) / median(times["idle"])
    return [Figure(f"hit beside {QUEUED} queued builds / on an idle hub", ratio, 1.3, "lower", rounds, describe(**times))]


def queue_build(hub: Hub, project: Project, number: int) -> str:
    answer = hub.service("POST", "builds", {"repo": project.url, "ref": f"wait{number}"})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])
