"""Ctrl-C and SIGTERM as one order to stop, for the command line.

Between two waits nobody listens, and the order is the exception `Interrupted`; whoever waits for something that must be ended in order listens
meanwhile. Only a third order, from somebody who can't wait for that, ends the process at once.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

CODE = 130


class Interrupted(BaseException):
    """The user asked to stop, and what was under way has been ended."""


_listeners: list[Callable[[], None]] = []
_asked: list[int] = []


def install() -> None:
    """Take both signals, even where a shell script started us with Ctrl-C ignored."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _handle)


def _handle(number: int, frame: FrameType | None) -> None:
    if not _listeners:
        raise Interrupted
    _asked.append(number)
    if len(_asked) > 2:
        os._exit(CODE)
    _listeners[-1]()


@contextmanager
def listening(listener: Callable[[], None]) -> Iterator[None]:
    """Have a listener called instead of an exception raised. It runs between two instructions of the main thread: it must not wait."""
    _asked.clear()
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.pop()
