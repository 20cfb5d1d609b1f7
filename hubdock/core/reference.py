"""Names of images in registries (https://github.com/distribution/reference): ``registry.example.org:5000/team/base:1``.

A first part without a dot, a colon, or the word ``localhost`` is no host: such a name is Docker Hub's, and one word there lies in ``library/``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from hubdock.core.errors import ConfigError

DOCKER_HUB = "docker.io"
_HUB_NAMES = {"index.docker.io", "registry-1.docker.io", DOCKER_HUB}
_HOST = r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?\.)*[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?(?::[0-9]{1,5})?|\[[0-9a-fA-F:]+\](?::[0-9]{1,5})?"
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_NAME = re.compile(rf"(?:(?P<host>{_HOST})/)?(?P<path>{_PART}(?:/{_PART})*)(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}}))?(?:@(?P<digest>sha256:[0-9a-f]{{64}}))?")
_IS_HOST = re.compile(r"localhost$|.*[.:\[]")
_LONGEST = 255


@dataclass(frozen=True)
class Reference:
    """One name. ``repository`` is the path without the host, ``tag`` is ``latest`` where neither tag nor digest was given."""

    host: str
    repository: str
    tag: str
    digest: str

    @property
    def manifest(self) -> str:
        """What a registry is asked for: the digest, if there is one, else the tag."""
        return self.digest or self.tag

    def __str__(self) -> str:
        return f"{self.host}/{self.repository}" + (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")


def names_host(text: str) -> bool:
    """True if a name says its registry."""
    first, slash, _ = text.partition("/")
    return bool(slash) and _IS_HOST.match(first) is not None


def parse_reference(text: str) -> Reference:
    """Return the parts of an image's name. Raises ConfigError for what is none: names of images are the admin's alone."""
    match = _NAME.fullmatch(text if names_host(text) else f"{DOCKER_HUB}/{text}")
    if match is None or not match["host"] or len(match["path"]) > _LONGEST:
        raise ConfigError(f"{text[:300]!r} is no name of an image, such as registry.example.org/team/base:1.")
    host = normalise_host(match["host"])
    path = f"library/{match['path']}" if host == DOCKER_HUB and "/" not in match["path"] else match["path"]
    return Reference(host, path, match["tag"] or ("" if match["digest"] else "latest"), match["digest"] or "")


def normalise_host(host: str) -> str:
    """Return a registry's host in one form: Docker Hub has several names."""
    return DOCKER_HUB if host in _HUB_NAMES else host
