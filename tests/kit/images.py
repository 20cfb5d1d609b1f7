"""Small images made by hand, for registries: no engine is needed."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
from typing import Any

from hubdock.core.oci import CONFIG, Descriptor, make_digest
from hubdock.drivers.oci import Registry

SCHEMA_2 = "application/vnd.docker.distribution.manifest.v2+json"


def make_blob(name: str, size: int = 2048) -> bytes:
    """Return a compressed blob that stands for a layer."""
    return gzip.compress(hashlib.sha256(name.encode()).digest() * (size // 32), mtime=0)


def put_blob(registry: Registry, repository: str, content: bytes, kind: str) -> Descriptor:
    found = Descriptor(kind, make_digest(content), len(content))
    registry.upload_blob(repository, found, io.BytesIO(content))
    return found


def publish(registry: Registry, repository: str, tag: str, layers: int = 3, docker: bool = False, **config: Any) -> str:
    """Put an image of ``layers`` layers into a registry, by Docker's media types or OCI's, and return its digest."""
    blobs = [make_blob(f"{repository} {n}") for n in range(layers)]
    kind = "application/vnd.docker.image.rootfs.diff.tar.gzip" if docker else "application/vnd.oci.image.layer.v1.tar+gzip"
    described = [put_blob(registry, repository, blob, kind) for blob in blobs]
    diff_ids = [make_digest(gzip.decompress(blob)) for blob in blobs]
    values = {"architecture": "amd64", "os": "linux", "config": {"Env": ["PATH=/usr/bin"], **config}, "rootfs": {"type": "layers", "diff_ids": diff_ids}}
    setting = put_blob(registry, repository, json.dumps(values).encode(), "application/vnd.docker.container.image.v1+json" if docker else CONFIG)
    manifest = {"schemaVersion": 2, "config": setting.as_dict(), "layers": [layer.as_dict() for layer in described]}
    if docker:
        manifest["mediaType"] = SCHEMA_2
    return put_raw(registry, repository, tag, manifest)


def put_raw(registry: Registry, repository: str, tag: str, manifest: dict[str, Any]) -> str:
    """Write any manifest under the media type that it has, as another client would."""
    content = json.dumps(manifest).encode()
    headers = {"Content-Type": manifest.get("mediaType", "application/vnd.oci.image.manifest.v1+json")}
    scopes = frozenset({f"repository:{repository}:pull,push"})
    registry._connection.request("PUT", f"/v2/{repository}/manifests/{tag}", scopes, {201}, headers=headers, content=lambda: content)
    return make_digest(content)
