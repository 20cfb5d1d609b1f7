"""The chart as helm renders it, for four ways to install it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.kit.kube import wait_for_making

ROOT = Path(__file__).parent.parent.parent
CHART = ROOT / "helm/hubdock"
RELEASE, NAMESPACE = "hubdock", "jupyterhub"
IMAGES = {"service": "registry.test/hubdock/service:0.1.0", "hub": "registry.test/hubdock/hub:0.1.0"}

WAYS: dict[str, dict[str, Any]] = {
    # One `helm install` that shows a working hub, with as few values as can be.
    "alone": {"image": IMAGES, "registry": {"host": "registry.test/team"}, "config": {"HubDock": {"allowed_hosts": ["github.com"]}}},
    # A hub for trials with a registry of its own and servers in a namespace of their own.
    "trial": {
        "image": IMAGES,
        "registry": {"enabled": True, "host": "10.0.0.1:30500", "insecure": True},
        "servers": {"namespace": "people", "createNamespace": True},
        "hub": {
            "config": {"Authenticator": {"allowed_users": ["dora"]}, "KubeSpawner": {"storage_capacity": "2Gi"}}, "extraConfig": "c.JupyterHub.log_level = 10",
            "proxy": {"type": "NodePort", "nodePort": 30080},
        },
    },
    # Beside zero-to-jupyterhub's hub: its Secret, its labels, no hub of ours.
    "joined": {
        "image": IMAGES, "registry": {"host": "registry.test"}, "hub": {"enabled": False}, "service": {"token": {"secret": "hub", "key": "hub.services.hubdock.apiToken"}},
    },
    # All that can be set.
    "whole": {
        "image": {**IMAGES, "pullPolicy": "Always", "pullSecrets": ["registry"]},
        "fullnameOverride": "team",
        "config": {"HubDock": {"git_credentials": [{"origin": "https://git.example.org", "username": "bot", "password_file": "/etc/hubdock/secrets/git/password"}]}},
        "registry": {"host": "registry.test:5000/team", "secret": "registry"},
        "service": {
            "token": {"secret": "tokens"}, "database": {"secret": "database"}, "secrets": ["git", "dvc"], "certificates": "authorities",
            "knownHosts": "git.example.org ssh-ed25519 AAAA", "storage": {"class": "fast"}, "env": [{"name": "https_proxy", "value": "http://proxy:3128"}],
            "nodeSelector": {"disk": "ssd"}, "tolerations": [{"operator": "Exists"}],
        },
        "builds": {
            "namespace": "making", "createNamespace": False, "parallel": 8, "pod": {"nodeSelector": {"disk": "ssd"}}, "cache": {"volumes": 4, "size": "50G", "class": "local"},
            "quota": {"pods": 10},
        },
        "data": {"size": "2T", "class": "nfs", "volume": "data-of-the-team"},
        "hub": {"enabled": False, "url": "http://hub.other:8081", "baseUrl": "/jupyter/"},
        "networkPolicies": {
            "dns": ["10.96.0.10/32"], "registry": [{"cidr": "10.0.0.5/32", "ports": [5000]}], "indexes": [{"cidr": "10.0.0.6/32"}],
            "remotes": [{"cidr": "10.0.0.7/32", "ports": [22, 9000]}], "servers": [{"cidr": "10.0.0.8/32", "ports": [22]}],
        },
        "monitoring": {"enabled": True, "labels": {"release": "prometheus"}, "secret": "metrics"},
    },
}  # fmt: skip


def require_helm() -> str:
    wait_for_making()
    found = shutil.which("helm")
    if found is None:
        pytest.skip("helm is not on PATH")
    return found


def run_helm(tmp_path: Path, command: str, values: dict[str, Any], *more: str, namespace: str = NAMESPACE) -> subprocess.CompletedProcess[str]:
    """Run ``helm COMMAND … CHART`` with values, in no cluster."""
    file = tmp_path / "values.yaml"
    file.write_text(yaml.safe_dump(values))
    name = [RELEASE] if command == "template" else []
    argv = [require_helm(), command, *name, str(CHART), "--namespace", namespace, "--values", str(file), *more]
    return subprocess.run(argv, capture_output=True, text=True, timeout=120)


def render(tmp_path: Path, values: dict[str, Any], *more: str, namespace: str = NAMESPACE) -> list[dict[str, Any]]:
    """Return the objects that an install makes."""
    done = run_helm(tmp_path, "template", values, *more, namespace=namespace)
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as such, and lists within their keys."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


_Dumper.add_representer(str, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None))
CHANCE = {"service-token", "proxy-token", "password", "admin-password"}


def write_plain(objects: list[dict[str, Any]]) -> str:
    """Return objects as text that depends on nothing but them: sorted, without what chance made."""
    for one in objects:
        if one["kind"] == "Secret":
            one["data"] = {name: "(made by chance)" if name in CHANCE else value for name, value in one["data"].items()}
    ordered = sorted(objects, key=lambda one: (one["kind"], one["metadata"].get("namespace", ""), one["metadata"]["name"]))
    return str(yaml.dump_all(ordered, Dumper=_Dumper, width=160, sort_keys=True))


def find(objects: list[dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    (found,) = [one for one in objects if one["kind"] == kind and one["metadata"]["name"] == name]
    return found
