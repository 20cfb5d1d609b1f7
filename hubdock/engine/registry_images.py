"""Images in a registry as a back-end's images: what a cluster pulls, found and made without an engine.

The hub has a place of its own in a registry (``registry.example.org/hubdock``). A local name (``hubdock/KIND:KEY``) is a tag there, in a repository for each
kind; an ``Id`` is the whole name by digest, which a pod takes as it is. References of the admin's are asked for in their own registries, and used where they are.
"""

from __future__ import annotations

import platform
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hubdock.core.errors import ImageGone, RegistryUnavailable
from hubdock.core.naming import make_tag, make_untried
from hubdock.core.reference import Reference, parse_reference
from hubdock.core.tree import Tree
from hubdock.drivers.append import Appended, Place, copy_image
from hubdock.drivers.mirror import Mirror
from hubdock.drivers.oci import Registry
from hubdock.drivers.oci_auth import Logins
from hubdock.engine.append import append_image
from hubdock.engine.backend import Backend
from hubdock.engine.memory import Memory

_OWN = re.compile(r"hubdock/([a-z]+):((?:[a-z]+-)?[0-9a-f]{64}(?:-untried)?)")  # `make_untried`; `hubdock.engine.removal.ASIDE`
KINDS = ("base", "environment", "data", "image")
_AT_ONCE = 8
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_REMEMBERED = 512


class RegistryImages(Backend):
    """The part of a back-end that is about images; a child adds programs, volumes and solves.

    ``values``: ``registry`` (the hub's own place: a host and a path), ``registry_credentials`` (entries as `Logins` takes them), ``registry_config`` (a docker
    config.json), ``insecure_registries`` (hosts), ``certificates`` (a PEM file), ``platform`` (``linux/amd64``; default: this machine's), ``spool``
    (a directory for what is on its way; default: the system's). All but the first may be missing.
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.own = parse_reference(f"{str(values['registry']).rstrip('/')}/x")
        self._prefix = self.own.repository.removesuffix("x")
        self._platform = values.get("platform") or f"linux/{_ARCHITECTURES.get(platform.machine(), 'amd64')}"
        self._logins = Logins(values.get("registry_credentials") or (), values.get("registry_config") or "")
        self._insecure, self._certificates = tuple(values.get("insecure_registries") or ()), values.get("certificates") or ""
        self._spool = Path(values["spool"]) if values.get("spool") else None
        self._registries: dict[str, Registry] = {}
        self._known = Memory[str, dict[str, Any]](_REMEMBERED)
        self._lock = threading.Lock()

    def close(self) -> None:
        """End the connections."""
        for registry in self._registries.values():
            registry.close()

    def open_registry(self, host: str) -> Registry:
        """Return the client of a registry; it stays open."""
        with self._lock:
            if host not in self._registries:
                self._registries[host] = Registry(host, self._logins, self._insecure, self._certificates)
            return self._registries[host]

    def locate(self, reference: str) -> Reference:
        """Return where an image is: a local name in the hub's own place, any other name where it says. Raises ConfigError for what is no name."""
        own = _OWN.fullmatch(reference)
        return Reference(self.own.host, f"{self._prefix}{own[1]}", own[2], "") if own else parse_reference(reference)

    # --- Backend ---

    def list_checks(self) -> Mapping[str, Callable[[], object]]:
        return {"registry": lambda: self.open_registry(self.own.host).find_digest(f"{self._prefix}base", "hubdock-health")}

    def inspect_image(self, reference: str) -> dict[str, Any] | None:
        """One HEAD for an image that was seen before: what a digest names never changes."""
        place = self.locate(reference)
        registry = self.open_registry(place.host)
        digest = registry.find_digest(place.repository, place.manifest)
        if digest is None:
            return None
        name = f"{place.host}/{place.repository}@{digest}"
        if name not in self._known:
            found = registry.inspect_image(place.repository, digest, self._platform)
            if found is None:
                return None
            self._known[name] = found
        return self._known.get(name) or registry.inspect_image(place.repository, digest, self._platform)

    def pull_image(self, reference: str, listen: Callable[[str], None]) -> None:
        """The nodes pull; what the registry does not have nobody can bring."""
        raise RegistryUnavailable(f"The base image {reference} is not in its registry. An administrator has to set HubDock.base_image to one that is.", str(self.locate(reference)))

    def tag_image(self, image: str, tag: str) -> None:
        """Copy an image to the hub's own place; from the same registry nothing is moved. Environments are then built without the registry it came from."""
        source, target = self.locate(image), self.locate(tag)
        there, here = (Place(self.open_registry(place.host), place.repository) for place in (source, target))
        copy_image(there, source.manifest, here, target.tag, self._platform, self._spool)

    def name_image(self, tag: str) -> str:
        return str(self.locate(tag))

    @contextmanager
    def named(self, image: str) -> Iterator[str]:
        """An ``Id`` is a name."""
        yield image

    def is_moved(self, reference: str, image: str) -> bool:
        """Nobody moves a tag here: only `find_newer` asks what it stands for."""
        return False

    def find_newer(self, reference: str, image: str) -> str | None:
        place = parse_reference(reference)
        if place.digest:
            return ""
        manifest = self.open_registry(place.host).read_manifest(place.repository, place.tag, self._platform)
        if manifest is None:
            return None
        return "" if manifest.digest == self.locate(image).digest else manifest.digest

    def move_reference(self, reference: str, image: str) -> None:
        """The tag is the registry's: what the reference stands for here is in the hub's own records."""

    def append_image(self, spec: dict[str, Any], mirror: Mirror, tree: Tree) -> Appended:
        """Make the image of a spec without a builder. Raises what `hubdock.engine.append.append_image` raises."""
        target, registry = self.locate(spec["tag"]), self.open_registry(self.own.host)
        environment, data = (self._find_source(spec[name]) if spec[name] else None for name in ("environment", "data"))
        assert environment
        return append_image(registry, environment, (target.repository, target.tag), spec, mirror, tree, data)

    def _find_source(self, tag: str) -> tuple[str, str]:
        """Return where an image is that another is made of: its repository and digest."""
        source = self.locate(tag)
        digest = self.open_registry(source.host).find_digest(source.repository, source.tag)
        if digest is None:
            raise ImageGone("What the image is made of was removed from the registry. Start again: it is made anew.", str(source))
        return source.repository, digest

    # --- collection ---

    def list_images(self, kind: str = "") -> list[dict[str, Any]]:
        """What was never tried to its end has no name that anybody looks for."""
        names = [name for one in ([kind] if kind else KINDS) for name in self._list_names(one)]
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            found = {name: image for name, image in zip(names, pool.map(self.inspect_image, names), strict=True) if image is not None}
        entries: dict[str, dict[str, Any]] = {}
        for name, image in found.items():
            entry = entries.setdefault(image["Id"], {"Id": image["Id"], "Labels": image["Config"].get("Labels") or {}, "RepoTags": [], "Size": image["Size"]})
            entry["RepoTags"] += [] if name.endswith(make_untried("")) else [name]
        return list(entries.values())

    def _list_names(self, kind: str) -> list[str]:
        repository = f"{self._prefix}{kind}"
        return [name for tag in self.open_registry(self.own.host).list_tags(repository) if _OWN.fullmatch(name := make_tag(kind, tag))]

    def find_named(self, image: str) -> float | None:
        """A registry does not say."""
        return None

    def measure_source(self, reference: str) -> int:
        """A registry keeps a layer once, in however many of its repositories; what came from elsewhere is a copy."""
        if parse_reference(reference).host != self.own.host:
            return 0
        return int((self.inspect_image(reference) or {}).get("Size") or 0)

    def remove_image(self, name: str) -> bool:
        """Other names of the same image go with it. Whoever runs it is not asked: `list_containers` tells what must stay."""
        place = self.locate(name)
        registry = self.open_registry(place.host)
        digest = registry.find_digest(place.repository, place.manifest)
        if digest is not None:
            registry.delete_manifest(place.repository, digest)
        return True
