"""Who this hubdock is among several that share a database, a registry or a namespace."""

from __future__ import annotations

import contextlib
import secrets
from pathlib import Path


def find_identity(state: Path) -> str:
    """Return the random name of a state directory, in hexadecimal: made once. Processes that ask for the first time at once get the same."""
    path = state / "identity"
    if not path.exists():
        work = path.with_name(f".identity.{secrets.token_hex(8)}")
        work.write_text(secrets.token_hex(8), encoding="ascii")
        with contextlib.suppress(FileExistsError):
            path.hardlink_to(work)
        work.unlink()
    return path.read_text(encoding="ascii")
