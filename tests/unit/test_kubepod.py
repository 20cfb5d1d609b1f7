"""What of a launch becomes a pod: pure functions, and the whole manifest as the stock spawner makes it from them."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from traitlets.config import Config

pytest.importorskip("kubespawner", reason="the extra [kubernetes] is not installed")

import kubernetes_asyncio.config
from kubernetes_asyncio.client import ApiClient

from hubdock.core.errors import BackendError
from hubdock.core.kubepod import (
    Places,
    Stock,
    find_claim,
    make_home_part,
    make_label,
    make_literal,
    make_settings,
    make_value,
    make_volumes,
)
from hubdock.spawner.kubernetes import HubDockKubeSpawner
from tests.unit.conftest import check_golden

KEYS = ("1a" * 32, "2b" * 32)
HOSTILE = "a{b}{0.__class__} $(PATH) $$HOME {{c}} “é”\udc80"


def make_launch(**changes: Any) -> dict[str, Any]:
    mounts = [
        {"volume": "hubdock-home-ada-0123456789ab", "target": "/home/jovyan", "subpath": "", "read_only": False},
        {"volume": "hubdock-work-ada-digits-vgg19-0123456789abcdef", "target": "/home/jovyan/digits", "subpath": "", "read_only": False},
        *({"volume": "hubdock-data", "target": f"/hubdock/data/{key[:8]}", "subpath": f"views/{key}", "read_only": True} for key in KEYS),
    ]
    return {
        "image": f"registry.example:5000/hubdock/image@sha256:{'c' * 64}", "workspace": "/home/jovyan/digits", "mounts": mounts,
        "env": {"HUBDOCK_REPO": "https://github.com/team/digits", "HUBDOCK_BRANCH": HOSTILE, "GIT_CONFIG_SYSTEM": "/tmp/hubdock/gitconfig"},
        "labels": {
            "hubdock.user": "ada@example.org", "hubdock.server": "digits-vgg19-a1b2c3", "hubdock.repo": "https://github.com/team/digits", "hubdock.ref": "main",
            "hubdock.branch": HOSTILE, "hubdock.commit": "d" * 40, "hubdock.image": "e" * 64,
        },
        "resources": {"cpu": 2.0, "memory": 4 * 1024**3, "shm": 1024**3, "gpu": 1}, "start": {}, **changes,
    }  # fmt: skip


@pytest.fixture
async def spawner(monkeypatch: pytest.MonkeyPatch) -> HubDockKubeSpawner:
    return make_spawner(monkeypatch)


def make_spawner(monkeypatch: pytest.MonkeyPatch, **settings: Any) -> HubDockKubeSpawner:
    async def nothing(*args: Any, **kwargs: Any) -> None:
        pass

    monkeypatch.setattr(kubernetes_asyncio.config, "load_kube_config", nothing)
    config = Config({"KubeSpawner": settings})
    made = HubDockKubeSpawner(config=config, _mock=True)
    hub = SimpleNamespace(public_host="", url="", base_url="/hub/", api_url="http://hub:8081/hub/api", server=SimpleNamespace(bind_url=""))
    made.hub, made.user = hub, SimpleNamespace(name="ada$(HOME)", id=1, url="/user/ada/", escaped_name="ada", groups=[], settings={}, auth_state=None)
    made.api_token, made.build_id = "token", "f" * 32
    made.service_url = "http://hubdock:9000/services/hubdock/"
    made.launch = make_launch()
    monkeypatch.setattr(HubDockKubeSpawner, "server", SimpleNamespace(base_url="/user/ada/x/", bind_url="http://0.0.0.0:8888/user/ada/x/"))
    return made


async def make_pod(spawner: HubDockKubeSpawner) -> dict[str, Any]:
    spawner.pvc_name = find_claim(spawner.launch, spawner.pvc_name)
    async with ApiClient() as client:
        found: dict[str, Any] = client.sanitize_for_serialization(await spawner.get_pod_manifest())
    return found


def as_golden(pod: dict[str, Any]) -> str:
    """Return a manifest without what is the hub's own: versions, and the variables that the guest does not read."""
    pod["metadata"]["annotations"] = {name: value for name, value in pod["metadata"]["annotations"].items() if not name.endswith("-version")}
    (container,) = pod["spec"]["containers"]
    kept = ("HUBDOCK_", "MEM_", "CPU_", "GIT_", "JUPYTER_IMAGE", "JUPYTERHUB_ROOT_DIR", "JUPYTERHUB_USER")
    container["env"] = [variable for variable in container["env"] if variable["name"].startswith(kept)]
    return json.dumps(pod, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


async def test_a_whole_pod(spawner: HubDockKubeSpawner) -> None:
    check_golden("pod-gpu.json", as_golden(await make_pod(spawner)))


async def test_a_pod_with_all_that_an_admin_may_add(monkeypatch: pytest.MonkeyPatch) -> None:
    """Theirs stays, and is theirs again afterwards."""
    spawner = make_spawner(
        monkeypatch, cpu_limit=1, cpu_guarantee=0.25, mem_limit="2G", mem_guarantee="512M", extra_labels={"team": "{username}"}, extra_annotations={"note": "n"},
        volumes=[{"name": "scratch", "emptyDir": {}}], volume_mounts={"s": {"name": "scratch", "mountPath": "/scratch"}}, environment={"WHERE": "$(HOME)/{username}"},
        extra_resource_limits={"vendor/ram": "1"}, extra_pod_config={"restartPolicy": "OnFailure", "priority": 5}, node_selector={"pool": "jupyter"},
    )  # fmt: skip
    spawner.home_claim = "hubdock-homes"
    spawner.launch = make_launch(resources={"cpu": None, "memory": 1024**3, "shm": None, "gpu": 0})
    before = {name: getattr(spawner, name) for name in ("image", "extra_labels", "volumes", "volume_mounts", "mem_limit", "cpu_guarantee", "extra_pod_config")}
    pod = await make_pod(spawner)
    assert {name: getattr(spawner, name) for name in before} == before
    where = next(variable["value"] for variable in pod["spec"]["containers"][0]["env"] if variable["name"] == "WHERE")
    assert where.startswith("$(HOME)/ada"), "what an admin wrote means what it does with any KubeSpawner"
    check_golden("pod-admin.json", as_golden(pod))


async def test_the_claim_says_whose_work_is_in_it(spawner: HubDockKubeSpawner) -> None:
    spawner.pvc_name = find_claim(spawner.launch, spawner.pvc_name)
    async with ApiClient() as client:
        claim = client.sanitize_for_serialization(spawner.get_pvc_manifest())
    assert claim["metadata"]["name"] == "hubdock-work-ada-digits-vgg19-0123456789abcdef"
    labels = claim["metadata"]["labels"]
    assert labels["hubdock.kind"] == "workspace" and labels["hubdock.user"] == make_label("ada@example.org") and "hubdock.commit" not in labels
    assert claim["metadata"]["annotations"]["hubdock.branch"] == HOSTILE.replace("\udc80", "?")
    assert claim["spec"]["accessModes"] == ["ReadWriteOnce"] and claim["spec"]["resources"]["requests"] == {"storage": "10Gi"}


@pytest.mark.parametrize("text", ["main", "", "a" * 63, "v1.0_x-y", "0", "A"])
def test_what_can_be_a_label_is_one(text: str) -> None:
    assert make_label(text) == text


@pytest.mark.parametrize("text", ["a" * 64, "-a", "a-", "a b", "é", "https://github.com/a/b", "{user}", "\udc80", "…", "e" * 100, "a\n"])
def test_what_can_not_becomes_one_of_its_own(text: str) -> None:
    import re

    made = make_label(text)
    assert re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?", made)
    assert made != make_label(text + "x") and made == make_label(text)


@pytest.mark.parametrize("text", ["plain", "{username}", "{{x}}", "}{", "{0.__class__.__mro__}", "$(HOME)", ""])
def test_templates_and_expansion_leave_what_was_typed(text: str) -> None:
    assert make_literal(text).format(username="expanded") == text
    assert expand(make_value(text), {"HOME": "expanded", "x": "expanded"}) == text


@pytest.mark.parametrize("text", ["$", "$$", "$$(HOME)", "a$(HOME)$", "$($(HOME))", "$HOME", "$(", "$()"])
def test_expansion_leaves_every_dollar(text: str) -> None:
    assert expand(make_value(text), {"HOME": "expanded", "": "expanded"}) == text


def expand(text: str, known: dict[str, str]) -> str:
    """Kubernetes' own rule (third_party/forked/golang/expansion/expand.go)."""
    shown, at = "", 0
    while at < len(text):
        if text[at] != "$" or at + 1 == len(text):
            shown, at = shown + text[at], at + 1
        elif text[at + 1] == "$":
            shown, at = shown + "$", at + 2
        elif text[at + 1] == "(" and ")" in text[at:]:
            end = text.index(")", at)
            name = text[at + 2 : end]
            shown, at = shown + known.get(name, f"$({name})"), end + 1
        else:
            shown, at = shown + text[at : at + 2], at + 2
    return shown


@pytest.mark.parametrize(
    ("asked", "stock", "settings"),
    [
        ({}, Stock(), (None, None, None, None)),
        ({"cpu": 4.0, "memory": 8}, Stock(cpu_limit=2.0, mem_limit=4), (2.0, None, 4, None)),
        ({"cpu": 1.0, "memory": 8}, Stock(cpu_limit=2.0, cpu_guarantee=0.5, mem_guarantee=16), (1.0, 0.5, 8, 8)),
        ({"cpu": 0.25}, Stock(cpu_guarantee=0.5, mem_guarantee=16), (0.25, 0.25, None, 16)),
    ],
)
def test_the_smaller_limit_holds_and_no_more_is_reserved(asked: dict[str, Any], stock: Stock, settings: tuple[Any, ...]) -> None:
    made = make_settings(make_launch(resources=asked), stock, Places("w"), "nvidia.com/gpu")
    assert tuple(made[name] for name in ("cpu_limit", "cpu_guarantee", "mem_limit", "mem_guarantee")) == settings
    assert made["extra_resource_limits"] == made["extra_resource_guarantees"] == {}


def test_a_workspace_is_where_it_was_when_homes_are_shared_later() -> None:
    """The same part of the same claim, whether the claim's home is mounted around it or not."""
    alone, shared = (make_volumes(make_launch(), Places("work", home, "homes/ada"))[1] for home in ("", "homes"))
    assert [(mount["mountPath"], mount["subPath"]) for mount in alone if mount["name"] == "hubdock-work"] == [("/home/jovyan", "home")]
    assert [(mount["mountPath"], mount["subPath"]) for mount in shared if mount["name"] == "hubdock-work"] == [("/home/jovyan/digits", "home/digits")]
    assert [(mount["mountPath"], mount["subPath"]) for mount in shared if mount["name"] == "hubdock-home"] == [("/home/jovyan", "homes/ada")]


def test_each_user_has_a_home() -> None:
    parts = {make_home_part(user) for user in ("ada", "Ada", "ada@example.org", "../ada", "ada/b", "ada-b")}
    assert len(parts) == 6 and all(part.startswith("homes/") and ".." not in part and part.count("/") == 1 for part in parts)


@pytest.mark.parametrize("claim", ["", "../x", "A", "a_b", "-a", "a\n"])
def test_a_claim_that_is_none_is_refused(claim: str) -> None:
    with pytest.raises(BackendError, match="names a volume that can't be one"):
        make_volumes(make_launch(mounts=[{"volume": claim, "target": "/x"}]), Places("work"))
