"""helm/hubdock as a team installs it: one command, a login, a server; upgrade and rollback under servers and builds; what uninstall leaves.

One release for all of it: the tests follow one another.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from config.demo.server import Server
from hubdock.drivers.oci import Registry
from tests.kit.chart import RELEASE
from tests.kit.hub import Browser
from tests.kit.install import ChartHub, Install, forward, helm, make_images, run_install
from tests.kit.kube import Pod, kubectl
from tests.kit.kubebuild import wait_until
from tests.kit.probe import Place, probing, settle
from tests.kit.repos import Project

SLOW = "import time; time.sleep(2)\nfrom setuptools import setup; setup(name='slow', version='1')\n"  # it is run four times


@pytest.fixture(scope="module")
def install(registry: str, server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Install]:
    with run_install(tmp_path_factory.mktemp("install"), make_images(), registry, server.url) as made:
        yield made


def start(browser: Browser, project: Project) -> httpx.Response:
    """Press Start on the page."""
    page = browser.submit(browser.landing, "/services/hubdock/", repo=project.url, ref="main")
    assert page.status_code == 200, page.text[:2000]
    return page


def follow(hub: ChartHub, browser: Browser, page: httpx.Response, seconds: float = 240) -> Pod:
    """Look at the page again and again, as it does by itself, until it leads into the server."""
    end = time.monotonic() + seconds
    while not page.url.path.startswith("/user/alice/"):
        assert time.monotonic() < end, page.text[:3000] + hub.log
        time.sleep(0.5)
        page = browser.get(str(page.url))
    return Pod(hub, "alice", page.url.path.split("/")[3])


def find_jobs(install: Install) -> list[dict[str, Any]]:
    return [job for job in install.list("jobs", install.builds) if job["metadata"]["labels"].get("hubdock/kind") == "environment"]


@pytest.fixture(scope="module")
def project(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = Project(server, tmp_path_factory.mktemp("project"), "project").write_all({"setup.py": SLOW, "requirements.txt": "-e .\n", "README.md": "# one\n"})
    project.track("table.csv", "a,b\n1,2\n").commit("one")
    return project


@pytest.fixture(scope="module")
def running(install: Install, project: Project) -> Pod:
    """A server that was started from the page, after a login there. While its Job builds, the release is upgraded: service and hub are replaced."""
    with forward(install) as hub, hub.browser("alice") as browser:
        assert browser.landing.url.path == "/services/hubdock/" and "Repository" in browser.landing.text, "a login lands on the page that chooses"
        page = start(browser, project)
        (job,) = hub.wait_for(lambda: [job for job in find_jobs(install) if job["status"].get("active")], 120, "a Job builds")
        known = install.read_secret()
        traits = {**install.values["hub"]["config"], "JupyterHub": {"concurrent_spawn_limit": 7}}
        install.apply("upgrade", config=change(install, max_queued_builds=7), hub={**install.values["hub"], "config": traits})
        hub.wait_for(hub.answers, 60, "it answers again")
        assert install.read_secret() == known, "tokens and passwords stay"
        found = follow(hub, browser, page)
    assert [job["metadata"]["uid"] for job in find_jobs(install)] == [job["metadata"]["uid"]], "the new service took the same Job up"
    return found


def change(install: Install, **settings: Any) -> dict[str, Any]:
    return {"HubDock": {**install.values["config"]["HubDock"], **settings}}


def test_what_was_installed_answers(install: Install) -> None:
    assert "Phase:          Succeeded" in helm("test", install.namespace, "--timeout", "3m")
    assert "is for trials and tests" in install.said


def test_from_a_login_to_a_server(install: Install, project: Project, running: Pod) -> None:
    """The chart's own accounts and policies let all of it through: a Job built, the image is in the registry, and a pod runs it."""
    with forward(install) as running.hub:
        assert running.run("cat README.md table.csv; pip list | grep -c ^slow").splitlines() == ["# one", "a,b", "1,2", "1"]
        running.run("echo more >> README.md && git commit -qam 'from the pod' && git push -q")
        assert project.git("ls-remote", project.url, "refs/heads/main").split()[0] == running.run("git rev-parse HEAD")
        wait_until(lambda: any(job["status"].get("succeeded") for job in find_jobs(install)))  # hubdock knew it from the pod, some seconds before
        (job,) = find_jobs(install)
        assert job["status"]["succeeded"] == 1 and job["spec"]["template"]["spec"]["serviceAccountName"] == f"{RELEASE}-build"
        host, _, name = running.manifest["spec"]["containers"][0]["image"].partition("/")
        repository, _, digest = name.partition("@")
        assert repository == f"{install.namespace}/image" and Registry(host, insecure=[host]).find_digest(repository, digest) == digest


def test_servers_outlive_upgrade_and_rollback(install: Install, project: Project, running: Pod) -> None:
    before = running.manifest["metadata"]["uid"]
    for apply, status in ((lambda: install.apply("upgrade", config=change(install, mem_limit="600M")), 400), (lambda: helm("rollback", install.namespace, "--wait"), 200)):
        apply()
        with forward(install) as running.hub:
            assert running.manifest["metadata"]["uid"] == before and running.ask("status").status_code == 200
            plan = {"repo": project.url, "ref": "main", "memory": "1G"}
            assert running.hub.service("POST", "plan", plan, token=running.hub.make_token("alice")).status_code == status, "what was set is what holds"
            assert running.run("git commit -q --allow-empty -m more && git push -q && git status -sb | head -1") == "## main...origin/main"


@contextlib.contextmanager
def listen_on_a_link() -> Iterator[str]:
    """Hold a listener that stands for a cloud's metadata service: on a link-local address of this machine. Empty where it can't have one."""
    address = ["169.254.17.17/32", "dev", "lo"]
    done = subprocess.run(["ip", "address", "add", *address], capture_output=True)
    if done.returncode:
        yield ""
        return
    try:
        with socket.create_server(("169.254.17.17", 8080)):
            yield "169.254.17.17"
    finally:
        subprocess.run(["ip", "address", "del", *address], check=True)


def find_targets(install: Install, server: Server, running: Pod) -> dict[str, tuple[str, int]]:
    """Return addresses that somebody could want to reach, all of them without names: those are the business of another policy."""
    pods = {pod["metadata"]["labels"].get("app.kubernetes.io/component"): pod["status"]["podIP"] for pod in install.list("pods") if pod["status"].get("phase") == "Running"}
    node = kubectl("get", "nodes", "-o", "jsonpath={.items[0].status.addresses[?(@.type=='InternalIP')].address}")
    registry, remote = urlsplit(f"http://{os.environ['HUBDOCK_TEST_REGISTRY']}"), urlsplit(server.url)
    return {
        "registry": (str(registry.hostname), registry.port or 80), "remote": (str(remote.hostname), remote.port or 80), "index": ("deb.debian.org", 80),
        "api": (kubectl("get", "service", "kubernetes", "-n", "default", "-o", "jsonpath={.spec.clusterIP}"), 443), "kubelet": (node, 10250),
        "hub": (pods["hub"], 8081), "service": (pods["service"], 9000), "routes": (pods["proxy"], 8001), "proxy": (pods["proxy"], 8000),
        "server": (running.manifest["status"]["podIP"], 8888), "metadata": ("169.254.169.254", 80),
    }  # fmt: skip


def test_what_is_reached_from_where(install: Install, server: Server, running: Pod) -> None:
    """Over the network, from pods that policies take for a build and for what else runs; with the policies removed as the counter-test."""
    component = "app.kubernetes.io/component"
    here, builds, program = install.namespace, install.builds, {"app.kubernetes.io/name": "hubdock", component: "program"}
    places = {
        "build": Place(builds, {"app.kubernetes.io/name": "hubdock", component: "build"}), "trial": Place(builds, {**program, "hubdock/network": "none"}),
        "fetch": Place(here, {**program, "hubdock/network": "open"}), "link": Place(here, {**program, "hubdock/network": "none"}),
        "server": Place(here, {component: "singleuser-server"}), "other": Place(here, {}),
    }  # fmt: skip
    reached: dict[str, set[str]] = {
        "build": {"registry", "index"}, "trial": set(), "fetch": {"remote", "index"}, "link": set(), "server": {"remote", "index", "hub", "service"},
    }  # fmt: skip
    image, targets = install.values["image"]["service"], find_targets(install, server, running)
    with listen_on_a_link() as local:
        targets |= {"local": (local, 8080)} if local else {}
        reached["other"] = {*targets} - {"hub", "service", "routes", "server", "metadata"}
        with probing(image, places, targets) as look:
            assert settle(lambda: leave_out(look(), "other"), reached) == reached
            for namespace in (here, builds):
                kubectl("delete", "networkpolicies", "--all", "-n", namespace)
            everything = {*targets} - {"metadata"}
            assert settle(lambda: leave_out(look(), "build")["build"], everything) == everything


def leave_out(found: dict[str, set[str] | None], where: str) -> dict[str, set[str] | None]:
    """Leave a cloud's metadata out of what is open: not every machine has some."""
    return {**found, where: (found[where] or set()) - {"metadata"}}


def test_uninstall_leaves_volumes_only(install: Install, running: Pod) -> None:
    with forward(install) as hub:
        hub.stop_server("alice", running.name)
    claims = {claim["metadata"]["name"] for claim in install.list("pvc")}
    helm("uninstall", install.namespace, "--wait", "--timeout", "5m")
    kinds = "deployments,replicasets,services,configmaps,secrets,roles,rolebindings,serviceaccounts,networkpolicies,resourcequotas,leases,pods,jobs"
    own = {("ConfigMap", "kube-root-ca.crt"), ("ServiceAccount", "default")}
    wait_until(lambda: {(one["kind"], one["metadata"]["name"]) for one in install.list(kinds)} <= own)
    assert {claim["metadata"]["name"] for claim in install.list("pvc")} == claims >= {f"{RELEASE}-state", f"{RELEASE}-hub", f"{RELEASE}-data"}
    assert len(claims) == 4, "and a workspace"
    kubectl("wait", "--for=delete", f"namespace/{install.builds}", "--timeout=100s")
