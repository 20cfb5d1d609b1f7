"""A hypothesis as a pod: a life like any server's. What is in it, the same as on Docker: tests/contract/test_workspace.py."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx

from tests.kit.kube import KubeHub, Pod, kubectl
from tests.kit.repos import Project


def test_what_a_server_is_on_a_cluster(hub: KubeHub, plain: Project) -> None:
    """A pod that the standard *restricted* lets in, of one container, by digest, without the cluster's token and addresses; what a user typed is in its annotations."""
    branch = "try-$(HOME)-{username}-$$-é"
    server = hub.start_server("alice", "pod", {"repo": plain.url, "ref": "main", "new_branch": branch})
    assert isinstance(server, Pod)
    assert server.run("id -u; id -g; test -f ~/.bashrc && echo there").split() == ["1000", "100", "there"]
    assert server.run("ls /var/run/secrets/kubernetes.io 2>&1; env | grep _SERVICE_HOST | grep -vc ^KUBERNETES_ || true").splitlines()[-1] == "0"
    assert server.manifest["metadata"]["annotations"]["hubdock.branch"] == branch
    (container,) = server.manifest["spec"]["containers"]
    assert "@sha256:" in container["image"] and container["imagePullPolicy"] == "IfNotPresent" and "initContainers" not in server.manifest["spec"]
    hub.stop_server("alice", "pod")
    hub.wait_until_gone("pod")


def test_work_stays_and_a_deleted_server_takes_nothing_with_it(hub: KubeHub, plain: Project) -> None:
    server = hub.start_server("bob", "stays", {"repo": plain.url, "ref": "main"})
    server.run("echo mine > mine.txt; echo set > ~/.settings")
    assert [entry["name"] for entry in server.ask("contents").json()["content"] if entry["name"] == "mine.txt"], "Jupyter shows the workspace"
    claims = hub.list_claims()
    assert [claim for claim in claims if "bob" in claim]
    hub.stop_server("bob", "stays")
    again = hub.start_server("bob", "stays", {"repo": plain.url, "ref": "main"})
    assert again.run("cat mine.txt ~/.settings") == "mine\nset"
    hub.stop_server("bob", "stays")
    assert hub.api("DELETE", "users/bob/servers/stays", {"remove": True}).status_code == 204
    hub.wait_until_gone("stays")
    assert hub.list_claims() == claims


def test_one_home_for_all_servers_of_a_user(hub: KubeHub, plain: Project) -> None:
    """Where the team has a volume that all pods may write. A workspace from before is still there, and one whose directory is root's works too."""
    before = hub.start_server("carol", "home-1", {"repo": plain.url, "ref": "main"})
    before.run("echo mine > mine.txt")
    hub.stop_server("carol", "home-1")
    claim = {
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "homes"},
        "spec": {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}},
    }  # fmt: skip
    kubectl("apply", "-n", hub.namespace, "-f", "-", stdin=json.dumps(claim))
    hub.override(home_claim="homes")
    first, second = (hub.start_server("carol", f"home-{number}", {"repo": plain.url, "ref": "main"}) for number in (1, 2))
    other = hub.start_server("dave", "home-3", {"repo": plain.url, "ref": "main"})
    assert first.run("cat mine.txt; git status --short") == "mine\n?? mine.txt"
    assert second.run("stat -c %u .; git status --porcelain=v1 --branch; git commit -q --allow-empty -m x && git log --format=%s -1").splitlines() == ["0", "## main...origin/main", "x"]
    first.run("echo set > ~/.settings")
    assert second.run("cat ~/.settings") == "set" and "No such file" in other.run("cat ~/.settings", check=False)
    for user, name in (("carol", "home-1"), ("carol", "home-2"), ("dave", "home-3")):
        hub.stop_server(user, name)


def test_a_restart_of_the_hub_leaves_servers_as_they_are(hub: KubeHub, plain: Project) -> None:
    server = hub.start_server("dave", "lives", {"repo": plain.url, "ref": "main"})
    before = server.manifest["metadata"]["uid"]
    hub.kill()
    hub.start()
    hub.wait_ready("dave", "lives")
    assert server.manifest["metadata"]["uid"] == before and server.ask("status").status_code == 200
    assert hub.read_server("dave", "lives")["state"]["hubdock"]["workspace"] == server.workspace
    hub.stop_server("dave", "lives")
    hub.wait_until_gone("lives")


def test_a_hub_that_dies_during_a_start_leaves_no_pod(hub: KubeHub, plain: Project) -> None:
    """The next one finds the pod by its name, and takes it away when it does not answer (``http_timeout``)."""
    hub.override(launch={"resources": {"cpu": 500.0}}, cpu_guarantee=500.0, http_timeout=3)
    hub.begin("erin", "orphan", {"repo": plain.url, "ref": "main"})
    hub.wait_for(lambda: hub.find_pods("orphan"), 30, "there is a pod")
    hub.kill()
    hub.start()
    hub.wait_until_gone("orphan", 90)
    assert not hub.read_server("erin", "orphan").get("ready")


def test_a_server_that_is_gone_is_noticed(hub: KubeHub, plain: Project) -> None:
    server = hub.start_server("erin", "gone", {"repo": plain.url, "ref": "main"})
    kubectl("delete", "pod", "-n", hub.namespace, server.manifest["metadata"]["name"], "--grace-period=0", "--force")
    hub.wait_for(lambda: not hub.read_server("erin", "gone").get("ready"), 60, "the hub knows")
    again = hub.start_server("erin", "gone", {"repo": plain.url, "ref": "main"})
    assert again.run("git status --short") == ""
    hub.stop_server("erin", "gone")


def test_starts_that_are_cancelled_leave_no_pod(hub: KubeHub, plain: Project) -> None:
    """At whatever moment: the hub itself stops only what it has seen."""
    hub.override(launch={"resources": {"cpu": 500.0}}, cpu_guarantee=500.0)  # there is no such node: they wait
    moments = (0.0, 0.05, 0.1, 0.2, 0.4, 1.0)
    with ThreadPoolExecutor(len(moments)) as pool:
        list(pool.map(lambda wait: start_and_cancel(hub, plain, wait), moments))


def start_and_cancel(hub: KubeHub, plain: Project, wait: float) -> None:
    name = f"cancelled-{wait * 1000:.0f}"
    hub.begin("alice", name, {"repo": plain.url, "ref": "main"})
    hub.wait_for_message("alice", name, "Starting the server", 30)
    time.sleep(wait)
    answer = hub.api("DELETE", f"users/alice/servers/{name}", {"remove": False})
    assert answer.status_code in {202, 204}, answer.text
    hub.wait_for(lambda: not hub.read_server("alice", name).get("pending"), 20, "the start is over")
    time.sleep(1)
    hub.wait_until_gone(name, 5)


def test_readiness_is_noticed_at_once(hub: KubeHub, plain: Project, record_property: Callable[[str, Any], None]) -> None:
    """Within 100 ms of the pod's being reported running with its port open, seen by somebody who watches both. The best of some: the machine is shared."""
    lags = []
    for number in range(4):
        name = f"quick-{number}"
        watch = Watch(hub, name)
        began = time.time()
        hub.begin("alice", name, {"repo": plain.url, "ref": "main"})
        hub.wait_for(lambda name=name: hub.read_server("alice", name).get("ready"), 60, "ready", pause=0.01)  # type: ignore[misc]
        ready, noticed, answered = time.time(), float((hub.directory / f"noticed-{name}").read_text()), watch.wait()
        lags.append(noticed - answered)
        record_property("number", f"POST to ready {ready - began:.2f} s; the spawner noticed {lags[-1] * 1000:.0f} ms, its user {(ready - answered) * 1000:.0f} ms after the server answered")
        hub.stop_server("alice", name)
        hub.wait_until_gone(name)
        if lags[-1] < 0.1:
            return
    raise AssertionError(lags)


def test_a_server_is_met_where_it_asks_for_its_start_files(hub: KubeHub, plain: Project) -> None:
    """Its node may say that it runs a second later, or, as here, never."""
    hub.override(blind=True)
    server = hub.start_server("bob", "met", {"repo": plain.url, "ref": "main"}, 60)
    assert server.ask("status").status_code == 200 and server.run("git status --short") == ""
    hub.stop_server("bob", "met")
    hub.wait_until_gone("met")


class Watch:
    """Notes when the pod of a server runs and answers."""

    def __init__(self, hub: KubeHub, server: str) -> None:
        self.hub, self.server, self.found = hub, server, 0.0
        self.thread = threading.Thread(target=self._look, daemon=True)
        self.thread.start()

    def _look(self) -> None:
        config = json.loads(kubectl("config", "view", "--raw", "--minify", "-o", "json"))
        proxy = Proxy(self.hub.namespace, config)
        until = time.monotonic() + 60
        while time.monotonic() < until and not (address := proxy.find_running(self.server)):
            time.sleep(0.01)
        while time.monotonic() < until and not answers(address):
            time.sleep(0.005)
        self.found = time.time()

    def wait(self) -> float:
        self.thread.join(60)
        assert self.found
        return self.found


class Proxy:
    """The API server, asked by the credentials of a kubeconfig."""

    def __init__(self, namespace: str, config: dict[str, Any]) -> None:
        import base64
        import ssl
        import tempfile

        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        context = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
        with tempfile.NamedTemporaryFile("wb") as file:
            file.write(base64.b64decode(user["client-certificate-data"]) + b"\n" + base64.b64decode(user["client-key-data"]))
            file.flush()
            context.load_cert_chain(file.name)
        self.client = httpx.Client(base_url=cluster["server"], verify=context, trust_env=False)
        self.path = f"/api/v1/namespaces/{namespace}/pods"

    def find_running(self, server: str) -> str:
        """Return the address of a server's pod that is reported running, empty while there is none."""
        for pod in self.client.get(self.path, params={"labelSelector": f"hubdock.server={server}"}).json()["items"]:
            if pod["status"]["phase"] == "Running" and pod["status"].get("podIP") and not pod["metadata"].get("deletionTimestamp"):
                return str(pod["status"]["podIP"])
        return ""


def answers(address: str) -> bool:
    """True once the port is open and a request is answered."""
    try:
        with socket.create_connection((address, 8888), 0.2):
            pass
        return httpx.get(f"http://{address}:8888/", timeout=2, trust_env=False).status_code < 500
    except (OSError, httpx.HTTPError):
        return False
