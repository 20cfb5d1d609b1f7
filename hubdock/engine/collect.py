"""Collection: takes stock, chooses (`hubdock.core.collection`), and removes. One at a time for each state directory, in whatever process.

What is chosen first are images, data and files; BuildKit's cache is chosen when those are gone, for then it alone holds the layers of their images.
"""

from __future__ import annotations

import fcntl
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from hubdock.core.collection import Identity, Item, Removal, Selection, select, sum_sizes
from hubdock.core.errors import CapacityError
from hubdock.core.resources import parse_bytes
from hubdock.engine.config import HubDock
from hubdock.engine.database import Database
from hubdock.engine.inventory import IMAGES, LEFT, Inventory, Stocktaker, list_cache_items
from hubdock.engine.records import Records
from hubdock.engine.removal import Remover, attempt_removal
from hubdock.engine.tasks import TaskStore
from hubdock.engine.usage import GRACE, Usage
from hubdock.engine.workspaces import Workspaces

log = logging.getLogger("hubdock")


@dataclass(frozen=True)
class Report:
    """What a collection did, or would do (``dry``). ``removals`` are those that were carried out; ``stayed`` were chosen but came into use.

    ``freed`` is bytes by kind, ``sizes`` what is left by kind, ``total`` what was there before; ``rows`` counts the database's. ``missing`` says what could
    not be looked at.
    """

    dry: bool
    budget: int | None
    total: int
    left: int
    removals: tuple[Removal, ...]
    stayed: tuple[Removal, ...] = ()
    kept: tuple[Item, ...] = ()
    freed: dict[str, int] = field(default_factory=dict)
    rows: int = 0
    missing: tuple[str, ...] = ()
    finished: float = 0.0

    @property
    def over(self) -> int:
        """By how many bytes the budget is missed: the rest is in use, pinned, or was used a moment ago."""
        return max(0, self.left - self.budget) if self.budget is not None else 0

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        held = [item for item in self.kept if item.held]
        return {
            "dry_run": self.dry, "budget": self.budget, "total": self.total, "left": self.left, "over": self.over, "freed": self.freed, "rows": self.rows,
            "sizes": sum_sizes(self.kept), "held": sum_sizes(held), "removed": [removal.as_dict() for removal in self.removals],
            "stayed": [removal.as_dict() for removal in self.stayed], "missing": list(self.missing), "finished": self.finished,
        }  # fmt: skip


class Collector:
    """Collects for one state directory. Its methods block for seconds, and may be called from any thread."""

    def __init__(self, settings: HubDock, database: Database, tasks: TaskStore) -> None:
        self.settings = settings
        self.usage = Usage(database)
        self.workspaces = Workspaces(settings, database, self.usage)
        self.stock = Stocktaker(settings, database, tasks, self.usage)
        self.remover = Remover(settings, tasks, self.usage, self.stock.keeper, self.workspaces)
        self.records = Records(database)

    def look(self, budget: str | None = None) -> Report:
        """Return what a collection would do now. Raises InvalidOption for a budget that is no size, and BackendError."""
        limit = self._find_budget(budget)
        inventory = self.stock.take()
        selection = self._select(inventory.items, limit)
        return self._report(inventory, selection, [(removal, removal.item.size) for removal in selection.removals], dry=True)

    def collect(self, budget: str | None = None) -> Report:
        """Remove what is to be removed, and return what went. ``budget`` overrides the settings' (``50G``).

        Raises CapacityError while another collection runs, InvalidOption and BackendError. Killed at any moment, it leaves nothing half-removed in use.
        """
        limit = self._find_budget(budget)
        with self._alone():
            attempt_removal(self.remover.finish_images, "what an earlier collection left")
            inventory = self.stock.take()
            selection = self._select(inventory.items, limit)
            gone = self._remove_items(inventory, selection)
            gone += self._remove_cache(inventory, selection, gone)
            gone = self._try_again(inventory, selection, gone)
            rows = attempt_removal(lambda: self.records.prune(self.settings.log_max_age, {item.identity for item in selection.kept}), "old records") or 0
            report = self._report(inventory, selection, gone, dry=False, rows=rows)
        log.info("collection: %d removed, %d bytes freed, %d left", len(report.removals), sum(report.freed.values()), report.left)
        return report

    def _find_budget(self, given: str | None) -> int | None:
        return parse_bytes(self.settings.disk_budget if given is None else given, "budget")

    def _select(self, items: list[Item], budget: int | None) -> Selection:
        return select(items, now=time.time(), budget=budget, max_age=self.settings.unused_max_age, grace=GRACE)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with (self.settings.state / "collect.lock").open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise CapacityError("A collection runs already. Wait until it has ended.") from error
            try:
                yield
            finally:
                fcntl.flock(file, fcntl.LOCK_UN)  # closing it does not suffice while a process that is being started has it too

    def _remove_items(self, inventory: Inventory, selection: Selection) -> list[tuple[Removal, int | None]]:
        """Remove all but the cache; return each removal with the bytes it freed, None for what stayed."""
        gone: list[tuple[Removal, int | None]] = []
        stayed: set[Identity] = set()
        for removal in selection.removals:
            item = removal.item
            if item.kind == "cache" or inventory.is_stored(item):
                continue
            freed = None
            if item.identity not in stayed:
                freed = attempt_removal(lambda item=item: self.remover.remove(item, inventory.images), f"{item.kind} {item.key}")  # type: ignore[misc]
            if freed is None:
                stayed |= {item.identity, *item.needs}  # what it stands on stays with it
            gone.append((removal, freed))
        return gone + self._remove_data(inventory, selection)

    def _try_again(self, inventory: Inventory, selection: Selection, gone: list[tuple[Removal, int | None]]) -> list[tuple[Removal, int | None]]:
        """Return the removals after those that stayed were tried again, as long as that frees something: a full disk refuses the first, until others have gone."""
        went = [pair for pair in gone if pair[1] is not None]
        stayed = [removal for removal, freed in gone if freed is None and removal.item.kind != "cache"]
        more = bool(went)
        while stayed and more:
            again = self._remove_items(inventory, Selection(tuple(stayed), (), selection.total, selection.budget))
            went += [pair for pair in again if pair[1] is not None]
            more = any(freed is not None for _, freed in again)
            stayed = [removal for removal, freed in again if freed is None]
            went += self._remove_cache(inventory, selection, went) if more else []
        removed = {removal.item.identity for removal, _ in went}
        cache = [removal for removal, freed in gone if freed is None and removal.item.kind == "cache" and removal.item.identity not in removed]
        return went + [(removal, None) for removal in (*stayed, *cache)]

    def _remove_data(self, inventory: Inventory, selection: Selection) -> list[tuple[Removal, int | None]]:
        chosen = [removal for removal in selection.removals if inventory.is_stored(removal.item)]
        python = next((image for kind in reversed(IMAGES) for (known, _), image in inventory.images.items() if known == kind), "")
        if not chosen or not python:
            return []
        went: list[Item] = []

        def work() -> int:
            nonlocal went
            went, freed = self.remover.remove_data([removal.item for removal in chosen], python)
            return freed

        freed = attempt_removal(work, "data") or 0
        shares = {item.identity: item.size for item in went}
        correction = freed - sum(shares.values())  # the shares were an estimate: objects that kept views hold too stay
        log.debug("data: %d bytes freed, %d more than their shares", freed, correction)
        return [(removal, shares.get(removal.item.identity)) for removal in chosen]

    def _remove_cache(self, inventory: Inventory, selection: Selection, removed: list[tuple[Removal, int | None]]) -> list[tuple[Removal, int | None]]:
        """Choose from BuildKit's cache as it is now, after what was removed, and remove that. What BuildKit has kept stays."""
        if not self.settings.collect_build_cache:
            return []
        gone = {removal.item.identity for removal, freed in removed if freed is not None}
        rest = [item for item in inventory.items if item.kind != "cache" and item.identity not in gone]
        fixed = [Item(item.kind, item.key, item.size, item.used, held="stays", counts=item.counts) for item in rest]
        chosen: list[Removal] = []
        kept: set[str] = set()

        def work() -> int:
            again = self._select([*fixed, *list_cache_items(self.stock.backend.list_cache(), time.time())], selection.budget)
            chosen.extend(again.removals)
            freed = self.stock.backend.prune_cache(removal.item.key for removal in chosen)
            kept.update(record.identity for record in self.stock.backend.list_cache())
            return freed

        freed = attempt_removal(work, "BuildKit's cache")
        return [(removal, None if freed is None or removal.item.key in kept else removal.item.size) for removal in chosen]

    def _report(self, inventory: Inventory, selection: Selection, gone: list[tuple[Removal, int | None]], *, dry: bool, rows: int = 0) -> Report:
        removed = {removal.item.identity: freed for removal, freed in gone if freed is not None}
        freed: dict[str, int] = {}
        for (kind, _), size in removed.items():
            freed[kind] = freed.get(kind, 0) + size
        held = {item.identity: item for item in selection.kept}
        kept = tuple(held.get(item.identity, item) for item in inventory.items if item.identity not in removed)
        return Report(
            dry, selection.budget, selection.total, sum(item.size for item in kept if item.counts),
            tuple(removal for removal, size in gone if size is not None), tuple(removal for removal, size in gone if size is None), kept,
            freed, rows, tuple(inventory.missing), time.time(),
        )  # fmt: skip


def describe_key(item: Item) -> str:
    """Return an item's key as people read it."""
    return "left behind" if item.key.startswith(LEFT) else item.key[:12] if len(item.key) == 64 else item.key
