"""Secrets are files that only hubdock's user can read; what travels between processes is their path."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from hubdock.core.errors import ConfigError


def read_secret(path: str) -> str:
    """Return the stripped text of a secret's file. Raises ConfigError if it is missing, empty, or open to others."""
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116
        text = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"The secret's file {path} can't be read: {error}.") from error
    if mode & (stat.S_IRWXO | stat.S_IWGRP):
        raise ConfigError(f"The secret's file {path} is open to others. Run `chmod 600 {path}`.")
    if not text:
        raise ConfigError(f"The secret's file {path} is empty.")
    return text
