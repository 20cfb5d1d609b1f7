"""What a registry says that a tag stands for. The Docker Engine asks, with its own proxies, certificates and mirrors; the login is docker's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from docker.errors import APIError
from docker.utils import parse_repository_tag

from hubdock.core.errors import BackendError, RegistryUnavailable
from hubdock.core.reference import names_host, parse_reference
from hubdock.drivers.docker import client, translated


def split_reference(reference: str) -> tuple[str, str]:
    """Return (repository, tag or digest) of an image's name; without either it is ``latest``."""
    repository, tag = parse_repository_tag(reference)
    return repository, tag or "latest"


def find_digests(inspection: Mapping[str, Any], reference: str) -> set[str]:
    """Return the digests by which a reference's own repository knows this image; empty for an image that exists only here.

    An engine with the containerd image store invents a digest for each image that it builds, equal to the image's id. Then a name counts only if it
    says its registry: a short one would have Docker Hub asked for a team's own image, and whoever has that name there would answer.
    """
    wanted, named = parse_reference(reference), names_host(reference)
    found = [(parse_reference(entry), entry.partition("@")[2]) for entry in inspection.get("RepoDigests") or ()]
    return {digest for name, digest in found if (name.host, name.repository) == (wanted.host, wanted.repository) and (named or digest != inspection.get("Id"))}


def find_newer(reference: str, inspection: Mapping[str, Any] | None) -> str:
    """Return the digest of another image that a tag stands for by now, else the empty string. Only an image from a registry is asked for.

    Raises RegistryUnavailable.
    """
    known = find_digests(inspection or {}, reference)
    if not known or "@" in reference:
        return ""
    digest = ask_digest(reference)
    return "" if digest in known else digest


def ask_digest(reference: str) -> str:
    """Return the digest that a tag stands for now: one question to its registry, which brings no layer. Raises RegistryUnavailable."""
    unknown = f"The registry does not say what {reference} stands for."
    try:
        with translated():
            return str(client().inspect_distribution(reference)["Descriptor"]["digest"])
    except (APIError, BackendError) as error:
        raise RegistryUnavailable(unknown, str(getattr(error, "detail", "") or error)) from error
