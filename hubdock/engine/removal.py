"""Removing what was chosen, one thing after the other, so that a start that comes in between finds it whole or not at all.

A start records that it uses a key, and then looks for it. So each thing is first taken out of sight (a name, a proof, a directory's name), then its
use is looked up once more, and then it is removed or put back: whoever found it had recorded that before. Killed in between, the next collection
goes on where this one was.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from hubdock.core.collection import Identity, Item
from hubdock.core.errors import BackendError, HubDockError, OutOfSpace
from hubdock.core.naming import make_data_volume, make_tag
from hubdock.drivers.mirror import locked
from hubdock.engine import store
from hubdock.engine.backend import Backend, open_backend
from hubdock.engine.config import HubDock
from hubdock.engine.holds import Keeper
from hubdock.engine.inventory import LEFT
from hubdock.engine.tasks import TaskStore
from hubdock.engine.usage import GRACE, Usage
from hubdock.engine.workspaces import Workspaces

log = logging.getLogger("hubdock")
ASIDE = "hubdock/removed"


class Remover:
    """Removes items of one state directory. Each method returns the bytes that it freed, None if the item had to stay after all."""

    def __init__(self, settings: HubDock, tasks: TaskStore, usage: Usage, keeper: Keeper, workspaces: Workspaces) -> None:
        self.settings, self.tasks, self.usage, self.keeper, self.workspaces = settings, tasks, usage, keeper, workspaces
        self.backend = open_backend(settings.backend_values)

    def remove(self, item: Item, images: dict[Identity, str]) -> int | None:
        """Remove one item that is neither in the data store nor cache. Raises BackendError."""
        if item.identity in images:
            freed = self._remove_image(item, images[item.identity])
        elif item.kind == "workspace":
            freed = item.size if self.workspaces.destroy(item.key) else None
        elif item.kind == "log":
            freed = self._remove_log(item)
        else:
            freed = self._remove_files(item)
        if freed is not None:
            self._forget(item.identity)
        return freed

    def _forget(self, identity: Identity) -> None:
        """Forget a key that is gone. Where the database can't be written, its disk is full: the space counts more, and the row is harmless."""
        with suppress(BackendError):
            self.usage.forget(identity)

    def _may_go(self, identity: Identity) -> bool:
        """True if nothing has begun to use it since it was chosen."""
        return not self.usage.is_recent(identity, GRACE) and identity not in self.keeper.find_busy().items

    def _remove_image(self, item: Item, image_id: str) -> int | None:
        if item.key.startswith(LEFT):
            return item.size if self.backend.remove_image(image_id) else None
        tag, aside = make_tag(item.kind, item.key), f"{ASIDE}:{item.kind}-{item.key}"
        if not self._may_go(item.identity):
            return None
        try:
            self.backend.tag_image(image_id, aside)
        except OutOfSpace:  # not even a name fits: whoever starts it in this moment finds that it is gone, and makes it anew
            return item.size if remove_without_space(self.backend, image_id, (aside, tag)) else None
        self.backend.remove_image(tag)
        if self._may_go(item.identity) and self.backend.remove_image(aside):
            return item.size
        self.backend.tag_image(aside, tag)
        self.backend.remove_image(aside)
        return None

    def finish_images(self) -> int:
        """Remove what an earlier collection had taken out of sight when it was ended; return how many images those were."""
        count = 0
        known = {f"{kind}-{key}" for kind, key in self.usage.read_all()} | {f"{path.parent.name}-{path.name}" for path in self.tasks.root.glob("*/*")}
        for entry in self.backend.list_images(ASIDE.partition("/")[2]):
            for tag in entry.get("RepoTags") or ():
                kind, _, key = tag.removeprefix(f"{ASIDE}:").partition("-")
                if tag.startswith(f"{ASIDE}:") and f"{kind}-{key}" in known and not self.backend.remove_image(tag):
                    self.backend.tag_image(tag, make_tag(kind, key))  # a container has come to use it
                    self.backend.remove_image(tag)
                count += 1
        return count

    def remove_data(self, items: list[Item], python: str) -> tuple[list[Item], int]:
        """Remove data from the store; return what went, and the bytes. Nothing goes while something is being fetched."""
        with store.removing(self.settings.state) as held:
            if not held:
                return [], 0
            gone = [item for item in items if item.key == LEFT or self._hide_data(item)]
            if not gone:
                return [], 0
            keys = [item.key for item in gone if item.key != LEFT]
            freed = store.remove_views(self.backend, python, make_data_volume(self.settings.volume_prefix), keys)
        for item in gone:
            self._forget(item.identity)
        return gone, freed

    def _hide_data(self, item: Item) -> bool:
        """Take away the proof that data is here: from now on a plan says that it is to be fetched. Puts it back if a start saw it before."""
        latest = self.tasks.latest("data", item.key)
        proof = latest.path / "result.json" if latest is not None else Path()
        aside = proof.with_name("result.removed")
        hidden = latest is not None and proof.exists()
        if hidden:
            proof.rename(aside)
        if self._may_go(item.identity):
            return True
        if hidden:
            aside.rename(proof)
        return False

    def _remove_files(self, item: Item) -> int | None:
        """Remove copies of a repository, or the history of one commit."""
        root = self.settings.state / "git"
        if item.key.startswith("."):
            shutil.rmtree(root / item.key, ignore_errors=True)
            return item.size
        if item.kind == "history":
            directory, _, name = item.key.partition("/")
            return self._remove_tree(item, root / directory / "packs" / name, root / directory / "history.lock")
        freed = [self._remove_tree(item, root / item.key / f"{name}.git", root / item.key / f"{name}.lock") for name in ("plan", "history", "heads")]
        if None in freed:
            return None
        shutil.rmtree(root / item.key / "empty.git", ignore_errors=True)  # the copies that stayed would need it
        return item.size

    def _remove_tree(self, item: Item, path: Path, lock: Path) -> int | None:
        with locked(lock):
            gone = self.settings.state / "git" / f".gone-{path.parent.name}-{path.name}"
            shutil.rmtree(gone, ignore_errors=True)
            if not path.exists():
                return item.size
            path.rename(gone)
            if not self._may_go(item.identity):
                gone.rename(path)
                return None
        shutil.rmtree(gone, ignore_errors=True)
        return item.size

    def _remove_log(self, item: Item) -> int | None:
        """Remove the directory of an attempt, and its key's if that was the last. The key's own lock keeps a new attempt from starting meanwhile."""
        kind, key, number = item.key.split("/")
        directory = self.tasks.root / kind / key
        with locked(directory / "starting"):
            attempt = self.tasks.find(kind, key, number)
            if attempt is None or attempt.running():
                return None
            shutil.rmtree(attempt.path, ignore_errors=True)
            if not any(path.name.isdigit() for path in directory.iterdir()):
                shutil.rmtree(directory, ignore_errors=True)
        return item.size


def remove_without_space(backend: Backend, image_id: str, names: Iterable[str]) -> bool:
    """Remove an image on a full disk; return whether it is gone.

    The engine gives and forgets names, fails to write that down, and says so before it goes on: what has no name left is removed by its id.
    """
    for name in names:
        with suppress(OutOfSpace):
            backend.remove_image(name)
    return backend.remove_image(image_id)


def attempt_removal(work: Callable[[], int | None], what: str) -> int | None:
    """Return what a removal returns; one that fails is told in the log, and the others go on."""
    try:
        return work()
    except (HubDockError, OSError) as error:
        log.warning("%s could not be removed: %s %s", what, error, getattr(error, "detail", ""))
        return None
