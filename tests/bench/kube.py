"""The same on Kubernetes, beside stock KubeSpawner and bare git, on the cluster of KUBECONFIG: hits, a README edit, plans."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from config.demo.server import Server
from hubdock.core.repo import parse_repo_url
from hubdock.drivers import git
from tests.bench.launches import PlainHub, time_in_turn, time_start
from tests.bench.report import Figure, describe, median
from tests.kit.hub import ROOT
from tests.kit.kube import HOST, KubeHub, new_namespace, require_cluster, run_kube_hub
from tests.kit.kubebuild import ensure_base
from tests.kit.ports import find_port
from tests.kit.repos import Project

LEAST = 10  # rounds, however few are asked for
AT_ONCE, ASKED = 16, 80  # plans at a time, and in a round
# As an admin would have it: the spawner itself instead of the tests' own, and the hub's own answer to a POST.
STOCK = """
c.JupyterHub.spawner_class = HubDockKubeSpawner
c.JupyterHub.tornado_settings = {}
"""
Measure = Callable[[Path, Server, int], list[Figure]]


def on_cluster(measure: Measure) -> Measure:
    """Measure where there is a cluster, with a git server that its pods reach; elsewhere say why not."""

    def run(work: Path, server: Server, rounds: int) -> list[Figure]:
        try:
            require_cluster()
            with tempfile.TemporaryDirectory() as directory:
                ensure_base(Path(directory))
            near = Server(work / "remote", HOST).start()
            try:
                return measure(work, near, rounds)
            finally:
                near.shutdown()
        except pytest.skip.Exception as reason:
            print(f"bench: skipped: {reason}", flush=True)
            return []

    return run


@contextlib.contextmanager
def warm_hub(work: Path, server: Server, project: Project, **settings: Any) -> Iterator[KubeHub]:
    """Hold a hub on which a project's image is made and on the node; nothing runs."""
    given = {
        "HubDock": {"allowed_hosts": [server.url], "default_resources": {"memory": "512M", "cpu": 2}, **settings},
        "KubeSpawner": {"cpu_guarantee": 0.05, "mem_guarantee": "64M"},
    }  # fmt: skip
    with run_kube_hub(work / "hub", given, more=STOCK) as hub:
        hub.start_server("alice", "warm", {"repo": project.url, "ref": "main"}, 300)
        yield hub


class PlainKubeHub(PlainHub):
    """A hub with stock KubeSpawner and one image."""

    def __init__(self, directory: Path, image: str, namespace: str) -> None:
        super().__init__(directory, image)
        self.url = f"http://{HOST}:{find_port(HOST)}"
        self.gateway, self.ports = HOST, {**self.ports, "hub_port": find_port(HOST), "namespace": namespace}  # type: ignore[dict-item]


def make_small(server: Server, work: Path, name: str) -> Project:
    project = Project(server, work, name)
    project.write_all({f"src/module{n}.py": f"VALUE = {n}\n" for n in range(100)}).commit()
    return project


@on_cluster
def measure_hits(work: Path, server: Server, rounds: int) -> list[Figure]:
    """Each start has a name of its own: hubdock makes a workspace each time, and its volume."""
    project, rounds = make_small(server, work, "hits"), max(rounds, LEAST)
    options = {"repo": project.url, "ref": "main"}
    with warm_hub(work, server, project) as ours, new_namespace("baseline") as namespace:
        (pod,) = ours.find_pods("warm")
        ours.stop_server("alice", "warm")
        plain = PlainKubeHub(work / "plain", pod["spec"]["containers"][0]["image"], namespace)
        try:
            time_start(plain.start(), "warm", {})
            plain.stop_server("alice", "warm")
            times = time_in_turn(plain, ours, options, rounds)
        finally:
            plain.stop()
    ratio = median(times["hubdock"]) / median(times["plain"])
    return [Figure("Kubernetes: hit, POST to ready: hubdock / plain KubeSpawner", ratio, 0.5, "lower", rounds, describe(**times))]


@on_cluster
def measure_edit(work: Path, server: Server, rounds: int) -> list[Figure]:
    """From the question to an image in the registry, as everybody who waits for it sees it; the commit is new, its environment is not."""
    project, rounds = make_small(server, work, "edit"), max(rounds, LEAST)
    seconds = []
    with warm_hub(work, server, project) as hub:
        before = list_jobs(hub)
        for number in range(rounds):
            project.write_all({"README.md": f"round {number}\n"}).commit("edit")
            seconds.append(time_build(hub, {"repo": project.url, "ref": "main"}))
        jobs = list_jobs(hub) - before
    return [
        Figure("Kubernetes: README edit: seconds before the pod", median(seconds), 1.0, "lower", rounds, describe(hubdock=seconds)),
        Figure("Kubernetes: README edit: Jobs", len(jobs), 0, "lower", rounds),
    ]


def list_jobs(hub: KubeHub) -> set[str]:
    """Return the uids of all Jobs of a hub, ended ones too: they stay for a quarter of an hour."""
    cluster = hub.builds.cluster
    return {job["metadata"]["uid"] for namespace in (hub.builds.name, hub.namespace) for job in cluster.list("Job", namespace)}


def time_build(hub: KubeHub, options: dict[str, Any]) -> float:
    """Return the seconds from the question until everything but the launch is done."""
    with httpx.Client(base_url=f"http://127.0.0.1:{hub.service_port}/services/hubdock/api/", headers={"Authorization": f"token {hub.token}"}, timeout=60) as client:
        began = time.perf_counter()
        build = client.post("builds", json=options).raise_for_status().json()
        while not build["finished"]:
            time.sleep(0.01)
            build = client.get(f"builds/{build['id']}").raise_for_status().json()
        seconds = time.perf_counter() - began
    assert build["phase"] == "ready", build["error"]
    return seconds


@on_cluster
def measure_plans(work: Path, server: Server, rounds: int) -> list[Figure]:
    """Plans of a ready commit by the service, and the ls-remote that each of them is at least, as many at a time, against a git server in a process of its own."""
    project, log = make_small(server, work, "plans"), work / "remote.log"
    rates: dict[str, list[float]] = {"plans": [], "ls-remote": []}
    requests: dict[str, set[float]] = {"plans": set(), "ls-remote": set()}
    with git_server(server.root, log) as address, warm_hub(work, server, project, allowed_hosts=[server.url, address]) as hub:
        options = {"repo": f"{address}/git/{project.remote_name}.git", "ref": "main"}
        time_build(hub, options)
        asks = {"ls-remote": make_lister(options["repo"]), "plans": make_planner(hub, options)}
        for _ in range(max(rounds, LEAST)):
            for name, ask in asks.items():
                before = log.read_bytes().count(b"\n")
                rates[name].append(measure_rate(ask))
                requests[name].add((log.read_bytes().count(b"\n") - before) / ASKED)
    assert requests["plans"] == requests["ls-remote"] == {2.0}, requests
    ratio = median(rates["plans"]) / median(rates["ls-remote"])
    shown = "; ".join(f"{name} {median(values):.0f}/s ({min(values):.0f}-{max(values):.0f})" for name, values in rates.items())
    return [Figure("Kubernetes: plans of a known commit / bare ls-remote, each second", ratio, 0.8, "higher", len(rates["plans"]), shown)]


@contextlib.contextmanager
def git_server(root: Path, log: Path) -> Iterator[str]:
    """Hold a git server over another's repositories, with a line of log for each request, and yield its address."""
    port = find_port(HOST)
    with log.open("ab") as file:
        running = subprocess.Popen([sys.executable, str(ROOT / "config/demo/server.py"), str(root), "--host", HOST, "--port", str(port)], stdout=file, stderr=file)
    try:
        yield f"http://{HOST}:{port}"
    finally:
        running.terminate()
        running.wait()


def make_lister(url: str) -> Callable[[], object]:
    remote = git.Remote(parse_repo_url(url))
    argv, env = ["git", "ls-remote", "--", url, "refs/heads/main", "refs/tags/main", "refs/tags/main^{}"], git.make_environment(remote)
    return lambda: subprocess.run(argv, env=env, check=True, capture_output=True)


def make_planner(hub: KubeHub, options: dict[str, Any]) -> Callable[[], object]:
    client = httpx.Client(base_url=f"http://127.0.0.1:{hub.service_port}/services/hubdock/api/", headers={"Authorization": f"token {hub.token}"}, timeout=60)

    def ask() -> None:
        plan = client.post("plan", json=options).raise_for_status().json()
        assert plan["ready"] and plan["commit"], plan

    return ask


def measure_rate(ask: Callable[[], object]) -> float:
    """Return how often a second it is done, AT_ONCE at a time."""
    began = time.perf_counter()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for _ in pool.map(lambda _: ask(), range(ASKED)):
            pass
    return ASKED / (time.perf_counter() - began)
