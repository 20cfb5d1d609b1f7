"""What takes space on the Docker Engine, and how it is given back: images, volumes, and BuildKit's cache. Nothing here is ever forced: the engine
refuses what a container uses, and that is an answer."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

from docker.errors import APIError, NotFound

from hubdock.drivers.docker import client, translated
from hubdock.drivers.stock import CacheRecord, Container

_ID = re.compile(r"[a-z0-9]{10,64}")
_BATCH = 50


def list_containers() -> list[Container]:
    """Return every container, of hubdock or not: any may use an image."""
    with translated():
        found: list[dict[str, Any]] = client().containers(all=True)
    return [
        Container(
            (entry.get("Names") or ["/?"])[0].lstrip("/"), str(entry.get("State", "")), str(entry["ImageID"]), dict(entry.get("Labels") or {}),
            tuple(mount["Name"] for mount in entry.get("Mounts") or () if mount.get("Type") == "volume" and mount.get("Name")),
        )
        for entry in found
    ]  # fmt: skip


def remove_image(reference: str) -> bool:
    """Remove a name, or an image by its id; return whether it is gone. What a container uses stays."""
    return _remove(lambda: client().remove_image(reference, noprune=False))


def list_volumes(prefix: str) -> dict[str, float]:
    """Return the volumes whose names start like this, with when each was made (0: not known)."""
    with translated():
        found = client().volumes(filters={"name": prefix}).get("Volumes") or []
    return {entry["Name"]: parse_time(entry.get("CreatedAt")) or 0.0 for entry in found if entry["Name"].startswith(prefix)}


def remove_volume(name: str) -> bool:
    """Remove a volume; return whether it is gone. What a container mounts stays."""
    return _remove(lambda: client().remove_volume(name))


def _remove(work: Callable[[], object]) -> bool:
    """Return whether what is to be removed is gone afterwards: the engine refuses what is in use."""
    with translated():
        try:
            work()
        except NotFound:
            return True
        except APIError as error:
            if error.status_code == 409:
                return False
            raise
    return True


def measure_volumes() -> dict[str, int]:
    """Return the bytes in each volume of the engine. It walks through all of them: seconds, or minutes where much is stored."""
    return {entry["Name"]: int(entry["UsageData"]["Size"]) for entry in _measure("volume", "Volumes") if (entry.get("UsageData") or {}).get("Size", -1) >= 0}


def list_cache() -> list[CacheRecord]:
    """Return BuildKit's records."""
    return [
        CacheRecord(
            entry["ID"], str(entry.get("Description", "")), int(entry.get("Size") or 0), parse_time(entry.get("LastUsedAt") or entry.get("CreatedAt")) or 0.0,
            bool(entry.get("InUse")), bool(entry.get("Shared")), _find_parents(entry),
        )
        for entry in _measure("build-cache", "BuildCache")
    ]  # fmt: skip


def _find_parents(entry: dict[str, Any]) -> tuple[str, ...]:
    """Return a record's parents: engines up to 26 write the field's name with a space before it."""
    given = entry.get("Parents") or entry.get(" Parents") or entry.get("Parent") or ()
    return (given,) if isinstance(given, str) else tuple(given)


def _measure(kind: str, field: str) -> list[dict[str, Any]]:
    # docker-py's df() asks for everything, which takes as long as the slowest (https://docs.docker.com/reference/api/engine/version/v1.45/#tag/System).
    connection = client()
    with translated():
        answer = connection._result(connection.get(connection._url("/system/df"), params={"type": kind}, timeout=600), True)
    found: list[dict[str, Any]] = answer.get(field) or []
    return found


def prune_cache(identities: Iterable[str]) -> int:
    """Remove records of BuildKit's cache and return the bytes. It keeps what a build uses, and what another record stands on."""
    wanted, freed = [identity for identity in identities if _ID.fullmatch(identity)], 0
    for start in range(0, len(wanted), _BATCH):
        pattern = f'"^({"|".join(wanted[start : start + _BATCH])})$"'  # the engine passes it on as id~=…
        with translated():
            freed += int(client().prune_builds(filters={"id": [pattern]}, all=True).get("SpaceReclaimed") or 0)
    return freed


def parse_time(text: object) -> float | None:
    """Return seconds since the epoch of the engine's time stamps, None where it gives none (its zero is the year 1)."""
    try:
        moment = datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", str(text))).timestamp()
    except (ValueError, OverflowError):
        return None
    return moment if moment > 0 else None
