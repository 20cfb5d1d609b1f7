"""What `make test` and `.ci/run` make beside the first tests, for the others to wait for."""

from __future__ import annotations

import os
import time
from pathlib import Path

from hubdock.core.text import make_tail

LONGEST = 1200  # seconds that it may take


def wait_for(name: str) -> str:
    """Wait for what is being made (``HUBDOCK_TEST_{name}_PID``), and return what its making said last (``…_LOG``); empty where nothing is."""
    maker = os.environ.get(f"HUBDOCK_TEST_{name}_PID")
    until = time.monotonic() + LONGEST
    while maker and Path(f"/proc/{maker}").exists() and time.monotonic() < until:
        time.sleep(1)
    return make_tail(Path(os.environ[f"HUBDOCK_TEST_{name}_LOG"]).read_text(errors="replace"), 5) if maker else ""
