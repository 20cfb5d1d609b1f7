"""An image made of another without any builder: its layers are mounted across repositories, new ones uploaded, and a manifest written over them."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from hubdock.core.errors import BackendError, ImageGone
from hubdock.core.oci import CONFIG, Changes, Descriptor, make_config, make_digest, make_manifest
from hubdock.drivers.layer import SpooledLayer
from hubdock.drivers.oci import Registry

_AT_ONCE = 4


@dataclass(frozen=True)
class Appended:
    """What became of it: the digest to launch by, the bytes of the blobs that were sent to the registry, and how many blobs those were."""

    digest: str
    uploaded: int
    blobs: int


def append_layers(
    registry: Registry, source: str, digest: str, target: str, tag: str, layers: Sequence[SpooledLayer], changes: Changes, directory: Path | None = None
) -> Appended:
    """Put layers on the image of ``digest`` in the repository ``source``, as ``target:tag``. What is there already is not sent again.

    The same image, layers and changes make the same digest. ``directory`` is for blobs that can't be mounted (default: the system's). Raises
    ImageGone if the image is not in the registry any more, RegistryUnavailable, BackendError.
    """
    manifest = registry.read_manifest(source, digest)
    if manifest is None:
        raise ImageGone("The environment was removed from the registry. Start again: it is made anew.", f"{source}@{digest}")
    known = registry.read_config(source, manifest)
    if len((known.get("rootfs") or {}).get("diff_ids") or ()) != len(manifest.layers):
        raise BackendError("The environment's image is of a kind that nothing can be put on. Tell an administrator.", f"{source}@{digest}")
    config = make_config(known, changes, [spooled.layer for spooled in layers])
    content = make_manifest(config, [*manifest.layers, *(spooled.layer.descriptor for spooled in layers)])
    if registry.find_digest(target, tag) == make_digest(content):
        return Appended(make_digest(content), 0, 0)
    described = Descriptor(CONFIG, make_digest(config), len(config))
    sent = [_send(registry, target, spooled) for spooled in layers]
    mounts = {layer.digest: layer for layer in manifest.layers} if source != target else {}
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        sent += pool.map(lambda layer: _mount(registry, source, target, layer, directory), mounts.values())
    if not registry.has_blob(target, described.digest):
        registry.upload_blob(target, described, io.BytesIO(config))
        sent.append(described.size)
    return Appended(registry.put_manifest(target, tag, content), sum(sent), sum(1 for size in sent if size))


def _send(registry: Registry, target: str, spooled: SpooledLayer) -> int:
    """Upload a new layer unless it is there; return its bytes, or 0."""
    descriptor = spooled.layer.descriptor
    if registry.has_blob(target, descriptor.digest):
        return 0
    registry.upload_blob(target, descriptor, spooled.file)
    return descriptor.size


def _mount(registry: Registry, source: str, target: str, descriptor: Descriptor, directory: Path | None) -> int:
    """Make a layer of the source one of the target; where the registry won't, carry it over. Return the bytes that were sent."""
    upload = registry.mount_blob(target, descriptor.digest, source)
    if not upload:
        return 0
    with tempfile.TemporaryFile(dir=directory) as file:
        for piece in registry.stream_blob(source, descriptor):
            file.write(piece)
        file.seek(0)
        registry.upload_blob(target, descriptor, file, upload)
    return descriptor.size
