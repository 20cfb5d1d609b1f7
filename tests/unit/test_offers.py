"""Which repositories of the catalogue a person is offered."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import Any

import pytest

from hubdock.core.asker import Asker
from hubdock.core.errors import AccessDenied, RepoUnreachable
from hubdock.core.repo import RepoURL
from hubdock.engine.config import HubDock
from hubdock.service import offers as module
from hubdock.service.offers import Offers

ANN, BOB = Asker("ann"), Asker("bob", frozenset({"vision"}))
LISTED = [{"url": "https://github.com/team/open", "title": "Open"}, "https://github.com/team/vision", "https://github.com/team/hangs"]


class Engine:
    """An engine whose remotes are: one for all, one for a group, and one that never answers."""

    def __init__(self, free: bool = True) -> None:
        self.settings = HubDock(state_dir="/tmp/never-made", catalogue=LISTED, free_choice=free)
        self.asked: list[tuple[str, str]] = []
        self.rows: list[Any] = []
        self.database = SimpleNamespace(list_builds=lambda count: self.rows)
        self.builds = SimpleNamespace(in_thread=self._call)

    async def _call(self, function: Any, *args: Any) -> Any:
        return function(*args)

    async def list_branches(self, repo: RepoURL, asker: Asker) -> object:
        self.asked.append((asker.name, repo.name))
        if repo.name == "hangs":
            await asyncio.sleep(60)
            raise RepoUnreachable("It hangs.")
        if repo.name == "vision" and "vision" not in asker.groups:
            raise AccessDenied("There is none.")
        return object()


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    monkeypatch.setattr(module, "PATIENCE", 0.05)
    return Engine()


def started(user: str, url: str) -> SimpleNamespace:
    return SimpleNamespace(users=f'[["{user}", "s"]]', options=f'{{"repo": "{url}", "ref": "main"}}')


async def names(offers: Offers, asker: Asker) -> list[str]:
    return [offer.url.rpartition("/")[2] for offer in await offers.find(asker)]


async def test_people_see_what_they_can_read_and_nobody_waits(engine: Engine) -> None:
    offers = Offers(engine)  # type: ignore[arg-type]
    began = time.monotonic()
    assert await names(offers, ANN) == ["open"]
    assert await names(offers, BOB) == ["open", "vision"]
    assert time.monotonic() - began < 1


async def test_an_answer_holds_for_a_minute_and_for_one_person(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    offers = Offers(engine)  # type: ignore[arg-type]
    for _ in range(3):
        await names(offers, ANN)
    assert engine.asked == [("ann", "open"), ("ann", "vision"), ("ann", "hangs")]
    later = time.monotonic() + 61
    monkeypatch.setattr(module.time, "monotonic", lambda: later)
    await names(offers, ANN)
    assert engine.asked.count(("ann", "open")) == 2


async def test_what_one_started_lately_comes_first(engine: Engine) -> None:
    engine.rows = [started("ann", "https://github.com/ann/own"), started("bob", "https://github.com/bob/his"), started("ann", "https://github.com/team/open"), started("ann", "https://github.com/ann/own")]
    found = await Offers(engine).find(ANN)  # type: ignore[arg-type]
    assert [(offer.url, offer.title, offer.recent) for offer in found] == [("https://github.com/ann/own", "", True), ("https://github.com/team/open", "Open", True)]


async def test_only_the_list_where_only_that_may_be_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.05)
    engine = Engine(free=False)
    engine.rows = [started("ann", "https://github.com/ann/own"), started("ann", "https://github.com/team/vision")]
    assert await names(Offers(engine), ANN) == ["open"]  # type: ignore[arg-type]
