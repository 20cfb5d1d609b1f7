"""Which images hubdock made, by the back-end's own word."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from hubdock.engine.backend import Backend

_KINDS = {"image": 0, "environment": 1, "data": 2, "base": 3}


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


def list_made_images(backend: Backend) -> list[MadeImage]:
    """Return every base, environment, image, and data that is one, of hubdock, the newest of each kind first."""
    made = [image for entry in backend.list_images() if (image := _describe(entry, backend)) is not None]
    return sorted(made, key=lambda image: (_KINDS.get(image.kind, 9), -(image.created or 0.0), image.key))


def _describe(entry: dict[str, Any], backend: Backend) -> MadeImage | None:
    labels, tags = entry.get("Labels") or {}, tuple(tag for tag in entry.get("RepoTags") or () if tag != "<none>:<none>")
    kind = labels.get("hubdock.kind", "base")
    key = labels.get(f"hubdock.{kind}") if kind != "base" else next((tag.rpartition(":")[2] for tag in tags if tag.startswith("hubdock/base:")), "")
    if backend.inspect_image(entry["Id"]) is None or not key:
        return None
    return MadeImage(kind, key, entry["Id"], tags, int(entry["Size"]), backend.find_named(entry["Id"]))
