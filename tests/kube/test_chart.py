"""helm/hubdock as text: what it refuses, what it makes, and that no pod of it has more than it needs. `test_chart_cluster.py` asks a cluster."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jupyterhub.app import JupyterHub
from traitlets.config import Config

import hubdock
from hubdock.engine.config import HubDock, load_config, make_settings
from tests.kit.chart import CHART, IMAGES, ROOT, WAYS, find, render, run_helm, write_plain
from tests.unit.conftest import check_golden

SCHEMA = json.loads((CHART / "values.schema.json").read_text())
VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
ALONE = WAYS["alone"]

WRONG = [
    ({"serivce": {}}, "serivce"),
    ({"service": {"replicas": 3}}, "service", "replicas"),
    ({"image": {"service": "two words"}}, "image", "service"),
    ({"image": {"pullPolicy": "Sometimes"}}, "image", "pullPolicy"),
    ({"registry": {"host": "https://registry.example.org"}}, "registry", "host"),
    ({"registry": {"nodePort": 5000}}, "registry", "nodePort"),
    ({"registry": {"insecure": "yes"}}, "registry", "insecure"),
    ({"service": {"secrets": ["Not_A_Name"]}}, "service", "secrets", "0"),
    ({"service": {"storage": {"size": "much"}}}, "service", "storage", "size"),
    ({"service": {"database": {"url": "postgresql://user:password@host/db"}}}, "service", "database", "url"),
    ({"builds": {"parallel": 0}}, "builds", "parallel"),
    ({"builds": {"cache": {"volumes": -1}}}, "builds", "cache", "volumes"),
    ({"builds": {"cache": {"size": "20GB"}}}, "builds", "cache", "size"),
    ({"data": {"mode": "copy"}}, "data", "mode"),
    ({"servers": {"namespace": "People"}}, "servers", "namespace"),
    ({"hub": {"url": "hub:8081"}}, "hub", "url"),
    ({"hub": {"config": {"JupyterHub": "debug"}}}, "hub", "config", "JupyterHub"),
    ({"hub": {"proxy": {"type": "Ingress"}}}, "hub", "proxy", "type"),
    ({"config": {"allowed_hosts": ["github.com"]}}, "config"),
    ({"networkPolicies": {"registry": [{"cidr": "10.0.0.5"}]}}, "networkPolicies", "registry", "0", "cidr"),
    ({"networkPolicies": {"indexes": [{"cidr": "10.0.0.5/32", "ports": [0]}]}}, "networkPolicies", "indexes", "0", "ports", "0"),
    ({"monitoring": {"interval": "often"}}, "monitoring", "interval"),
]  # fmt: skip

REFUSED = [
    ({"image": {}}, "image.service names no image"),
    ({"image": {"service": IMAGES["service"]}}, "image.hub names no image"),
    ({"registry": {}}, "registry.host names no registry"),
    ({"config": {"HubDock": {"state_dir": "/x"}}}, "config.HubDock.state_dir is set by the chart"),
    ({"config": {"HubDock": {"kube_namespace": "x"}}}, "config.HubDock.kube_namespace is set by the chart"),
    ({"builds": {"namespace": "jupyterhub"}}, "builds.namespace must be a namespace of its own"),
    ({"servers": {"createNamespace": True}}, "servers.createNamespace needs servers.namespace"),
    ({"monitoring": {"enabled": True}}, "monitoring.secret names no Secret"),
]  # fmt: skip


def walk(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    for name, part in schema.get("properties", {}).items():
        yield f"{path}{name}", part
        yield from walk(part, f"{path}{name}.")


def flatten(values: dict[str, Any], path: str = "") -> set[str]:
    """Return the names of all values that the schema could know."""
    found = set()
    for name, value in values.items():
        found.add(f"{path}{name}")
        if isinstance(value, dict):
            found |= flatten(value, f"{path}{name}.")
    return found


def test_every_value_is_described_and_has_a_default() -> None:
    described = dict(walk(SCHEMA))
    ends = ("resources.requests", "resources.limits", "resources.claims")
    assert [name for name, part in described.items() if not part.get("description") and not name.endswith(ends)] == []
    defaults = flatten(VALUES)
    assert [name for name in described if name not in defaults and name != "global" and not name.endswith(ends)] == []
    free = ("config.", "hub.config.", "builds.quota.", "builds.resources.", "service.resources.", "hub.resources.", "hub.proxy.resources.")
    assert [name for name in defaults if name not in described and not name.startswith(free)] == []


def test_the_chart_has_the_version_of_the_package() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["version"] == chart["appVersion"] == hubdock.__version__


@pytest.mark.parametrize("way", WAYS)
def test_it_lints(way: str, tmp_path: Path) -> None:
    done = run_helm(tmp_path, "lint", WAYS[way], "--strict")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(("values", "path"), [(values, path) for values, *path in WRONG], ids=[".".join(path) for _, *path in WRONG])
def test_a_wrong_value_is_refused_by_its_path(values: dict[str, Any], path: list[str], tmp_path: Path) -> None:
    done = run_helm(tmp_path, "template", {**ALONE, **values})
    assert done.returncode != 0
    for part in path:
        assert part in done.stderr
    assert "/".join(path[:-1]) in done.stderr.replace(".", "/")


@pytest.mark.parametrize(("values", "words"), REFUSED, ids=[words for _, words in REFUSED])
def test_what_can_t_work_is_refused_in_words(values: dict[str, Any], words: str, tmp_path: Path) -> None:
    done = run_helm(tmp_path, "template", {**ALONE, **values})
    assert done.returncode != 0
    assert words in done.stderr


@pytest.mark.parametrize("way", WAYS)
def test_what_is_made(way: str, tmp_path: Path) -> None:
    check_golden(f"helm/{way}.yaml", write_plain(render(tmp_path, WAYS[way])))


@pytest.mark.parametrize("way", WAYS)
def test_pods_are_nobody_in_particular(way: str, tmp_path: Path) -> None:
    """The standard *restricted*, a root file system that can't be written, and no token where none is used."""
    pods = 0
    for one in render(tmp_path, WAYS[way]):
        pod = one["spec"]["template"]["spec"] if one["kind"] == "Deployment" else one["spec"] if one["kind"] == "Pod" else None
        if pod is None:
            continue
        pods += 1
        assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod.get("serviceAccountName") or pod["automountServiceAccountToken"] is False
        for volume in pod.get("volumes", []):
            assert "hostPath" not in volume
            assert "secret" not in volume or volume["secret"]["defaultMode"] == 0o440
        for container in pod["containers"]:
            assert container["securityContext"] == {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
    assert pods >= 2


@pytest.mark.parametrize("way", WAYS)
def test_nobody_may_read_secrets_or_act_outside_of_namespaces(way: str, tmp_path: Path) -> None:
    objects = render(tmp_path, WAYS[way])
    assert not [one for one in objects if one["kind"].startswith("Cluster")]
    rules = [rule for one in objects if one["kind"] == "Role" for rule in one["rules"]]
    assert rules
    for rule in rules:
        assert "*" not in (*rule["verbs"], *rule["resources"], *rule["apiGroups"])
        assert "secrets" not in rule["resources"] or set(rule["verbs"]) <= {"create", "delete"}
        assert not {"pods/exec", "pods/attach", "roles", "rolebindings", "serviceaccounts"} & set(rule["resources"])


@pytest.mark.parametrize("way", WAYS)
def test_no_name_is_there_twice(way: str, tmp_path: Path) -> None:
    names = [(one["kind"], one["metadata"].get("namespace", ""), one["metadata"]["name"]) for one in render(tmp_path, WAYS[way])]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(("mode", "claims", "policies"), [("store", 1, {"hubdock-fetch"}), ("image", 0, {"hubdock-fetch", "hubdock-build"}), ("none", 0, {"hubdock-fetch"})])
def test_only_the_data_store_needs_a_volume(mode: str, claims: int, policies: set[str], tmp_path: Path) -> None:
    """Where data becomes part of images, it is builds that fetch it."""
    objects = render(tmp_path, {**ALONE, "data": {"mode": mode}, "networkPolicies": {"remotes": [{"cidr": "10.0.0.7/32"}]}})
    assert len([one for one in objects if one["kind"] == "PersistentVolumeClaim" and one["metadata"]["name"] == "hubdock-data"]) == claims
    assert {one["metadata"]["name"] for one in objects if one["kind"] == "NetworkPolicy" and "10.0.0.7/32" in str(one)} == policies
    assert json.loads(find(objects, "ConfigMap", "hubdock")["data"]["config.json"])["HubDock"]["data_mode"] == mode


def read_service_config(objects: list[dict[str, Any]], name: str, directory: Path) -> Config:
    data = find(objects, "ConfigMap", name)["data"]
    for file in ("config.json", "config.py"):
        (directory / file).write_text(data[file])
    return load_config(str(directory / "config.py"))


def test_the_service_takes_the_values_as_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {**WAYS["whole"], "config": {"HubDock": {"gpu_limit": 2, "allowed_hosts": ["git.example.org"]}}}
    settings["service"] = {**settings["service"], "certificates": ""}  # a file that is there in the pod only
    config = read_service_config(render(tmp_path, settings), "team", tmp_path)
    found: HubDock = make_settings(config)
    assert (found.backend, found.registry, found.registry_config) == ("kubernetes", "registry.test:5000/team", "/etc/hubdock/registry/config.json")
    assert (found.kube_namespace, found.kube_data_namespace, found.volume_prefix) == ("making", "jupyterhub", "team")
    assert (found.kube_cache_volumes, found.kube_cache_class, found.max_parallel_builds) == (4, "local", 8)
    assert found.kube_build_pod == {"serviceAccountName": "team-build", "nodeSelector": {"disk": "ssd"}}
    assert (found.gpu_limit, found.allowed_hosts, found.db_url) == (2, ["git.example.org"], "")
    monkeypatch.setenv("HUBDOCK_DB_URL", "postgresql://hubdock:secret@db/hubdock")
    assert load_config(str(tmp_path / "config.py")).HubDock.db_url == "postgresql://hubdock:secret@db/hubdock"


def test_the_small_hub_takes_the_values_as_traits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    objects = render(tmp_path, WAYS["trial"])
    for name, text in find(objects, "ConfigMap", "hubdock-hub")["data"].items():
        (tmp_path / name).write_text(text)
    container = find(objects, "Deployment", "hubdock-hub")["spec"]["template"]["spec"]["containers"][0]
    for variable in container["env"]:
        monkeypatch.setenv(variable["name"], variable.get("value") or "x" * (40 if "ADMIN" in variable["name"] else 16))
    config = load_config(str(tmp_path / "jupyterhub_config.py"))
    assert config.Authenticator.allowed_users == {"dora"}
    assert (config.KubeSpawner.storage_capacity, config.KubeSpawner.namespace, config.JupyterHub.log_level) == ("2Gi", "people", 10)
    assert config.JupyterHub.default_url == "/services/hubdock/"
    (service,) = config.JupyterHub.services
    assert (service["url"], service["api_token"]) == ("http://hubdock.jupyterhub:9000", "x" * 16)
    JupyterHub(config=config)


def test_the_values_for_zero_to_jupyterhub_fit_the_chart(tmp_path: Path) -> None:
    """What the one chart says of the other: the Service's address, the label that its policies open for, the pods that servers may ask, the token's key."""
    values = yaml.safe_load((ROOT / "helm/z2jh-values.yaml").read_text())
    objects = render(tmp_path, WAYS["joined"])
    service, deployment = find(objects, "Service", "hubdock"), find(objects, "Deployment", "hubdock")
    pod = deployment["spec"]["template"]
    assert values["hub"]["services"]["hubdock"]["url"] == f"http://{service['metadata']['name']}:{service['spec']['ports'][0]['port']}"
    (rule,) = values["singleuser"]["networkPolicy"]["egress"]
    assert rule["to"][0]["podSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    assert rule["ports"][0]["port"] == pod["spec"]["containers"][0]["ports"][0]["containerPort"]
    assert pod["metadata"]["labels"]["hub.jupyter.org/network-access-hub"] == "true"
    env = {variable["name"]: variable for variable in pod["spec"]["containers"][0]["env"]}
    assert env["JUPYTERHUB_API_TOKEN"]["valueFrom"]["secretKeyRef"] == {"name": "hub", "key": "hub.services.hubdock.apiToken"}
    assert env["JUPYTERHUB_API_URL"]["value"] == "http://hub:8081/hub/api"
    assert not [one for one in objects if one["kind"] == "Secret"]


def test_the_configuration_for_zero_to_jupyterhub_joins_its_hub() -> None:
    """Its own configuration makes ``services`` and ``load_roles`` of the values, and then runs ``extraConfig``."""
    hub = yaml.safe_load((ROOT / "helm/z2jh-values.yaml").read_text())["hub"]
    c = Config()
    c.JupyterHub.spawner_class = "kubespawner.KubeSpawner"
    c.JupyterHub.services = [{"name": name, "api_token": "secret", **service} for name, service in hub["services"].items()]
    c.JupyterHub.load_roles = [{"name": name, **role} for name, role in hub["loadRoles"].items()]
    for section, traits in hub["config"].items():
        c[section].update(traits)
    exec(hub["extraConfig"]["hubdock"], {"c": c})
    assert c.JupyterHub.spawner_class == "hubdock-kubernetes"
    assert c.HubDockMixin.service_url == "http://hubdock:9000/services/hubdock/"
    (service,) = c.JupyterHub.services
    assert service["oauth_client_allowed_scopes"] == ["access:services!service=hubdock", "servers!user", "read:users!user", "custom:hubdock:admin"]
    roles = {role["name"]: role["scopes"] for role in c.JupyterHub.load_roles}
    assert roles["user"] == ["self", "access:services!service=hubdock"]
    assert roles["hubdock"] == ["list:users", "read:servers"]
