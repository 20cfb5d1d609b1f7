"""A registry over the OCI distribution API (https://github.com/opencontainers/distribution-spec/blob/main/spec.md): what Kubernetes pulls from, asked without an engine.

“Missing” is only what the registry itself says is missing. Everything else that keeps an answer from us is RegistryUnavailable, never a reason to build again.
The Docker back-end asks its engine instead (`hubdock.drivers.registry`).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import IO, Any
from urllib.parse import quote, urlencode

from hubdock.core.errors import BackendError, RegistryUnavailable
from hubdock.core.oci import (
    ACCEPTED,
    MANIFEST,
    Descriptor,
    Manifest,
    find_platform,
    is_digest,
    is_index,
    make_digest,
    parse_json,
    parse_manifest,
)
from hubdock.drivers.oci_auth import Answer, Logins
from hubdock.drivers.oci_http import LONGEST, Connection, find_codes, make_part_gone

CHUNK = 512 * 1024 * 1024  # larger blobs go in pieces; some registries take no pieces at all, so that this is no small number
_PIECE = 1 << 20
_NEXT = re.compile(r'<([^>]*)>\s*;\s*rel="?next"?')
_BINARY = {"Content-Type": "application/octet-stream"}


class Registry:
    """One registry; `Connection` says what the arguments are. Methods block, and may be called by several threads at once.

    ``repository`` is the path without the host (``hubdock/environment``), ``reference`` a tag or digest. All raise RegistryUnavailable.
    """

    def __init__(self, host: str, logins: Logins | None = None, insecure: Collection[str] = (), certificates: str = "", chunk: int = CHUNK) -> None:
        self.host, self._chunk = host, chunk
        self._connection = Connection(host, logins or Logins(), insecure, certificates)

    def close(self) -> None:
        """End the connections."""
        self._connection.close()

    # --- manifests ---

    def find_digest(self, repository: str, reference: str) -> str | None:
        """Return the digest of a manifest or index, or None if there is none: one HEAD."""
        path, scopes = f"/v2/{repository}/manifests/{reference}", _pull(repository)
        found = self._connection.request("HEAD", path, scopes, {200, 404}, headers={"Accept": ", ".join(ACCEPTED)})
        if found.status == 404:
            return None
        digest = found.headers.get("docker-content-digest") or (reference if is_digest(reference) else "")
        if digest:
            return str(digest)
        content = self._read_manifest(repository, reference)
        return make_digest(content) if content is not None else None

    def read_manifest(self, repository: str, reference: str, platform: str = "linux/amd64") -> Manifest | None:
        """Return one platform's manifest, or None if the registry has none under this reference. Raises BackendError for what can't be used."""
        content = self._read_manifest(repository, reference)
        if content is None:
            return None
        values = parse_json(content, "manifest")
        if not is_index(values):
            return parse_manifest(content)
        digest = find_platform(values, platform)
        content = self._read_manifest(repository, digest) if digest else None
        if content is None:
            raise BackendError(f"{self.host}/{repository} has no image for {platform} under {reference}.", "index without it")
        return parse_manifest(content)

    def _read_manifest(self, repository: str, reference: str) -> bytes | None:
        path, scopes = f"/v2/{repository}/manifests/{reference}", _pull(repository)
        found = self._connection.request("GET", path, scopes, {200, 404}, headers={"Accept": ", ".join(ACCEPTED)})
        if found.status == 404:
            return None
        if is_digest(reference):
            self._check(found.content, reference)
        return found.content

    def put_manifest(self, repository: str, reference: str, content: bytes) -> str:
        """Write an OCI manifest under a tag or its digest, and return the digest. Raises ImageGone if a blob of it is not there (any more)."""
        headers = {"Content-Type": MANIFEST}
        found = self._connection.request("PUT", f"/v2/{repository}/manifests/{reference}", _push(repository), {201, 400, 404}, headers=headers, content=lambda: content)
        if {"MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN"} & set(find_codes(found.content)):
            raise make_part_gone(found.text)
        if found.status != 201:
            raise BackendError(f"The registry {self.host} does not take the image. Tell an administrator.", found.text)
        return make_digest(content)

    def delete_manifest(self, repository: str, digest: str) -> bool:
        """Delete a manifest with all its tags; return whether there was one. Its blobs go when the registry collects its garbage."""
        path, scopes = f"/v2/{repository}/manifests/{digest}", frozenset({f"repository:{repository}:delete,pull"})
        found = self._connection.request("DELETE", path, scopes, {200, 202, 404, 405})
        if found.status == 405:
            raise RegistryUnavailable(f"The registry {self.host} is set to delete nothing. An administrator has to allow it there.", found.text)
        return found.status != 404

    def list_tags(self, repository: str) -> list[str]:
        """Return the tags of a repository, sorted; empty if there is no such repository."""
        url, tags = f"/v2/{repository}/tags/list?n=1000", []
        while url:
            found = self._connection.request("GET", url, _pull(repository), {200, 404})
            if found.status == 404:
                break
            tags += [str(tag) for tag in parse_json(found.content, "list of tags").get("tags") or ()]
            following = _NEXT.search(found.headers.get("link", ""))
            url = following[1] if following else ""
        return sorted(set(tags))

    # --- blobs ---

    def has_blob(self, repository: str, digest: str) -> bool:
        """True if a repository has a blob."""
        found = self._connection.request("HEAD", f"/v2/{repository}/blobs/{digest}", _pull(repository), {200, 307, 302, 404})
        return found.status != 404

    def read_config(self, repository: str, manifest: Manifest) -> dict[str, Any]:
        """Return the configuration of an image. Raises ImageGone if it is not there."""
        if manifest.config.size > LONGEST:
            raise BackendError("The image's configuration is too large. Tell an administrator.", str(manifest.config))
        content = b"".join(self.stream_blob(repository, manifest.config))
        self._check(content, manifest.config.digest)
        return parse_json(content, "image configuration")

    def inspect_image(self, repository: str, reference: str, platform: str = "linux/amd64") -> dict[str, Any] | None:
        """Return an image in the form of ``docker image inspect``, ``Id`` being the name by digest that a cluster pulls; None if it is missing."""
        manifest = self.read_manifest(repository, reference, platform)
        if manifest is None:
            return None
        config = self.read_config(repository, manifest)
        name = f"{self.host}/{repository}@{manifest.digest}"
        layers = (config.get("rootfs") or {}).get("diff_ids") or []
        size = sum(layer.size for layer in manifest.layers)
        return {"Id": name, "RepoDigests": [name], "Config": config.get("config") or {}, "RootFS": {"Type": "layers", "Layers": layers}, "Size": size}

    def stream_blob(self, repository: str, descriptor: Descriptor) -> Iterator[bytes]:
        """Yield a blob. Raises ImageGone if it is missing, RegistryUnavailable for one that is longer or shorter than it should be."""
        left = descriptor.size
        with self._connection.stream(f"/v2/{repository}/blobs/{descriptor.digest}", _pull(repository)) as pieces:
            for piece in pieces:
                left -= len(piece)
                if left < 0:
                    break
                yield piece
        if left:
            raise RegistryUnavailable(f"The registry {self.host} sent a file that is not whole. Try again in a moment.", f"{descriptor}: {-left:+d} bytes")

    def mount_blob(self, repository: str, digest: str, source: str) -> str:
        """Make a blob of another repository one of this, without moving it. Return the empty string, or the upload that the registry began instead.

        A bearer token for it is of both repositories.
        """
        query = urlencode({"mount": digest, "from": source})
        found = self._connection.request("POST", f"/v2/{repository}/blobs/uploads/?{query}", _push(repository) | _pull(source), {201, 202})
        return "" if found.status == 201 else self._find_upload(found)

    def upload_blob(self, repository: str, descriptor: Descriptor, file: IO[bytes], upload: str = "") -> None:
        """Send a blob from a file that can be sought: in one request, or in pieces if it is large. ``upload`` is one that a mount began."""
        if not upload:
            upload = self._find_upload(self._connection.request("POST", f"/v2/{repository}/blobs/uploads/", _push(repository), {202}))
        start = 0
        while descriptor.size - start > self._chunk:
            end = start + self._chunk
            headers = {**_BINARY, "Content-Length": str(self._chunk), "Content-Range": f"{start}-{end - 1}"}
            sent = self._send(repository, "PATCH", upload, {202}, headers, file, start, end)
            upload, start = self._find_upload(sent), end
        headers = {**_BINARY, "Content-Length": str(descriptor.size - start)}
        if start:
            headers["Content-Range"] = f"{start}-{descriptor.size - 1}"
        self._send(repository, "PUT", f"{upload}{'&' if '?' in upload else '?'}digest={quote(descriptor.digest, safe='')}", {201}, headers, file, start, descriptor.size)

    def _send(self, repository: str, method: str, url: str, accept: Collection[int], headers: dict[str, str], file: IO[bytes], start: int, end: int) -> Answer:
        return self._connection.request(method, url, _push(repository), accept, headers=headers, content=lambda: _read_range(file, start, end))

    def _find_upload(self, answer: Answer) -> str:
        """Return the address of an upload that began, or that goes on there."""
        return self._connection.settle(str(answer.headers.get("location", "")), answer.url)

    def _check(self, content: bytes, digest: str) -> None:
        if make_digest(content) != digest:
            raise RegistryUnavailable(f"The registry {self.host} sent something else than it was asked for. An administrator has to look at it.", digest)


def _pull(repository: str) -> frozenset[str]:
    return frozenset({f"repository:{repository}:pull"})


def _push(repository: str) -> frozenset[str]:
    return frozenset({f"repository:{repository}:pull,push"})


def _read_range(file: IO[bytes], start: int, end: int) -> Iterator[bytes]:
    file.seek(start)
    while start < end and (piece := file.read(min(_PIECE, end - start))):
        start += len(piece)
        yield piece
