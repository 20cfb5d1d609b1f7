"""What a full disk looks like from here."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager

from hubdock.core.errors import HubDockError, LaunchError, OutOfSpace
from hubdock.core.lost import find_data_gone

_FULL = {errno.ENOSPC, errno.EDQUOT}
_WORDS = re.compile(r"No space left on device|Disk quota exceeded|disk is full", re.I)


@contextmanager
def noticed(place: str = "the hub") -> Iterator[None]:
    """Turn an OSError that a full disk caused into OutOfSpace. Any other passes."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise OutOfSpace.on(place, str(error)) from error


def name_end(text: str, words: str, place: str = "the Docker host") -> HubDockError:
    """Return the error for a server that ended, given its last words: a full disk (of ``place``) and missing data are told from everything else."""
    if _WORDS.search(words):
        return OutOfSpace.on(place, f"{text} {words}")
    return find_data_gone(words) or LaunchError(f"{text} {words}".strip())
