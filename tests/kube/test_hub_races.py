"""Many at once, a death in the middle and a registry that is away, as people at a real hub see them."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import httpx

from config.demo.server import Server
from hubdock.core.events import Phase
from tests.kit.fixtures import CROWD
from tests.kit.gate import Gate
from tests.kit.kube import KubeHub
from tests.kit.kubebuild import wait_until
from tests.kit.repos import Project
from tests.kit.road import Road

SERVED = 4  # pods that two cores start within seconds


def read_plan(hub: KubeHub, project: Project) -> httpx.Response:
    return hub.service("POST", "plan", {"repo": project.url, "ref": "main"})


def find_key(hub: KubeHub, project: Project) -> str:
    """Return the key of the environment."""
    return next(str(part["key"]) for part in read_plan(hub, project).json()["parts"] if part["name"] == "environment")


def test_twenty_starts_are_one_job(hub: KubeHub, server: Server, project: Project) -> None:
    """Twenty people start a branch at the same moment. Most of them give up; the build goes on for those who stay, and they get their servers."""
    gate = Gate(server)
    gate.put_into(project)
    key = find_key(hub, project)
    with ThreadPoolExecutor(len(CROWD)) as pool:
        list(pool.map(lambda user: hub.begin(user, "crowd", {"repo": project.url, "ref": "main"}), CROWD))
        gate.wait_for_knock()
        builds = [build for build in hub.service("GET", "builds").json()["builds"] if build["repo"] == project.url]
        assert len(builds) == 1
        hub.wait_for(lambda: set(hub.service("GET", f"builds/{builds[0]['id']}").json()["users"]) == set(CROWD), 60, "all of them wait for one build")
        list(pool.map(lambda user: hub.api("DELETE", f"users/{user}/servers/crowd", {"remove": False}), CROWD[SERVED:]))
        gate.open()
        for user in CROWD[:SERVED]:
            hub.wait_ready(user, "crowd")
        (job,) = hub.builds.wait_for_ends(key)
        assert job["status"]["succeeded"] == 1 and not job["status"].get("failed")
        images = {pod["spec"]["containers"][0]["image"] for pod in hub.find_pods("crowd")}
        assert len(hub.find_pods("crowd")) == SERVED and len(images) == 1
        list(pool.map(lambda user: hub.stop_server(user, "crowd"), CROWD[:SERVED]))


def test_a_service_that_is_killed_finds_its_build_again(hub: KubeHub, server: Server, project: Project) -> None:
    """Hub, service and workers are gone in the middle of a build. Its Job is taken up by its name, and nothing is done twice."""
    gate = Gate(server)
    gate.put_into(project)
    key = find_key(hub, project)
    hub.begin("alice", "adopted", {"repo": project.url, "ref": "main"})
    gate.wait_for_knock()
    (job,) = hub.builds.find_jobs(key)
    identity = next(build["id"] for build in hub.service("GET", "builds").json()["builds"] if build["repo"] == project.url)
    hub.kill_all()
    hub.start()
    hub.wait_for(lambda: (hub.state / "tasks" / "environment" / key / "2").exists(), 60, "the build is taken up again")
    gate.open()
    hub.wait_for(lambda: hub.service("GET", f"builds/{identity}").json()["phase"] == Phase.READY, 120, "the build is ready")
    (after,) = hub.builds.wait_for_ends(key)
    assert after["metadata"]["uid"] == job["metadata"]["uid"] and after["status"]["succeeded"] == 1 and not after["status"].get("failed")
    hub.start_server("alice", "adopted", {"repo": project.url, "ref": "main"})
    assert len(hub.builds.find_jobs(key)) == 1
    hub.stop_server("alice", "adopted")


def test_a_registry_that_is_down(hub: KubeHub, server: Server, kube_road: Road, plain: Project, project: Project) -> None:
    """Whoever asks is told at once. Nothing is taken for missing, and nothing is built again when it is back."""
    registry, options = hub.builds.registry, {"repo": plain.url, "ref": "main"}
    hub.start_server("bob", "before", options)
    gate = Gate(server)
    gate.put_into(project)
    key = find_key(hub, project)
    hub.begin("carol", "meanwhile", {"repo": project.url, "ref": "main"})
    gate.wait_for_knock()
    jobs = sorted(job["metadata"]["uid"] for job in hub.builds.jobs())
    kube_road.close(registry)
    try:
        for path in ("plan", "builds"):
            began = time.monotonic()
            answer = hub.service("POST", path, options)
            assert answer.status_code == 503 and answer.json()["error"]["code"] == "registry_unavailable", answer.text
            assert f"The registry {registry} does not answer" in answer.json()["error"]["message"] and time.monotonic() - began < 2
        hub.begin("alice", "down", options)
        message, seconds = hub.wait_for_message("alice", "down", "Spawn failed", 5)
        assert "does not answer" in message and seconds < 5
        assert hub.service("GET", "health").status_code == 503
        assert hub.read_server("bob", "before").get("ready"), "what runs goes on"
        gate.open()  # the Job ends well, and its image is where the service can't see it
        wait_until(lambda: hub.builds.find_jobs(key)[0]["status"].get("succeeded"), 120)
        assert "does not answer" in hub.wait_for_message("carol", "meanwhile", "Spawn failed", 60)[0]
    finally:
        kube_road.open(registry)
    assert read_plan(hub, plain).json()["ready"]
    for user, name, chosen in (("alice", "down", plain), ("carol", "meanwhile", project)):
        hub.start_server(user, name, {"repo": chosen.url, "ref": "main"})
        hub.stop_server(user, name)
    hub.stop_server("bob", "before")
    assert sorted(job["metadata"]["uid"] for job in hub.builds.jobs()) == jobs, "nothing was built again"
