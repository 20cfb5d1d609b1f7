"""Which images hubdock made, by the Docker Engine's own word."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from hubdock.drivers import docker

_KINDS = {"image": 0, "environment": 1, "base": 2}


@dataclass(frozen=True)
class MadeImage:
    """One image. ``size`` is bytes, layers that it shares with others included; ``created`` seconds since the epoch, None if that is not known."""

    kind: str
    key: str
    id: str
    tags: tuple[str, ...]
    size: int
    created: float | None

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {**asdict(self), "tags": list(self.tags)}


def list_made_images() -> list[MadeImage]:
    """Return every base, environment and image of hubdock, the newest of each kind first."""
    entries = {entry["Id"]: entry for entry in [*docker.list_images("hubdock.kind"), *docker.list_images(reference="hubdock/base")]}
    made = [image for entry in entries.values() if (image := _describe(entry)) is not None]
    return sorted(made, key=lambda image: (_KINDS.get(image.kind, 9), -(image.created or 0.0), image.key))


def _describe(entry: dict[str, Any]) -> MadeImage | None:
    labels, tags = entry.get("Labels") or {}, tuple(tag for tag in entry.get("RepoTags") or () if tag != "<none>:<none>")
    kind = labels.get("hubdock.kind", "base")
    key = labels.get(f"hubdock.{kind}") if kind != "base" else next((tag.rpartition(":")[2] for tag in tags if tag.startswith("hubdock/base:")), "")
    found = docker.inspect_image(entry["Id"])
    if found is None or not key:
        return None
    return MadeImage(kind, key, entry["Id"], tags, int(entry["Size"]), _find_created(found))


def _find_created(inspection: dict[str, Any]) -> float | None:
    """Return when an image got its name here: the time in it is 1970, so that equal content makes an equal image."""
    stamp = str((inspection.get("Metadata") or {}).get("LastTagTime") or "")
    try:
        made = datetime.fromisoformat(stamp).timestamp()
    except ValueError:
        return None
    return made if made > 0 else None
