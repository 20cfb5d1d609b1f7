"""What the service holds while it runs."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

from hubdock.engine.engine import Engine
from hubdock.engine.feed import Feeds
from hubdock.engine.telling import Tellers
from hubdock.service.arrivals import Arrivals
from hubdock.service.boards import Boards
from hubdock.service.collecting import Collecting
from hubdock.service.hub import HubAPI
from hubdock.service.metrics import Metrics
from hubdock.service.offers import Offers
from hubdock.service.servers import Servers
from hubdock.service.starts import Starts


@dataclass
class State:
    """One service. ``api_token`` is its own, ``prefix`` where it is served, ``hub_prefix`` where the hub is, ``base_url`` the whole."""

    engine: Engine
    hub: HubAPI
    metrics: Metrics
    starts: Starts
    api_token: str
    prefix: str
    hub_prefix: str
    base_url: str
    collecting: Collecting
    servers: Servers
    boards: Boards
    offers: Offers
    tellers: Tellers
    feeds: Feeds
    arrivals: Arrivals = field(default_factory=Arrivals)
    comparing: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(2))  # notebooks at a time: each takes a core
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def in_background(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something that nobody waits for, held until it ends."""
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
