"""An image made of another without any builder: its layers are mounted across repositories, new ones uploaded, and a manifest written over them."""

from __future__ import annotations

import io
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hubdock.core.errors import BackendError, ImageGone
from hubdock.core.oci import CONFIG, Changes, Descriptor, Manifest, NewLayer, make_config, make_digest, make_manifest
from hubdock.drivers.layer import SpooledLayer
from hubdock.drivers.oci import Registry

_AT_ONCE = 4
_PAUSES = (0.1, 0.3, 0.6)  # seconds


@dataclass(frozen=True)
class Appended:
    """What became of it: the digest to launch by, the bytes of the blobs that were sent to the registry, and how many blobs those were."""

    digest: str
    uploaded: int
    blobs: int


@dataclass(frozen=True)
class Place:
    """A repository of a registry."""

    registry: Registry
    repository: str


def append_layers(
    registry: Registry, source: str, digest: str, target: str, tag: str, layers: Sequence[SpooledLayer], changes: Changes, directory: Path | None = None,
    between: tuple[str, str] | None = None,
) -> Appended:
    """Put layers on the image of ``digest`` in the repository ``source``, as ``target:tag``. What is there already is not sent again.

    The same image, layers and changes make the same digest. ``directory`` is for blobs that can't be mounted (default: the system's). ``between`` is (repository,
    digest) of another image, whose layers go between the two. Raises ImageGone if an image is not in the registry any more, RegistryUnavailable, BackendError.
    """  # fmt: skip
    manifest, known = _read(registry, source, digest)
    middle = list_layers(registry, *between) if between else []
    config = make_config(known, changes, [*middle, *(spooled.layer for spooled in layers)])
    content = make_manifest(config, [*manifest.layers, *(layer.descriptor for layer in middle), *(spooled.layer.descriptor for spooled in layers)])
    if registry.find_digest(target, tag) == make_digest(content):
        return Appended(make_digest(content), 0, 0)
    described = Descriptor(CONFIG, make_digest(config), len(config))
    sent: list[int] = []

    def send() -> str:
        sent.extend(size for spooled in layers if (size := _send(registry, target, spooled)))
        sent.extend(_carry_all(Place(registry, source), Place(registry, target), manifest.layers, directory))
        if between:
            sent.extend(_carry_all(Place(registry, between[0]), Place(registry, target), [layer.descriptor for layer in middle], directory))
        if not registry.has_blob(target, described.digest):
            registry.upload_blob(target, described, io.BytesIO(config))
            sent.append(described.size)
        return registry.put_manifest(target, tag, content)

    return Appended(_insist(send), sum(sent), len(sent))


def _read(registry: Registry, repository: str, digest: str) -> tuple[Manifest, dict[str, Any]]:
    """Return an image's manifest and configuration."""
    manifest = registry.read_manifest(repository, digest)
    if manifest is None:
        raise ImageGone("What the image is made of was removed from the registry. Start again: it is made anew.", f"{repository}@{digest}")
    config = registry.read_config(repository, manifest)
    if len((config.get("rootfs") or {}).get("diff_ids") or ()) != len(manifest.layers):
        raise BackendError("An image that this one stands on is of a kind that nothing can be put on. Tell an administrator.", f"{repository}@{digest}")
    return manifest, config


def list_layers(registry: Registry, repository: str, digest: str) -> list[NewLayer]:
    """Return the layers of an image, to be put on another."""
    manifest, config = _read(registry, repository, digest)
    pairs = zip(manifest.layers, config["rootfs"]["diff_ids"], strict=True)
    return [NewLayer(descriptor, str(diff_id), f"hubdock: layers of {repository.rpartition('/')[2]}") for descriptor, diff_id in pairs]


def _insist(send: Callable[[], str]) -> str:
    """Send, again for a moment if a part is said to be missing: a registry on plain files does not find a blob while somebody else mounts it."""
    for pause in _PAUSES:
        with suppress(ImageGone):
            return send()
        time.sleep(pause)
    return send()


def find_lost(place: Place, digest: str) -> list[str]:
    """Return the blobs of an image that its registry has lost: it says so each of several times."""
    manifest = place.registry.read_manifest(place.repository, digest)
    lost = [blob.digest for blob in (manifest.config, *manifest.layers)] if manifest else []
    for pause in (0.0, *_PAUSES):
        time.sleep(pause)
        lost = [blob for blob in lost if not place.registry.has_blob(place.repository, blob)]
    return lost


def copy_image(source: Place, reference: str, target: Place, tag: str, platform: str, directory: Path | None = None) -> Appended:
    """Make one platform's image of a registry an image of another place, always with an OCI manifest. What is there is not sent again.

    Raises ImageGone if it is not in its registry, RegistryUnavailable, BackendError.
    """
    manifest = source.registry.read_manifest(source.repository, reference, platform)
    if manifest is None:
        raise ImageGone("The image is not in its registry any more. Start again.", f"{source.registry.host}/{source.repository} {reference}")
    config = b"".join(source.registry.stream_blob(source.repository, manifest.config))
    sent: list[int] = []

    def send() -> str:
        sent.extend(_carry_all(source, target, (manifest.config, *manifest.layers), directory))
        return target.registry.put_manifest(target.repository, tag, make_manifest(config, manifest.layers))

    return Appended(_insist(send), sum(sent), len(sent))


def _send(registry: Registry, target: str, spooled: SpooledLayer) -> int:
    """Upload a new layer unless it is there; return its bytes, or 0."""
    descriptor = spooled.layer.descriptor
    if registry.has_blob(target, descriptor.digest):
        return 0
    registry.upload_blob(target, descriptor, spooled.file)
    return descriptor.size


def _carry_all(source: Place, target: Place, blobs: Iterable[Descriptor], directory: Path | None) -> list[int]:
    """Make blobs some of another place, and return the bytes of each that had to be sent."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        sent = pool.map(lambda blob: _carry(source, target, blob, directory), {blob.digest: blob for blob in blobs}.values())
        return [size for size in sent if size]


def _carry(source: Place, target: Place, blob: Descriptor, directory: Path | None) -> int:
    """Make a blob one of another place: nothing where it is there, mounted where that can be, else carried over. Return the bytes that were sent."""
    if target.registry.has_blob(target.repository, blob.digest):
        return 0
    upload = ""
    if source.registry is target.registry:
        upload = target.registry.mount_blob(target.repository, blob.digest, source.repository)
        if not upload:
            return 0
    with tempfile.TemporaryFile(dir=directory) as file:
        for piece in source.registry.stream_blob(source.repository, blob):
            file.write(piece)
        target.registry.upload_blob(target.repository, blob, file, upload)
    return blob.size
