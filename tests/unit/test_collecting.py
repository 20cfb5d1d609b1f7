"""The service's clock for collections, and what the inventory makes of the engine's and the state directory's word."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from hubdock.core.collection import Item, Removal
from hubdock.core.errors import BackendError, CapacityError
from hubdock.drivers.disk import parse_time
from hubdock.drivers.stock import CacheRecord
from hubdock.engine.collect import Report
from hubdock.engine.inventory import list_cache_items
from hubdock.service.collecting import Collecting
from hubdock.service.metrics import Metrics

ITEM = Item("image", "a" * 64, 7, 0.0)


class Engine:
    """An engine whose collector answers what the test says."""

    def __init__(self, interval: float, *answers: Any) -> None:
        self.settings = SimpleNamespace(collect_interval=interval, backend="docker")
        self.answers, self.collected, self.measured = list(answers), 0, 0
        self.collector = SimpleNamespace(collect=self.collect, look=lambda budget: ("looked", budget), workspaces=SimpleNamespace(measure=self.measure, look_for_branches=lambda make: None))
        self.builds = SimpleNamespace(in_thread=self.in_thread, by_id={}, runner=SimpleNamespace(listeners=[]))
        self.planner = SimpleNamespace(reader=SimpleNamespace(make_remote=None))

    def collect(self, budget: str | None) -> Report:
        self.collected += 1
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, Exception):
            raise answer
        return Report(False, None, 10, 3, (Removal(ITEM, "old"),), kept=(Item("data", "k", 3, 0.0, held="x"),), freed={"image": 7}, finished=5.0)

    def measure(self) -> None:
        self.measured += 1

    async def in_thread(self, function: Any, *arguments: Any) -> Any:
        return function(*arguments)


def make(engine: Any) -> Collecting:
    metrics = Metrics.__new__(Metrics)
    metrics.registry = CollectorRegistry()
    Metrics.__init__(metrics, engine)
    return Collecting(engine, metrics)


async def test_the_clock_goes_on_whatever_happens() -> None:
    engine = Engine(0.01, BackendError("away"), CapacityError("busy"), RuntimeError("a fault"), None)
    collecting = make(engine)
    running = asyncio.create_task(collecting.run())
    async with asyncio.timeout(20):
        while engine.collected < 5 or engine.measured < 2:
            await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.wait([running])
    text = collecting.metrics.render().decode()
    assert 'hubdock_disk_bytes{kind="data"} 3.0' in text and f'hubdock_collected_bytes_total{{kind="image"}} {7.0 * (engine.collected - 3)}' in text
    assert "hubdock_last_collection_timestamp_seconds 5.0" in text


async def test_zero_switches_the_clock_off() -> None:
    engine = Engine(0.0)
    await asyncio.wait_for(make(engine).run(), 1)
    assert engine.collected == 0
    assert await make(engine).look("5G") == ("looked", "5G")  # type: ignore[comparison-overlap]


async def test_sizes_are_measured_at_most_once_a_minute() -> None:
    engine = Engine(0.0)
    collecting = make(engine)
    for _ in range(3):
        await collecting.measure_soon()
    assert engine.measured == 1


def test_a_report_says_what_is_held() -> None:
    described = Engine(0.0).collect(None).as_dict()
    assert (described["held"], described["sizes"], described["freed"], described["over"]) == ({"data": 3}, {"data": 3}, {"image": 7}, 0)
    assert described["removed"] == [{"kind": "image", "key": "a" * 64, "name": "", "size": 7, "used": 0.0, "reason": "old"}]
    assert Report(True, 1, 10, 3, ()).over == 2


def record(identity: str, description: str = "", parents: tuple[str, ...] = (), **more: Any) -> CacheRecord:
    values = {"size": 10, "used": 50.0, "in_use": False, "shared": False, **more}
    return CacheRecord(identity, description, parents=parents, **values)


def test_the_cache_is_ours_where_hubdock_s_steps_are() -> None:
    step = "mount / from exec /bin/sh -c /opt/conda/bin/python -I /tmp/hubdock/tools/install.py wheels"
    found = list_cache_items(
        [
            record("pulled", "pulled from docker.io/library/debian"), record("theirs", "mount / from exec /bin/sh -c make", ("pulled",)),
            record("packages", step, ("pulled",)), record("after", "[4/4] WORKDIR /home/jovyan/x", ("packages",)), record("last", "merge", ("after", "theirs")),
            record("wheels", 'cached mount /tmp/x from exec /bin/sh with id "/hubdock-wheels-public"', in_use=True), record("image", step, shared=True),
        ],
        100.0,
    )  # fmt: skip
    assert {item.key: (item.held, item.size) for item in found} == {
        "packages": ("", 10), "after": ("", 10), "last": ("", 10), "wheels": ("used by a build", 10), "image": ("part of an image", 0),
    }  # fmt: skip
    assert next(item for item in found if item.key == "last").needs == (("cache", "after"), ("cache", "theirs"))


@pytest.mark.parametrize(
    ("text", "seconds"), [("1970-01-01T00:00:10.123456789Z", 10.123456), ("1970-01-01T00:00:10Z", 10.0), ("0001-01-01T00:00:00Z", None), ("", None), (None, None), ("x", None)]
)
def test_times_of_the_engine(text: object, seconds: float | None) -> None:
    assert parse_time(text) == seconds
