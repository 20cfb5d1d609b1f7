"""What both launchers share: which container holds which GPU, and what an engine means that refuses; and the images that both start from."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema
import pytest
import requests
from docker.errors import APIError, create_api_error_from_http_exception

from hubdock.core.errors import BuildError, DataGone, HubDockError, ImageGone, LaunchError, OutOfSpace
from hubdock.core.events import Phase
from hubdock.core.lost import find_lost_key, make_data_gone
from hubdock.drivers import docker
from hubdock.drivers.job import VolumeMount
from hubdock.drivers.server import make_device_request, name_failure, read_devices
from hubdock.drivers.space import name_end
from hubdock.engine.backend_docker import DockerBackend
from hubdock.engine.images import list_made_images
from hubdock.engine.store import forget_view
from hubdock.engine.tasks import Reporter, TaskStore
from hubdock.service.api import ImagesHandler
from hubdock.service.openapi import make_openapi


def refuse(text: str, status: int = 500) -> APIError:
    answer = requests.Response()
    answer.status_code, answer._content = status, text.encode()
    with pytest.raises(APIError) as caught:
        create_api_error_from_http_exception(requests.HTTPError("refused", response=answer))
    return caught.value


@pytest.mark.parametrize(
    ("text", "status", "gpu", "kind", "words"),
    [
        ("No such image: sha256:aa", 404, False, ImageGone, "The image was removed a moment ago"),
        ("mkdir /var/lib/docker/x: no space left on device", 500, True, OutOfSpace, "The disk of the Docker host is full"),
        ("failed to inject CDI devices: unresolvable vendor.com/gpu=9", 500, True, LaunchError, "could not give the GPU"),
        ('could not select device driver "nvidia" with capabilities: [[gpu]]', 500, True, LaunchError, "could not give the GPU"),
        ("failed to mount views/abc: no such file or directory", 500, False, DataGone, "The data was removed from the store"),
        ('invalid mount config for type "bind": bind source path does not exist: /v/_data/views/abc', 400, False, DataGone, "The data was removed from the store"),
    ],
)
def test_what_an_engine_means(text: str, status: int, gpu: bool, kind: type[HubDockError], words: str) -> None:
    error = name_failure(refuse(text, status), gpu)
    assert type(error) is kind and words in error.message and error.detail == text


@pytest.mark.parametrize(("text", "status", "gpu"), [("network team not found", 404, False), ("error gathering device information", 500, False), ("OCI runtime error", 500, True)])
def test_what_is_not_known_is_not_guessed(text: str, status: int, gpu: bool) -> None:
    assert name_failure(refuse(text, status), gpu) is None


def test_a_device_is_held_until_its_container_is_gone_for_good() -> None:
    states = {"created": "a", "running": "b,c", "paused": "d", "restarting": "e", "exited": "f", "dead": "g", "removing": "h"}
    assert read_devices({"State": state, "Labels": {"hubdock.gpus": held}} for state, held in states.items()) == {"a", "b", "c", "d", "e"}


def test_device_requests() -> None:
    assert make_device_request(["vendor.com/gpu=0"], 1, True) == {"Driver": "cdi", "Count": 0, "DeviceIDs": ["vendor.com/gpu=0"], "Capabilities": [], "Options": {}}
    named, any_two = make_device_request(["0"], 1, False), make_device_request([], 2, False)
    assert (named["Driver"], named["DeviceIDs"], named["Count"], named["Capabilities"]) == ("nvidia", ["0"], 0, [["gpu"]])
    assert (any_two["DeviceIDs"], any_two["Count"]) == ([], 2)


# --- data ---

KEYS = ("a" * 64, "b" * 64)


def test_a_view_is_never_mounted_by_the_engine_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that is killed meanwhile would empty it. The volume counts as used all the same, and a view without its manifest can't be started on."""
    local = {"Driver": "local", "Options": None, "Mountpoint": "/v/store/_data"}
    monkeypatch.setattr(docker, "inspect_volume", lambda name: local)
    view, proof = docker.mount_view("store", f"views/{KEYS[0]}", "/hubdock/data/aaaaaaaa", "manifest.json", "/hubdock/held/a")
    made = docker.make_mount(view.as_dict())
    assert (made["Type"], made["Source"], made["Target"], made["ReadOnly"]) == ("bind", f"/v/store/_data/views/{KEYS[0]}", "/hubdock/data/aaaaaaaa", True)
    made = docker.make_mount(proof)
    assert (made["Type"], made["Source"], made["Target"], made["ReadOnly"]) == ("volume", "store", "/hubdock/held/a", True)
    assert made["VolumeOptions"]["Subpath"] == f"views/{KEYS[0]}/manifest.json"


@pytest.mark.parametrize("more", [{"Driver": "nfs"}, {"Options": {"type": "nfs", "o": "addr=10.0.0.1"}}, {"Mountpoint": ""}])
def test_a_volume_that_the_engine_must_mount_is_left_to_it(monkeypatch: pytest.MonkeyPatch, more: dict[str, Any]) -> None:
    monkeypatch.setattr(docker, "inspect_volume", lambda name: {"Driver": "local", "Options": None, "Mountpoint": "/v/store/_data", **more})
    assert docker.mount_view("store", "views/k", "/t", "manifest.json", "/held") == [VolumeMount("store", "/t", "views/k", read_only=True)]


def test_which_data_is_lost() -> None:
    mounts = [VolumeMount("store", f"/hubdock/data/{key[:8]}", f"views/{key}", read_only=True).as_dict() for key in KEYS]
    launch = {"mounts": [{"volume": "home", "target": "/home/jovyan"}, *mounts], "start": {"data": {"current": "aaaaaaaa"}}}
    ended = name_end("The server ended.", "hubdock: the workspace could not be prepared (The data is not in the store, where it was before (/hubdock/data/bbbbbbbb). …)")
    assert isinstance(ended, DataGone) and find_lost_key(ended, launch) == KEYS[1]
    assert find_lost_key(make_data_gone(f"views/{KEYS[1]}/manifest.json: no such file"), launch) == KEYS[1]
    assert find_lost_key(make_data_gone("subPath"), launch) == KEYS[0]  # nothing is named: that of the commit itself
    assert find_lost_key(make_data_gone("subPath"), {"mounts": [], "start": {"data": None}}) == ""


def test_lost_data_is_fetched_anew(tmp_path: Path) -> None:
    """Its fetch ended well once: that counts no more."""
    tasks, path = TaskStore(tmp_path), tmp_path / "tasks/data" / KEYS[0] / "1"
    path.mkdir(parents=True)
    Reporter(path).finish(Phase.READY)
    for strange in ("", "..", f"../data/{KEYS[0]}"):
        forget_view(tasks, strange)
    done = tasks.latest("data", KEYS[0])
    assert done and (result := done.result()) and result.error is None
    forget_view(tasks, KEYS[0])
    forget_view(tasks, KEYS[0])
    assert (result := done.result()) and isinstance(result.error, BuildError)


async def test_the_api_lists_the_images_that_the_command_line_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bases too, which carry no label of a kind; with when each was made."""
    made = {"Id": "sha256:1", "Size": 5, "RepoTags": ["hubdock/image:kk"], "Labels": {"hubdock.kind": "image", "hubdock.image": "kk"}}
    base = {"Id": "sha256:2", "Size": 7, "RepoTags": ["hubdock/base:bb", "<none>:<none>"], "Labels": None}
    stranger = {"Id": "sha256:3", "Size": 7, "RepoTags": None, "Labels": {"hubdock.kind": "image"}}
    monkeypatch.setattr(docker, "list_images", lambda label="", reference="": [made, stranger] if label else [base])
    monkeypatch.setattr(docker, "inspect_image", lambda reference: {"Metadata": {"LastTagTime": "2026-01-02T03:04:05Z" if reference == "sha256:1" else "0001-01-01T00:00:00Z"}})

    async def in_thread(function: Any, *arguments: Any) -> Any:
        return function(*arguments)

    answers: list[dict[str, Any]] = []
    backend = DockerBackend()
    engine = SimpleNamespace(builds=SimpleNamespace(in_thread=in_thread), planner=SimpleNamespace(backend=backend))
    handler: Any = SimpleNamespace(is_admin=True, engine=engine, write_json=answers.append)
    await ImagesHandler.get(handler)
    assert answers == [{"images": [image.as_dict() for image in list_made_images(backend)]}]
    assert [(image["kind"], image["key"], image["tags"], image["created"]) for image in answers[0]["images"]] == [
        ("image", "kk", ["hubdock/image:kk"], 1767323045.0), ("base", "bb", ["hubdock/base:bb"], None),
    ]  # fmt: skip
    document = make_openapi("/")
    for image in answers[0]["images"]:
        jsonschema.validate(image, {"$ref": "#/components/schemas/Image", "components": document["components"]})
