"""What a full disk looks like from here."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from hubdock.core.errors import OutOfSpace

_FULL = {errno.ENOSPC, errno.EDQUOT}


@contextmanager
def noticed(place: str = "the hub") -> Iterator[None]:
    """Turn an OSError that a full disk caused into OutOfSpace. Any other passes."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise OutOfSpace.on(place, str(error)) from error
