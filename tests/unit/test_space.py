"""Full disks, as Python and servers tell of them."""

from __future__ import annotations

import errno

import pytest

from hubdock.core.errors import LaunchError, OutOfSpace
from hubdock.drivers.space import name_end, noticed


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_named(number: int) -> None:
    with pytest.raises(OutOfSpace, match=r"The disk of the hub is full\..*`hubdock gc`"), noticed():
        raise OSError(number, "write")


def test_anything_else_passes() -> None:
    with pytest.raises(PermissionError), noticed():
        raise PermissionError(errno.EACCES, "write")


def test_how_a_server_ended() -> None:
    ended = name_end("The server ended.", "Its last words: cp: [Errno 28] No space left on device")
    assert isinstance(ended, OutOfSpace) and "the Docker host" in ended.message and "Errno 28" in ended.detail
    other = name_end("The server ended.", "Its last words: boom")
    assert isinstance(other, LaunchError) and other.message == "The server ended. Its last words: boom"
    assert name_end("The server ended.", "").message == "The server ended."
