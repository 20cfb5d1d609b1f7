"""Several hubdocks at once, each a process with a state directory of its own, for whom many people ask for the same at the same moment."""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from hubdock.core.asker import LOCAL
from hubdock.core.options import parse_options
from hubdock.engine.config import HubDock
from hubdock.engine.engine import Engine

_CONTEXT = multiprocessing.get_context("spawn")
PATIENCE = 180.0  # seconds


def race(settings: dict[str, Any], options: dict[str, Any], people: int, barrier: Any, answers: Any) -> None:
    """What one process does."""

    async def work() -> list[str]:
        engine = Engine(HubDock(**settings))
        plans = [await engine.plan(parse_options({**options, "new_branch": f"b{number}"}), LOCAL) for number in range(people)]
        await asyncio.to_thread(barrier.wait, PATIENCE)
        builds = [await engine.ensure(plan, f"user{number}") for number, plan in enumerate(plans)]
        await asyncio.gather(*(build.done.wait() for build in builds))
        await asyncio.gather(*(build.runner for build in builds if build.runner))
        await engine.close()
        return [str(build.error) if build.error else str(build.phase) for build in builds]

    try:
        answers.put(asyncio.run(work()))
    except Exception as error:
        answers.put([repr(error)])
        raise


class Racers:
    """They stand at the line until `go`."""

    def __init__(self, settings: Sequence[dict[str, Any]], options: dict[str, Any], people: int) -> None:
        self._barrier, self._answers = _CONTEXT.Barrier(len(settings) + 1), _CONTEXT.Queue()
        self.processes = [_CONTEXT.Process(target=race, args=(values, options, people, self._barrier, self._answers)) for values in settings]
        for process in self.processes:
            process.start()

    def go(self) -> None:
        """Wait until all have their plans, and let them begin."""
        self._barrier.wait(PATIENCE)

    def wait(self) -> list[list[str]]:
        """Return how the builds of each ended: the phase, or the error's words."""
        return [self._answers.get(timeout=PATIENCE) for _ in self.processes]


@contextmanager
def run_racers(settings: Sequence[dict[str, Any]], options: dict[str, Any], people: int = 20) -> Iterator[Racers]:
    """Hold them, and leave none."""
    racers = Racers(settings, options, people)
    try:
        yield racers
    finally:
        for process in racers.processes:
            process.join(10)
            process.kill()
