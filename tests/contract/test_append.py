"""Layers put on an image by the registry's own means: what is sent, what is only mounted, and what happens when a part is gone."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from hubdock.core.errors import BackendError, ImageGone, RegistryUnavailable
from hubdock.core.oci import CONFIG, LAYER, Changes
from hubdock.drivers.append import Appended, Place, append_layers, find_lost
from hubdock.drivers.layer import SpooledLayer, spool_layer
from hubdock.drivers.oci import Registry
from tests.contract.conftest import Connect, make_logins, start
from tests.kit.images import make_blob, publish, put_blob, put_raw
from tests.kit.moody import Answer, Moody
from tests.kit.registry import Registry as Running
from tests.kit.tokens import TokenServer

CHANGES = Changes(labels={"hubdock.kind": "image"}, workdir="/home/jovyan/x", command=["start"])


@contextmanager
def spooled(*texts: str) -> Iterator[list[SpooledLayer]]:
    with ExitStack() as stack:
        yield [stack.enter_context(spool_layer(lambda context, text=text: context.add_bytes("/hubdock/code/x", text.encode()), (1000, 100), "code")) for text in texts]  # type: ignore[misc]


def append(registry: Registry, digest: str, *texts: str, source: str = "hub/environment", target: str = "hub/image", tag: str = "key") -> Appended:
    with spooled(*texts) as layers:
        return append_layers(registry, source, digest, target, tag, layers, CHANGES)


@pytest.mark.parametrize("docker", [False, True], ids=["oci", "schema-2"])
def test_only_what_is_new_is_sent(moody: Moody, connect: Connect, docker: bool) -> None:
    registry = connect(moody.host)
    environment = publish(registry, "hub/environment", "1", docker=docker)
    base = registry.inspect_image("hub/environment", environment)
    moody.asked.clear()
    made = append(registry, environment, "one")
    assert made.blobs == 2 and 0 < made.uploaded < 2000, "the layer and the configuration"
    assert moody.count("POST", "mount=") == 3 and moody.count("PUT", "/uploads/") == 2 and moody.count("GET", "/blobs/") == 1
    manifest, image = registry.read_manifest("hub/image", "key"), registry.inspect_image("hub/image", "key")
    assert manifest and image and base and manifest.digest == made.digest
    assert [layer.media_type for layer in manifest.layers] == [f"{LAYER}+gzip"] * 3 + [f"{LAYER}+zstd"]
    assert image["Id"] == f"{moody.host}/hub/image@{made.digest}"
    assert image["RootFS"]["Layers"][:3] == base["RootFS"]["Layers"] and len(image["RootFS"]["Layers"]) == 4
    assert image["Config"] == {**base["Config"], "Labels": {"hubdock.kind": "image"}, "WorkingDir": "/home/jovyan/x", "Cmd": ["start"]}
    moody.asked.clear()
    assert append(registry, environment, "one") == Appended(made.digest, 0, 0)
    assert moody.count("POST") == moody.count("PUT") == 0


def test_the_next_change_sends_only_itself(registry: Registry) -> None:
    environment = publish(registry, "hub/environment", "1")
    first = append(registry, environment, "guest", "one", tag="one")
    second = append(registry, environment, "guest", "two", tag="two")
    assert first.blobs == 3 and second.blobs == 2 and second.digest != first.digest
    assert registry.list_tags("hub/image") == ["one", "two"]


def test_another_image_between_the_two(moody: Moody, connect: Connect) -> None:
    """Data comes on the environment, below the code, and nothing of it is sent."""
    registry = connect(moody.host)
    environment, data = publish(registry, "hub/environment", "1"), publish(registry, "hub/data", "1", layers=2, Labels={"hubdock.kind": "data"})
    below, between = registry.inspect_image("hub/environment", environment), registry.inspect_image("hub/data", data)
    with spooled("code") as layers:
        made = append_layers(registry, "hub/environment", environment, "hub/image", "key", layers, CHANGES, between=("hub/data", data))
    image = registry.inspect_image("hub/image", "key")
    assert image and below and between and made.blobs == 2 and made.uploaded < 2000
    assert image["RootFS"]["Layers"] == [*below["RootFS"]["Layers"], *between["RootFS"]["Layers"], layers[0].layer.diff_id]
    assert image["Config"]["Labels"] == {**(below["Config"].get("Labels") or {}), "hubdock.kind": "image"}
    registry.delete_manifest("hub/data", data)
    with pytest.raises(ImageGone), spooled("other code") as layers:
        append_layers(registry, "hub/environment", environment, "hub/image", "other", layers, CHANGES, between=("hub/data", data))


def test_another_tag_of_the_same_image_sends_nothing(registry: Registry) -> None:
    environment = publish(registry, "hub/environment", "1")
    first = append(registry, environment, "one", tag="one")
    assert append(registry, environment, "one", tag="two") == Appended(first.digest, 0, 0)
    assert registry.find_digest("hub/image", "two") == first.digest


def test_one_repository_for_both(moody: Moody, connect: Connect) -> None:
    registry = connect(moody.host)
    environment = publish(registry, "hub/all", "1")
    made = append(registry, environment, "one", source="hub/all", target="hub/all")
    assert registry.find_digest("hub/all", "key") == made.digest and moody.count("POST", "mount=") == 0


def test_the_same_tree_on_two_registries(registry: Registry, connect: Connect, tmp_path: Path) -> None:
    """And on that of the cluster, where one is: the same layers everywhere, and as the blobs are the same too, the same image."""
    other = start(tmp_path / "other")
    try:
        places = [registry, connect(other.host), *([connect(cluster)] if (cluster := os.environ.get("HUBDOCK_TEST_REGISTRY")) else [])]
        assert len({each.host for each in places}) == len(places) >= 2
        source, target, images, made = f"hdtest-{uuid.uuid4().hex}/environment", f"hdtest-{uuid.uuid4().hex}/image", [], set()
        for each in places:
            digest = publish(each, source, "1")
            made.add(append(each, digest, "one", source=source, target=target).digest)
            images.append(each.inspect_image(target, "key"))
            each.delete_manifest(source, digest)
            each.delete_manifest(target, images[-1]["Id"].partition("@")[2])
        assert all(image and len(image["RootFS"]["Layers"]) == 4 and image["RootFS"] == images[0]["RootFS"] for image in images) and images[0]
        assert len(made) == 1
    finally:
        other.stop()


def test_what_a_registry_does_not_mount_is_carried_over(moody: Moody, connect: Connect) -> None:
    """It answers 202 and begins an upload, as it may (and does across its storages)."""
    registry = connect(moody.host)
    environment = publish(registry, "hub/environment", "1")
    moody.mood = lambda method, path: path.partition("?")[0] if "mount=" in path else None
    made = append(registry, environment, "one")
    assert made.blobs == 5 and moody.count("GET", "/blobs/sha256") == 4
    assert append(registry, environment, "two", tag="two").blobs == 2, "and not again"
    manifest = registry.read_manifest("hub/image", "key")
    assert manifest and manifest.digest == made.digest
    for layer in manifest.layers:
        assert sum(len(piece) for piece in registry.stream_blob("hub/image", layer)) == layer.size


def test_many_at_once_make_one_image(registry: Registry) -> None:
    environment = publish(registry, "hub/environment", "1")
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: append(registry, environment, "one"), range(16)))
    assert len({each.digest for each in made}) == 1 and registry.find_digest("hub/image", "key") == made[0].digest


def test_an_environment_that_is_gone(registry: Registry) -> None:
    environment = publish(registry, "hub/environment", "1")
    registry.delete_manifest("hub/environment", environment)
    with pytest.raises(ImageGone, match="Start again"):
        append(registry, environment, "one")


def test_a_layer_that_is_gone(registry: Registry, running: Running) -> None:
    """Somebody's garbage collection took it, the manifest is still there."""
    environment = publish(registry, "hub/environment", "1")
    manifest = registry.read_manifest("hub/environment", environment)
    assert manifest
    for path in [*running.files.rglob(manifest.layers[0].digest.removeprefix("sha256:"))]:
        shutil.rmtree(path)
    with pytest.raises(ImageGone, match="made anew"):
        append(registry, environment, "one")
    assert registry.find_digest("hub/image", "key") is None, "nothing half-made"


def test_a_part_that_is_missing_for_a_moment_is_not_lost(moody: Moody, connect: Connect) -> None:
    """A registry on plain files says so while somebody else mounts the same blob (docker-registry 2.8)."""
    registry = connect(moody.host)
    environment = publish(registry, "hub/environment", "1")
    answers = [(400, {}, b'{"errors": [{"code": "MANIFEST_BLOB_UNKNOWN"}]}')] * 2
    moody.mood = lambda method, path: answers.pop() if answers and method == "PUT" and "/manifests/" in path else None
    made = append(registry, environment, "one")
    assert not answers and registry.find_digest("hub/image", "key") == made.digest and made.blobs == 2
    misses = [(404, {"Docker-Distribution-Api-Version": "registry/2.0"}, b"")] * 4
    moody.mood = lambda method, path: misses.pop() if misses and method == "HEAD" else None
    assert find_lost(Place(registry, "hub/environment"), environment) == [] and not misses


def test_what_is_lost_is_named(registry: Registry, running: Running) -> None:
    environment = publish(registry, "hub/environment", "1")
    manifest = registry.read_manifest("hub/environment", environment)
    assert manifest
    for path in [*running.files.rglob(manifest.layers[1].digest.removeprefix("sha256:"))]:
        shutil.rmtree(path)
    assert find_lost(Place(registry, "hub/environment"), environment) == [manifest.layers[1].digest]


def test_an_image_that_nothing_can_be_put_on(registry: Registry) -> None:
    environment = publish(registry, "hub/environment", "1", layers=0)
    with pytest.raises(BackendError, match="is of a kind"):
        append(registry, publish_bare(registry), "one")
    assert append(registry, environment, "one").blobs == 2, "an image of no layers is one"


def publish_bare(registry: Registry) -> str:
    """Publish an image whose configuration does not say what its layers are."""
    layer = put_blob(registry, "hub/environment", make_blob("x"), f"{LAYER}+gzip")
    config = put_blob(registry, "hub/environment", b'{"architecture": "amd64", "os": "linux"}', CONFIG)
    return put_raw(registry, "hub/environment", "2", {"schemaVersion": 2, "config": config.as_dict(), "layers": [layer.as_dict()]})


@pytest.mark.parametrize("at", ["/manifests/", "mount=", "/blobs/uploads/", "digest="])
def test_a_registry_that_fails_in_the_middle_leaves_nothing_half_made(moody: Moody, connect: Connect, at: str) -> None:
    registry = connect(moody.host)
    environment = publish(registry, "hub/environment", "1")

    def mood(method: str, path: str) -> Answer | None:
        return (500, {}, b"") if at in path else None

    moody.mood = mood
    with pytest.raises(RegistryUnavailable):
        append(registry, environment, "one")
    moody.mood = lambda method, path: None
    assert registry.find_digest("hub/image", "key") is None
    assert append(registry, environment, "one").digest == registry.find_digest("hub/image", "key")


@pytest.mark.parametrize("at", ["/blobs/uploads/", "digest=", "/manifests/key"])
def test_a_process_that_is_killed_in_the_middle_leaves_nothing_half_made(moody: Moody, connect: Connect, at: str) -> None:
    """Whatever arrived is no image until all of it is there, and who comes next makes it whole."""
    registry = connect(moody.host)
    environment = publish(registry, "hub/environment", "1")
    pids: list[int] = []

    def mood(method: str, path: str) -> None:
        if at in path and method != "HEAD":
            os.kill(pids[0], signal.SIGKILL)

    process = multiprocessing.get_context("spawn").Process(target=append_elsewhere, args=(moody.host, environment))
    process.start()
    pids.append(process.pid or 0)
    moody.mood = mood
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    moody.mood = lambda method, path: None
    if at == "/manifests/key":  # all of it had arrived
        assert append(registry, environment, "one") == Appended(str(registry.find_digest("hub/image", "key")), 0, 0)
    else:
        assert registry.find_digest("hub/image", "key") is None
        made = append(registry, environment, "one")
        assert made.digest == registry.find_digest("hub/image", "key") and not find_lost(Place(registry, "hub/image"), made.digest)


def append_elsewhere(host: str, digest: str) -> None:
    append(Registry(host, insecure=[host]), digest, "one")


def test_with_tokens_the_mount_has_both_scopes(guarded: Running, tokens: TokenServer, connect: Connect, password_file: str) -> None:
    registry = connect(guarded.host, make_logins(guarded.host, password_file))
    environment = publish(registry, "hub/environment", "1")
    tokens.asked.clear()
    assert append(registry, environment, "one").blobs == 2
    assert ("team", ["repository:hub/environment:pull", "repository:hub/image:pull,push"]) in tokens.asked
    assert len(tokens.asked) <= 4


def test_it_is_quick(registry: Registry, record_property: pytest.RecordProperty) -> None:
    environment = publish(registry, "hub/environment", "1", layers=20)
    taken = []
    for n in range(5):
        begun = time.monotonic()
        append(registry, environment, "guest", f"change {n}", tag=f"t{n}")
        taken.append(time.monotonic() - begun)
    record_property("number", f"append to 20 layers: {sorted(taken)[2] * 1000:.0f} ms")
    assert sorted(taken)[2] < 1
