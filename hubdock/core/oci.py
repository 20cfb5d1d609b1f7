"""Images as a registry keeps them: manifests and configurations as values, and what is put on an image without building.

The media types and fields are those of https://github.com/opencontainers/image-spec (manifest.md, config.md, image-index.md, layer.md). What is read may be of
Docker's older schema 2; what is written is always OCI: a manifest of schema 2 can't hold layers of zstd, an OCI one holds any mix.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hubdock.core.errors import BackendError

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
_DOCKER = "application/vnd.docker."
_MANIFEST_2 = f"{_DOCKER}distribution.manifest.v2+json"
_INDEX_2 = f"{_DOCKER}distribution.manifest.list.v2+json"
ACCEPTED = (MANIFEST, INDEX, _MANIFEST_2, _INDEX_2)
_OF_DOCKER = {
    f"{_DOCKER}container.image.v1+json": CONFIG,
    f"{_DOCKER}image.rootfs.diff.tar": LAYER,
    f"{_DOCKER}image.rootfs.diff.tar.gzip": f"{LAYER}+gzip",
    f"{_DOCKER}image.rootfs.diff.tar.zstd": f"{LAYER}+zstd",
}
_LAYERS = {LAYER, f"{LAYER}+gzip", f"{LAYER}+zstd"}
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_EPOCH = "1970-01-01T00:00:00Z"


def make_digest(content: bytes) -> str:
    """Return ``sha256:`` and the hash of a blob."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def is_digest(text: str) -> bool:
    """True for a sha256 digest, which is what hubdock writes and launches by."""
    return _DIGEST.fullmatch(text) is not None


@dataclass(frozen=True)
class Descriptor:
    """What a manifest says of a blob. ``size`` is in bytes, ``annotations`` are (name, value) pairs."""

    media_type: str
    digest: str
    size: int
    annotations: tuple[tuple[str, str], ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return its JSON form."""
        values: dict[str, Any] = {"mediaType": self.media_type, "digest": self.digest, "size": self.size}
        return values | ({"annotations": dict(self.annotations)} if self.annotations else {})


@dataclass(frozen=True)
class Manifest:
    """One platform's image in a registry: its configuration and layers, lowest first, by OCI media types whatever it was written with."""

    digest: str
    config: Descriptor
    layers: tuple[Descriptor, ...]


@dataclass(frozen=True)
class NewLayer:
    """A layer to be put on an image. ``diff_id`` is the digest of its tar before compression, ``made_by`` what ``docker history`` shows."""

    descriptor: Descriptor
    diff_id: str
    made_by: str


@dataclass(frozen=True)
class Changes:
    """What an image's configuration gets: ``env`` and ``labels`` replace those of their names; what is None or empty stays as it is."""

    env: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    workdir: str = ""
    entrypoint: Sequence[str] | None = None
    command: Sequence[str] | None = None


def parse_json(content: bytes, what: str) -> dict[str, Any]:
    """Return a registry's JSON object. Raises BackendError for anything else."""
    try:
        values = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise BackendError(f"The registry's {what} can't be read. Tell an administrator.", str(error)) from error
    if not isinstance(values, dict):
        raise BackendError(f"The registry's {what} can't be read. Tell an administrator.", f"{type(values).__name__} in place of an object")
    return values


def find_platform(index: Mapping[str, Any], platform: str) -> str:
    """Return the digest of a platform's manifest (``linux/amd64``) in an index, empty if it has none, or if this is no index.

    Attestations, which BuildKit keeps beside the images, are of the platform ``unknown/unknown``.
    """
    system, _, architecture = platform.partition("/")
    for entry in index.get("manifests") or ():
        found = entry.get("platform") or {}
        if (found.get("os"), found.get("architecture")) == (system, architecture) and is_digest(str(entry.get("digest"))):
            return str(entry["digest"])
    return ""


def is_index(manifest: Mapping[str, Any]) -> bool:
    """True for what lists the manifests of several platforms."""
    return manifest.get("mediaType") in {INDEX, _INDEX_2} or "manifests" in manifest


def parse_manifest(content: bytes) -> Manifest:
    """Return the manifest of one platform. Raises BackendError for what is none, and for layers that a registry does not hold itself."""
    values = parse_json(content, "manifest")
    try:
        config, layers = _parse_descriptor(values["config"]), tuple(_parse_descriptor(layer) for layer in values["layers"])
    except (KeyError, TypeError, ValueError) as error:
        raise BackendError("The registry's manifest is of a kind that hubdock can't use. Tell an administrator.", f"{type(error).__name__}: {error}") from error
    return Manifest(make_digest(content), config, layers)


def _parse_descriptor(values: Mapping[str, Any]) -> Descriptor:
    kind, digest = _OF_DOCKER.get(str(values["mediaType"]), str(values["mediaType"])), str(values["digest"])
    if kind not in {CONFIG, *_LAYERS} or not is_digest(digest):
        raise ValueError(f"{digest} of type {kind}")
    notes = tuple(sorted((str(name), str(value)) for name, value in (values.get("annotations") or {}).items()))
    return Descriptor(kind, digest, int(values["size"]), notes)


def make_config(config: Mapping[str, Any], changes: Changes, layers: Sequence[NewLayer]) -> bytes:
    """Return the configuration of an image with layers on top: the same bytes for the same image, changes and layers. ``config`` stays as it is."""
    known = dict(config.get("config") or {})
    known["Env"] = _merge_env(known.get("Env") or [], changes.env)
    known["Labels"] = {**(known.get("Labels") or {}), **changes.labels}
    given = {"WorkingDir": changes.workdir or None, "Entrypoint": changes.entrypoint, "Cmd": changes.command}
    known |= {name: value if isinstance(value, str) else list(value) for name, value in given.items() if value is not None}
    rootfs = {"type": "layers", "diff_ids": [*config["rootfs"]["diff_ids"], *(layer.diff_id for layer in layers)]}
    history = [*(config.get("history") or []), *({"created": _EPOCH, "created_by": layer.made_by} for layer in layers)]
    return _make_json({**config, "created": _EPOCH, "config": known, "rootfs": rootfs, "history": history})


def _merge_env(pairs: Sequence[str], changes: Mapping[str, str]) -> list[str]:
    """Return ``NAME=value`` pairs with changes in place, new names behind in their order."""
    kept = [f"{name}={changes.get(name, value)}" for name, _, value in (pair.partition("=") for pair in pairs)]
    names = {pair.partition("=")[0] for pair in pairs}
    return [*kept, *(f"{name}={value}" for name, value in sorted(changes.items()) if name not in names)]


def make_manifest(config: bytes, layers: Sequence[Descriptor]) -> bytes:
    """Return the manifest of an image."""
    described = Descriptor(CONFIG, make_digest(config), len(config))
    values = {"schemaVersion": 2, "mediaType": MANIFEST, "config": described.as_dict(), "layers": [layer.as_dict() for layer in layers]}
    return _make_json(values)


def _make_json(values: Mapping[str, Any]) -> bytes:
    return json.dumps(values, sort_keys=True, separators=(",", ":")).encode()
