"""Images in a registry as a back-end's images: local names, ids, references of the admin's, and what is copied to the hub's own place."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from hubdock.core.errors import ConfigError, ImageGone, RegistryUnavailable
from hubdock.core.naming import make_tag, make_untried
from hubdock.drivers.job import Job, JobResult
from hubdock.drivers.oci import Registry
from hubdock.drivers.stock import Container
from hubdock.engine.backend import Solving
from hubdock.engine.registry_images import RegistryImages
from hubdock.engine.removal import ASIDE
from tests.contract.conftest import Connect, start
from tests.kit.images import publish
from tests.kit.moody import Moody
from tests.kit.registry import Registry as Running

KEY, OTHER = "a" * 64, "b" * 64


class Images(RegistryImages):
    """Images alone."""

    place = "The registry"

    def make_solver(self, request: Any, listen: Any) -> Solving:
        raise NotImplementedError

    def run_job(self, job: Job, listen: Callable[[str], None] = lambda line: None, stop: threading.Event | None = None) -> JobResult:
        raise NotImplementedError

    def remove_jobs(self, mark: str) -> int:
        raise NotImplementedError

    def inspect_volume(self, name: str) -> dict[str, Any] | None:
        raise NotImplementedError

    def ensure_volume(self, name: str, labels: Mapping[str, str]) -> dict[str, Any]:
        raise NotImplementedError

    def list_volumes(self, prefix: str) -> dict[str, float]:
        raise NotImplementedError

    def list_mounted(self) -> set[str]:
        raise NotImplementedError

    def remove_volume(self, name: str) -> bool:
        raise NotImplementedError

    def list_containers(self) -> list[Container]:
        raise NotImplementedError

    def measure_volumes(self) -> dict[str, int]:
        raise NotImplementedError


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Running]:
    """The registry of the base images."""
    found = start(tmp_path / "elsewhere")
    yield found
    found.stop()


@pytest.fixture
def bases(elsewhere: Running, connect: Connect) -> Registry:
    return connect(elsewhere.host)


@pytest.fixture
def images(moody: Moody, elsewhere: Running) -> Iterator[Images]:
    found = Images({"registry": f"{moody.host}/team/hub", "insecure_registries": [moody.host, elsewhere.host], "platform": "linux/amd64"})
    yield found
    found.close()


def test_local_names_lie_in_the_hubs_own_place(images: Images, registry: Registry, moody: Moody) -> None:
    tag = make_tag("environment", KEY)
    assert images.inspect_image(tag) is None and images.find_image("environment", KEY, "inputs") is None
    digest = publish(registry, "team/hub/environment", KEY, Labels={"hubdock.environment": KEY, "hubdock.environment.inputs": "inputs"})
    identity = f"{moody.host}/team/hub/environment@{digest}"
    assert images.find_image("environment", KEY, "inputs") == identity
    assert images.find_image("environment", KEY, "other inputs") is None
    assert images.name_image(tag) == f"{moody.host}/team/hub/environment:{KEY}"
    found = images.inspect_image(identity)
    assert found == images.inspect_image(tag) and found and found["Id"] == identity and len(found["RootFS"]["Layers"]) == 3
    with images.named(identity) as name:
        assert name == identity


def test_what_was_seen_costs_one_question(images: Images, registry: Registry, moody: Moody) -> None:
    publish(registry, "team/hub/image", KEY)
    images.inspect_image(make_tag("image", KEY))
    moody.asked.clear()
    assert images.inspect_image(make_tag("image", KEY))
    assert [asked[0] for asked in moody.asked] == ["HEAD"]


def test_a_registry_that_is_away_has_not_lost_anything(images: Images, registry: Registry, running: Running) -> None:
    publish(registry, "team/hub/image", KEY, Labels={"hubdock.image": KEY, "hubdock.image.inputs": ""})
    assert images.find_image("image", KEY, "")
    running.stop()
    with pytest.raises(RegistryUnavailable):
        images.find_image("image", KEY, "")
    running.start()
    assert images.find_image("image", KEY, "")


def test_a_base_from_elsewhere_is_copied(images: Images, bases: Registry, elsewhere: Running, registry: Registry) -> None:
    digest = publish(bases, "team/base", "1", docker=True)
    reference = f"{elsewhere.host}/team/base:1"
    found = images.inspect_image(reference)
    assert found and found["Id"] == f"{elsewhere.host}/team/base@{digest}"
    images.tag_image(found["Id"], make_tag("base", KEY))
    elsewhere.stop()
    copied = images.inspect_image(make_tag("base", KEY))
    assert copied and copied["RootFS"] == found["RootFS"] and copied["Config"] == found["Config"]
    manifest = registry.read_manifest("team/hub/base", KEY)
    assert manifest and all(sum(map(len, registry.stream_blob("team/hub/base", blob))) == blob.size for blob in manifest.layers)


def test_a_second_name_moves_nothing(images: Images, bases: Registry, elsewhere: Running, moody: Moody, registry: Registry) -> None:
    publish(bases, "team/base", "1")
    for key in (KEY, OTHER):
        moody.asked.clear()
        images.tag_image(f"{elsewhere.host}/team/base:1", make_tag("base", key))
    assert moody.count("PUT", "/uploads/") == 0
    images.tag_image(images.name_image(make_tag("base", KEY)), make_tag("source", KEY))
    assert moody.count("PUT", "/uploads/") == 0, "within one registry it is mounted"
    assert registry.find_digest("team/hub/source", KEY) == registry.find_digest("team/hub/base", KEY)


def test_a_tag_that_moved(images: Images, bases: Registry, elsewhere: Running) -> None:
    reference = f"{elsewhere.host}/team/base:1"
    assert images.find_newer(reference, f"{elsewhere.host}/team/base@sha256:{'0' * 64}") is None, "nobody knows it"
    publish(bases, "team/base", "1")
    known = images.inspect_image(reference)
    assert known and images.find_newer(reference, known["Id"]) == ""
    newer = publish(bases, "team/base", "1", Mark="two")
    assert images.find_newer(reference, known["Id"]) == newer and not images.is_moved(reference, known["Id"])
    assert images.find_newer(known["Id"], known["Id"]) == "", "a digest never moves"
    elsewhere.stop()
    with pytest.raises(RegistryUnavailable):
        images.find_newer(reference, known["Id"])


def test_what_is_in_no_registry_can_not_be_brought(images: Images, elsewhere: Running) -> None:
    with pytest.raises(RegistryUnavailable, match="is not in its registry"):
        images.pull_image(f"{elsewhere.host}/team/none:1", print)
    with pytest.raises(ImageGone):
        images.tag_image(f"{elsewhere.host}/team/none:1", make_tag("base", KEY))
    with pytest.raises(ConfigError, match="is no name of an image"):
        images.inspect_image("Not/A name")


def test_images_are_listed_and_removed(images: Images, registry: Registry) -> None:
    """Those of keys; one that was never tried to its end is there, without a name."""
    assert images.list_images() == [] and images.remove_image(make_tag("image", KEY))
    for key in (KEY, OTHER, "latest"):
        publish(registry, "team/hub/image", key, Mark=key)
    untried = make_untried(make_tag("environment", KEY))
    publish(registry, "team/hub/environment", untried.partition(":")[2], Mark="untried")
    assert sorted(tuple(entry["RepoTags"]) for entry in images.list_images()) == [(), (make_tag("image", KEY),), (make_tag("image", OTHER),)]
    assert images.remove_image(make_tag("image", KEY)) and images.inspect_image(make_tag("image", KEY)) is None
    (left,) = [entry for entry in images.list_images() if not entry["RepoTags"]]
    assert left["Size"] > 0 and images.remove_image(left["Id"]) and images.inspect_image(untried) is None


def test_an_image_is_put_aside_and_back(images: Images, registry: Registry) -> None:
    """As collection does, in case somebody begins to use it meanwhile."""
    publish(registry, "team/hub/image", KEY, Mark="aside")
    found, aside = images.inspect_image(make_tag("image", KEY)), f"{ASIDE}:image-{KEY}"
    assert found is not None
    images.tag_image(found["Id"], aside)
    assert images.remove_image(make_tag("image", KEY)) and [entry["RepoTags"] for entry in images.list_images("removed")] == [[aside]] and not images.list_images()
    images.tag_image(aside, make_tag("image", KEY))
    assert images.remove_image(aside) and not images.list_images("removed")
    again = images.inspect_image(make_tag("image", KEY))
    assert again is not None and (again["Config"], again["RootFS"]) == (found["Config"], found["RootFS"])
