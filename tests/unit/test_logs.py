"""Logs as their readers want them: whole, the end, or all but the output; bounded whatever was printed."""

from __future__ import annotations

import asyncio
import json
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from hubdock.core.events import Event, Kind, Phase
from hubdock.core.plan import Part, State
from hubdock.engine import feed
from hubdock.engine.build import Build
from hubdock.engine.feed import Feeds
from hubdock.engine.logs import MAX_SHOWN, WINDOW, Tail, format_events, read_block, read_told, stream_log
from hubdock.engine.stream import Cursor, stream_events
from hubdock.engine.tasks import Attempt, Reporter
from hubdock.engine.telling import Teller, tell_past


def line(number: int, part: str = "environment", text: str = "") -> Event:
    return Event(Kind.LOG, float(number), part, message=text or f"{part} {number}")


class Log:
    """The log of one task, written as a worker does."""

    def __init__(self, path: Path, part: str = "environment") -> None:
        path.mkdir(parents=True, exist_ok=True)
        self.attempt, self.reporter = Attempt(part, "k", path), Reporter(path)

    def write(self, *events: Event) -> None:
        with self.attempt.events_path.open("a", encoding="utf-8") as file:
            file.writelines(event.as_line() for event in events)


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path / "environment")


def flood(log: Log, megabytes: int) -> int:
    """Write so much output, and return how many lines that is."""
    text = line(1, text="x" * 400).as_line()
    count = megabytes * 1024 * 1024 // len(text)
    with log.attempt.events_path.open("a") as file:
        file.writelines(text for _ in range(count))
    return count


def test_a_page_gets_the_end_and_then_what_comes(log: Log) -> None:
    log.write(line(1), Event(Kind.PHASE, 2.0, "environment", Phase.BUILDING), line(3))
    tail = Tail()
    attempts = {"environment": log.attempt}
    assert tail.find_grown(attempts) == attempts
    assert tail.read(attempts) == (["[environment] environment 1", "[environment] environment 3"], 0)
    assert tail.find_grown(attempts) == {}
    again = Tail.parse(str(tail))
    log.write(line(4))
    assert again.read(again.find_grown(attempts)) == (["[environment] environment 4"], 0)


def test_of_a_flood_a_page_gets_the_newest_part(log: Log) -> None:
    tail, attempts = Tail(), {"environment": log.attempt}
    log.write(line(1))
    tail.read(attempts)
    flood(log, 3)
    log.write(line(9))
    lines, skipped = tail.read(attempts)
    assert lines[-1] == "[environment] environment 9" and sum(map(len, lines)) <= WINDOW
    assert skipped > 2 * 1024 * 1024


def test_lines_of_several_parts_in_the_order_of_their_times(tmp_path: Path) -> None:
    one, two = Log(tmp_path / "environment"), Log(tmp_path / "data", "data")
    one.write(line(1), line(4))
    two.write(line(2, "data"), line(3, "data"))
    assert Tail().read({"environment": one.attempt, "data": two.attempt})[0] == ["[environment] environment 1", "[data] data 2", "[data] data 3", "[environment] environment 4"]


def test_long_lines_are_cut_and_another_attempt_is_read_from_its_beginning(log: Log, tmp_path: Path) -> None:
    log.write(line(1, text="y" * 3000))
    tail = Tail()
    assert len(tail.read({"environment": log.attempt})[0][0]) <= MAX_SHOWN + 20
    other = Log(tmp_path / "2")
    other.write(line(7))
    assert tail.read({"environment": other.attempt}) == (["[environment] environment 7"], 0)


@pytest.mark.parametrize("text", ["", "x", "environment", "environment-", "-1", "environment--1", "1-environment", "a-1-2", "²-²", "a-" + "9" * 40])
def test_what_a_browser_makes_up_is_a_fresh_start(text: str) -> None:
    assert Tail.parse(text).positions == {}


def test_all_but_output_is_read_once(log: Log) -> None:
    log.write(Event(Kind.PHASE, 1.0, "environment", Phase.BUILDING), line(2), Event(Kind.STEP, 3.0, "environment", Phase.BUILDING, "a"))
    offset, events = read_told(log.attempt)
    assert [event.kind for event in events] == [Kind.PHASE, Kind.STEP]
    with log.attempt.events_path.open("a") as file:
        file.write('not json\n{"kind":"notice"')  # half a line
    assert read_told(log.attempt, offset) == (offset + len("not json\n"), [])


def test_a_hundred_megabytes_take_little_time_and_memory(log: Log) -> None:
    """What watching costs at the worst: the account, the end, and no more."""
    log.write(Event(Kind.PHASE, 1.0, "environment", Phase.BUILDING))
    flood(log, 100)
    log.write(Event(Kind.PHASE, 2.0, "environment", Phase.READY))
    tracemalloc.start()
    began = time.process_time()
    _, events = read_told(log.attempt)
    lines, _ = Tail().read({"environment": log.attempt})
    took, most = time.process_time() - began, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [event.phase for event in events] == [Phase.BUILDING, Phase.READY] and lines
    assert took < 10 and most < 4 * 1024 * 1024


async def in_thread(function: Any, *args: Any) -> Any:
    return await asyncio.to_thread(function, *args)


async def test_the_whole_log_comes_in_pieces(log: Log, tmp_path: Path) -> None:
    count = flood(log, 3)
    other = Log(tmp_path / "image", "image")
    other.write(Event(Kind.PROGRESS, 1.0, "image", percent=3), Event(Kind.STEP, 1.0, "image", Phase.BUILDING, "x"), line(2, "image"))
    end = Event(Kind.PHASE, 9.0, "", Phase.FAILED, "why")
    pieces = [text async for text in stream_log([log.attempt, other.attempt], [end], in_thread)]
    assert max(map(len, pieces)) < 1024 * 1024
    whole = "".join(pieces).splitlines()
    assert len(whole) == count + 2 and whole[-2:] == ["[image] image 2", "[start] failed: why"]


def test_lines_of_a_log() -> None:
    assert format_events([Event(Kind.PHASE, 1.0, "data", Phase.FETCHING, "5M"), Event(Kind.NOTICE, 1.0, message="n")]) == "[data] fetching: 5M\n[start] n\n"


async def test_events_of_a_long_log_are_read_in_blocks_and_in_order(tmp_path: Path) -> None:
    """Two logs of very different length: nothing is out of order, twice or missing, wherever a reader goes on."""
    build = Build(None, "b" * 32)  # type: ignore[arg-type]
    for part, count in (("environment", 3000), ("data", 30)):
        log = Log(tmp_path / part, part)
        log.write(*(Event(Kind.LOG, n * (1 if part == "environment" else 100.0), part, message="z" * 60 + str(n)) for n in range(count)))
        build.attempts[part] = log.attempt
    build.tell(Phase.READY, "end")
    build.done.set()
    assert read_block(build.attempts["environment"], 0).cut
    heard = [(cursor, event) async for cursor, event in stream_events(build, Cursor("0.0.0.0.0"))]
    assert len(heard) == 3031 and heard[-1][1].message == "end"
    times = [event.time for _, event in heard]
    assert times == sorted(times)
    middle = heard[1700][0]
    assert [event for _, event in heard[1701:]] == [event async for _, event in stream_events(build, Cursor(middle))]


# --- the feed of all who watch ---


class Engine:
    """What a feed needs of an engine."""

    class builds:
        @staticmethod
        async def in_thread(function: Any, *args: Any, **kwargs: Any) -> Any:
            return await asyncio.to_thread(function, *args, **kwargs)


def make_feed(log: Log, monkeypatch: pytest.MonkeyPatch) -> tuple[Feeds, Build]:
    monkeypatch.setattr(feed, "PACE", 0.0)
    build = Build(None, "b" * 32)  # type: ignore[arg-type]
    build.attempts["environment"] = log.attempt
    return Feeds(Engine()), build  # type: ignore[arg-type]


async def test_all_who_watch_get_every_line_once(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whenever they come, and wherever the page that they loaded left off."""
    feeds, build = make_feed(log, monkeypatch)
    log.write(line(1), line(2))
    tail = Tail()
    tail.read({"environment": log.attempt}, until=dict((await feeds.look(build)).tail.positions))
    log.write(line(3))
    number, missed = await feeds.join(build, str(tail))
    heard = json.loads(missed.text)["lines"] if missed else []
    fresh, whole = await feeds.join(build, "")
    assert whole is not None and json.loads(whole.text)["lines"] == [f"[environment] environment {n}" for n in (1, 2, 3)]
    log.write(line(4))
    found = await feeds.look(build)
    assert fresh == number
    heard += [text for chunk in found.find_after(number) for text in json.loads(chunk.text)["lines"]]
    assert heard == ["[environment] environment 3", "[environment] environment 4"]
    assert (await feeds.join(build, found.chunks[-1].position))[1] is None


async def test_of_a_flood_a_feed_keeps_little(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    feeds, build = make_feed(log, monkeypatch)
    for _ in range(feed.KEPT + 5):
        flood(log, 1)
        found = await feeds.look(build)
    assert len(found.chunks) == feed.KEPT and sum(len(chunk.text) for chunk in found.chunks) < 2 * feed.KEPT * feed.MOST
    assert all(json.loads(chunk.text)["skipped"] > 900_000 for chunk in found.chunks)


def test_reading_until_an_offset(log: Log) -> None:
    log.write(line(1), line(2), line(3))
    tail = Tail()
    end = len(line(1).as_line()) * 2
    assert tail.read({"environment": log.attempt}, until={"environment": end})[0] == ["[environment] environment 1", "[environment] environment 2"]
    assert tail.positions == {"environment": end}
    assert Tail().read({"environment": log.attempt}, until={}) == ([], 0)


# --- the account that is told ---


def test_the_account_follows_logs_and_plan(log: Log) -> None:
    class Assembly:
        class plan:
            parts = (Part("environment", State.BUILD, "k", seconds=10.0), Part("data", State.NONE))

    build = Build(Assembly, "b" * 32)  # type: ignore[arg-type]
    teller = Teller({})
    teller.take(build, [])
    assert [stage["state"] for stage in teller.account.as_dict(0)["stages"]] == ["waiting"]
    build.attempts["environment"] = log.attempt
    log.write(Event(Kind.PHASE, 5.0, "environment", Phase.BUILDING), line(6))
    assert teller.find_grown(build) == [log.attempt]
    teller.take(build, teller.read(teller.find_grown(build)))
    assert teller.find_grown(build) == []
    build.tell(Phase.FAILED, "no")
    teller.take(build, [])
    assert teller.account.as_dict(99)["phase"] == "failed"


def test_a_build_of_the_past_is_told_from_what_is_kept(log: Log) -> None:
    log.write(Event(Kind.PHASE, 5.0, "environment", Phase.BUILDING), Event(Kind.PHASE, 9.0, "environment", Phase.READY))
    told = tell_past([log.attempt], [Event(Kind.PHASE, 10.0, "", Phase.READY)]).as_dict(1e9)
    assert (told["over"], told["percent"]) == (True, 100)
    assert [(stage["name"], stage["state"], stage["seconds"]) for stage in told["stages"]] == [("environment", "done", 4.0)]
