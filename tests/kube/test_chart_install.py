"""helm/hubdock as a team installs it: one command, a login, a server; upgrade and rollback under servers and builds; what uninstall leaves.

One release for all of it: the tests follow one another.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from config.demo.server import Server
from hubdock.drivers.oci import Registry
from tests.kit.chart import RELEASE
from tests.kit.hub import Browser
from tests.kit.install import ChartHub, Install, forward, helm, make_images, run_install
from tests.kit.kube import Pod, kubectl
from tests.kit.repos import Project, make_requirements

SLOW = {"setup.py": "import time; time.sleep(20)\nfrom setuptools import setup; setup(name='slow', version='1')\n", "requirements.txt": "-e .\n"}


@pytest.fixture(scope="module")
def install(registry: str, server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Install]:
    with run_install(tmp_path_factory.mktemp("install"), make_images(), registry, server.url) as made:
        yield made


@pytest.fixture
def chart_hub(install: Install) -> Iterator[ChartHub]:
    with forward(install) as hub:
        yield hub


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


def find_jobs(install: Install, kind: str) -> list[dict[str, Any]]:
    return [job for job in install.list("jobs", install.builds) if job["metadata"]["labels"]["hubdock/kind"] == kind]


@pytest.fixture(scope="module")
def running(install: Install, server: Server, tmp_path_factory: pytest.TempPathFactory) -> Pod:
    """A server that was started from the page, after a login there."""
    project = Project(server, tmp_path_factory.mktemp("first"), "first").write_all({"requirements.txt": make_requirements("tabulate==0.9.0"), "README.md": "# one\n"})
    project.track("table.csv", "a,b\n1,2\n").commit("one")
    with forward(install) as hub, hub.browser("alice") as browser:
        assert browser.landing.url.path == "/services/hubdock/" and "Repository" in browser.landing.text, "a login lands on the page that chooses"
        found = follow(hub, browser, start(browser, project))
        found.run("echo more >> README.md && git commit -qam 'from the pod' && git push -q")
        assert project.git("ls-remote", project.url, "refs/heads/main").split()[0] == found.run("git rev-parse HEAD")
    return found


def test_what_was_installed_answers(install: Install) -> None:
    assert "Phase:          Succeeded" in helm("test", install.namespace, "--timeout", "3m")


def test_from_a_login_to_a_server(install: Install, running: Pod, chart_hub: ChartHub) -> None:
    """The chart's own accounts and policies let all of it through: a Job built, the image is in the registry, and a pod runs it."""
    running.hub = chart_hub
    assert running.run("cat README.md table.csv; python -c 'import tabulate; print(tabulate.__version__)'").splitlines() == ["# one", "more", "a,b", "1,2", "0.9.0"]
    (job,) = find_jobs(install, "environment")
    assert job["status"]["succeeded"] == 1 and job["spec"]["template"]["spec"]["serviceAccountName"] == f"{RELEASE}-build"
    host, _, name = running.manifest["spec"]["containers"][0]["image"].partition("/")
    repository, _, digest = name.partition("@")
    assert repository == f"{install.namespace}/image" and Registry(host, insecure=[host]).find_digest(repository, digest) == digest


def test_an_upgrade_leaves_servers_and_builds_alone(install: Install, running: Pod, server: Server, project: Project) -> None:
    """A setting of the service and one of the hub's change while a server runs and a Job builds: both go on, the new service takes the build up, and its start too."""
    before, known = running.manifest["metadata"]["uid"], install.read_secret()
    project.write_all({**SLOW, "README.md": "# two\n"}).commit("two")
    with forward(install) as hub, hub.browser("alice") as browser:
        page = start(browser, project)
        active = hub.wait_for(lambda: [job for job in find_jobs(install, "environment") if job["status"].get("active")], 60, "a Job builds")
        changed = {"HubDock": {**install.values["config"]["HubDock"], "mem_limit": "600M"}}
        traits = {**install.values["hub"]["config"], "JupyterHub": {"concurrent_spawn_limit": 7}}
        install.apply("upgrade", config=changed, hub={**install.values["hub"], "config": traits})
        hub.wait_for(hub.answers, 60, "it answers again")
        running.hub = hub
        assert running.manifest["metadata"]["uid"] == before and running.ask("status").status_code == 200
        assert install.read_secret() == known, "tokens and passwords stay"
        refused = hub.service("POST", "plan", {"repo": project.url, "ref": "main", "memory": "1G"}, token=hub.make_token("alice"))
        assert refused.status_code == 400 and "600" in refused.text, refused.text
        second = follow(hub, browser, page)
        assert second.run("cat README.md; pip list | grep -c ^slow") == "# two\n1"
        ended = [job["metadata"]["uid"] for job in find_jobs(install, "environment") if job["metadata"]["name"] == active[0]["metadata"]["name"]]
        assert ended == [active[0]["metadata"]["uid"]], "the same Job as before"
        hub.stop_server("alice", second.name)


def test_a_rollback_too(install: Install, running: Pod) -> None:
    before = running.manifest["metadata"]["uid"]
    helm("rollback", install.namespace, "1", "--wait", "--timeout", "5m")
    with forward(install) as hub:
        running.hub = hub
        assert running.manifest["metadata"]["uid"] == before and running.ask("status").status_code == 200
        plan = {"repo": running.run("git remote get-url origin"), "ref": "main", "memory": "1G"}
        assert hub.service("POST", "plan", plan, token=hub.make_token("alice")).status_code == 200, "the limit is the old one"
        assert running.run("git push -q && git status -sb | head -1") == "## main...origin/main", "and the service's answers still reach it"
        hub.stop_server("alice", running.name)


def test_uninstall_leaves_volumes_only(install: Install) -> None:
    claims = {claim["metadata"]["name"] for claim in install.list("pvc")}
    helm("uninstall", install.namespace, "--wait", "--timeout", "5m")
    kinds = "deployments,replicasets,services,configmaps,secrets,roles,rolebindings,serviceaccounts,networkpolicies,resourcequotas,leases,pods,jobs"
    own = {("ConfigMap", "kube-root-ca.crt"), ("ServiceAccount", "default")}
    assert {(one["kind"], one["metadata"]["name"]) for one in install.list(kinds)} <= own
    assert {claim["metadata"]["name"] for claim in install.list("pvc")} == claims >= {f"{RELEASE}-state", f"{RELEASE}-hub", f"{RELEASE}-data"}
    assert len(claims) == 5, "and the workspaces of two hypotheses"
    kubectl("wait", "--for=delete", f"namespace/{install.builds}", "--timeout=60s")
