"""Collection by the service: by the clock, and when an administrator asks. It runs beside the event loop."""

from __future__ import annotations

import asyncio
import logging
import time
from functools import partial

from hubdock.core.asker import LOCAL
from hubdock.core.collection import sum_sizes
from hubdock.core.errors import CapacityError, HubDockError
from hubdock.engine.collect import Report
from hubdock.engine.engine import Engine
from hubdock.service.metrics import Metrics

log = logging.getLogger("hubdock")
FIRST = 60.0
MEASURE_EVERY, PATIENCE = 60.0, 2.0


class Collecting:
    """The collections of one service, and the sizes of workspaces that they measure."""

    def __init__(self, engine: Engine, metrics: Metrics) -> None:
        self.engine, self.metrics = engine, metrics
        self._measured = 0.0
        self._measuring: asyncio.Task[None] | None = None
        self._looking: asyncio.Task[Report] | None = None
        self._looked: tuple[float, Report] | None = None
        self._collecting: asyncio.Task[Report] | None = None

    async def run(self) -> None:
        """Collect every ``collect_interval`` seconds until cancelled. A failure is told in the log, and tried again at the next time."""
        interval = self.engine.settings.collect_interval
        if not interval:
            return
        await asyncio.sleep(min(interval, FIRST))
        while True:
            try:
                await self.collect()
                await self.measure()
                await self.engine.builds.in_thread(self.engine.collector.workspaces.look_for_branches, partial(self.engine.planner.reader.make_remote, asker=LOCAL))
            except CapacityError:
                log.info("a collection runs already, in another process")
            except HubDockError as error:
                log.warning("collection: %s %s", error, error.detail)
            except Exception:
                log.exception("collection")
            await asyncio.sleep(interval)

    async def look(self, budget: str | None = None) -> Report:
        """Return what a collection would do (`Collector.look`)."""
        return await self.engine.builds.in_thread(self.engine.collector.look, budget)

    async def collect(self, budget: str | None = None) -> Report:
        """Collect (`Collector.collect`), and count it."""
        report = await self.engine.builds.in_thread(self.engine.collector.collect, budget)
        self.metrics.observe_collection(sum_sizes(report.kept), report.freed, report.finished)
        return report

    async def look_soon(self) -> Report | None:
        """Return what takes space, as it was a minute ago at most if that is told at once; otherwise as it was told before, None at first.

        Raises HubDockError.
        """
        if self._looked is None or time.monotonic() - self._looked[0] > MEASURE_EVERY:
            if self._looking is None or self._looking.done():
                self._looking = asyncio.create_task(self.look())
                self._looking.add_done_callback(tell_failure)
            await asyncio.wait([self._looking], timeout=PATIENCE)
            if self._looking.done():
                self._looked = (time.monotonic(), self._looking.result())
        return self._looked[1] if self._looked else None

    async def collect_soon(self) -> Report | None:
        """Collect, and return what was done; None if it goes on for longer than somebody waits. Raises HubDockError."""
        if self._collecting is None or self._collecting.done():
            self._collecting = asyncio.create_task(self.collect())
            self._collecting.add_done_callback(tell_failure)
        await asyncio.wait([self._collecting], timeout=PATIENCE)
        self._looked = None
        return self._collecting.result() if self._collecting.done() else None

    @property
    def collects(self) -> bool:
        """True while a collection runs that somebody asked for here."""
        return self._collecting is not None and not self._collecting.done()

    async def measure(self) -> None:
        """Measure the workspaces now."""
        await self.engine.builds.in_thread(self.engine.collector.workspaces.measure)
        self._measured = time.monotonic()

    async def measure_soon(self) -> None:
        """Have sizes that are a minute old at most, if the engine tells them at once; otherwise what was measured before stands until it does."""
        if self._measured and time.monotonic() - self._measured < MEASURE_EVERY:
            return
        if self._measuring is None or self._measuring.done():
            self._measuring = asyncio.create_task(self._measure_quietly())
        await asyncio.wait([self._measuring], timeout=PATIENCE)

    async def _measure_quietly(self) -> None:
        try:
            await self.measure()
        except HubDockError as error:
            log.info("workspaces were not measured: %s %s", error, error.detail)


def tell_failure(task: asyncio.Task[Report]) -> None:
    """Write into the log why something failed: whoever asked for it may have left."""
    error = None if task.cancelled() else task.exception()
    if error is not None:
        log.warning("disk: %s %s", error, getattr(error, "detail", ""))
