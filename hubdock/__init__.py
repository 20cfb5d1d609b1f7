"""hubdock: from a repository and a branch to JupyterLab."""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"


def configure(c: Any, **kwargs: Any) -> Any:
    """Wire hubdock into a hub's configuration: see `hubdock.wiring.configure`, which this calls."""
    from hubdock.wiring import configure as wire

    return wire(c, **kwargs)


def join(c: Any, **kwargs: Any) -> None:
    """Wire a service that runs by itself into a hub's configuration: see `hubdock.wiring.join`, which this calls."""
    from hubdock.wiring import join as wire

    wire(c, **kwargs)
