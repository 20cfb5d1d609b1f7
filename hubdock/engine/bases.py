"""Asking the registries again what the tags of base images stand for (HubDock.base_refresh): beside the starts, never within one.

A start uses the base as it is known, whatever a registry says or does not say; what is pulled here, later starts find.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time

from hubdock.core.contract import BaseImage
from hubdock.core.errors import HubDockError
from hubdock.engine.assembly import make_base_spec
from hubdock.engine.backend import open_backend
from hubdock.engine.config import HubDock
from hubdock.engine.database import Database
from hubdock.engine.planner import make_base_key
from hubdock.engine.tasks import Result, TaskStore, reap

log = logging.getLogger("hubdock")
LONGEST_PAUSE = 3600.0


class BaseRefresher:
    """Keeps the bases of the settings up to date that were used before."""

    def __init__(self, settings: HubDock, database: Database, tasks: TaskStore) -> None:
        self.settings, self.database, self.tasks = settings, database, tasks
        self.backend = open_backend(settings.backend_values)

    async def run(self) -> None:
        """Refresh what is due, until this is cancelled. A registry that does not answer is asked again within an hour."""
        interval = self.settings.base_refresh
        while interval:
            for reference in sorted({self.settings.base_image, self.settings.gpu_base_image, *self.settings.base_images.values()} - {""}):
                try:
                    await self.refresh(reference)
                except HubDockError as error:
                    log.warning("the base image %s is used as it is known: %s %s", reference, error, error.detail)
                except Exception:
                    log.exception("the base image %s is used as it is known", reference)
            await asyncio.sleep(min(max(interval / 10, 1.0), LONGEST_PAUSE))

    async def refresh(self, reference: str) -> bool:
        """Ask for one base, if that is due, and pull and prepare what its tag stands for by now; return whether that is another image.

        Raises RegistryUnavailable, and what preparing it raises: in either case the base goes on as it is known.
        """
        digest = await asyncio.to_thread(self._find_newer, reference)
        if not digest:
            return False
        log.info("the base image %s stands for %s by now, which is pulled and prepared", reference, digest)
        key, spec = make_base_key(self.settings, reference), make_base_spec(self.settings, reference, digest)
        attempt = await asyncio.to_thread(self.tasks.start, "base", key, spec)
        hold = attempt.hold()
        try:
            while (result := attempt.result()) is None:  # noqa: ASYNC110 (another process writes it)
                await asyncio.sleep(0.5)
        finally:
            hold.close()
            reap()
        await asyncio.to_thread(self._record, reference, key, result)
        return True

    def _find_newer(self, reference: str) -> str:
        """Return the digest of another image that a tag stands for by now, else the empty string. Only an image from a registry is asked for."""
        row = self.database.read_base(reference)
        if row is None or time.time() - row.checked < self.settings.base_refresh or "@" in reference:
            return ""
        digest = self.backend.find_newer(reference, BaseImage(**json.loads(row.text)).image_id)
        if not digest:
            if digest is not None:
                self.database.confirm_base(reference)
            return ""
        latest = self.tasks.latest("base", make_base_key(self.settings, reference))
        return "" if latest is not None and latest.running() else digest  # a start prepares the known one: its turn comes next

    def _record(self, reference: str, key: str, result: Result) -> None:
        if result.error is not None:
            self.database.confirm_base(reference)  # a bad image stays bad: the registry is asked again after the interval
            raise result.error
        self.database.write_base(reference, key, result.data["prepared"], json.dumps(result.data["base"]))
