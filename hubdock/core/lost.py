"""Data that a server did not find in the store, although its fetch had ended well: an engine, or a person, removed it behind hubdock's back.

Who launches learns it from the engine, which refuses the mount, or from the guest's last words. The key in those tells the service what to fetch anew.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from hubdock.core.errors import DataGone

KEY = re.compile(r"[0-9a-f]{64}")
_VIEW = re.compile(rf"\bviews/({KEY.pattern})\b")
_MOUNT = re.compile(r"/hubdock/data/([0-9a-f]{8})\b")
_WORDS = re.compile(r"The data is not in the store", re.I)  # hubdock/guest/data.py


def make_data_gone(detail: str) -> DataGone:
    """Return the error for data that was there when its start was planned."""
    return DataGone("The data was removed from the store a moment ago. Start again: it is fetched anew.", detail)


def find_data_gone(words: str) -> DataGone | None:
    """Return the error for a server whose last words say that its data is missing, None if they say something else."""
    return make_data_gone(words) if _WORDS.search(words) else None


def find_lost_key(error: DataGone, launch: Mapping[str, Any]) -> str:
    """Return the key of the data that is missing: the one that is named, else that of the launch's own commit; empty if there is none."""
    subpaths = [str(mount.get("subpath") or "") for mount in launch.get("mounts") or ()]
    keys = [found[1] for found in map(_VIEW.search, subpaths) if found]
    named = _VIEW.search(error.detail)
    if named:
        return named[1]
    short = _MOUNT.search(error.detail)
    start = short[1] if short else ((launch.get("start") or {}).get("data") or {}).get("current") or "-"
    return next((key for key in keys if key.startswith(start)), "")
