"""Who may read what: each person's own answers of the remotes, kept for less than a minute."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection
from dataclasses import dataclass

from hubdock.core.asker import Asker
from hubdock.core.errors import AccessDenied, HubDockError, RepoNotAllowed
from hubdock.core.repo import RepoURL
from hubdock.drivers.git import RemoteRefs
from hubdock.engine.engine import Engine

MAX_AGE = 45.0
MOST = 20_000
Question = tuple[Asker, RepoURL]


@dataclass(frozen=True)
class Answer:
    """What a remote said to somebody: its names, or why there are none. ``when`` is `time.monotonic`'s."""

    refs: RemoteRefs | None
    error: HubDockError | None
    when: float

    @property
    def fresh(self) -> bool:
        """True while it may be used again."""
        return time.monotonic() - self.when < MAX_AGE


class Readable:
    """The answers of one service. It belongs to one event loop."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._answers: dict[Question, Answer] = {}
        self._asking: dict[Question, asyncio.Task[Answer]] = {}
        self._before: dict[Question, None] = {}
        self._tidied = 0.0

    async def ask(self, asker: Asker, repos: Collection[RepoURL], patience: float) -> dict[RepoURL, Answer]:
        """Return what the remotes say to somebody, of those that answer within ``patience`` seconds. The others are remembered when they do."""
        tasks = {repo: self._begin((asker, repo)) for repo in repos}
        if tasks:
            await asyncio.wait(tasks.values(), timeout=patience)
        return {repo: task.result() for repo, task in tasks.items() if task.done() and not task.cancelled()}

    def was_readable(self, asker: Asker, repo: RepoURL) -> bool:
        """True if this person was able to read a repository since the service started, and was not refused since."""
        return (asker, repo) in self._before

    def forget(self, asker: Asker) -> None:
        """Ask anew whatever this person asks next."""
        for question in [question for question in self._answers if question[0] == asker]:
            del self._answers[question]

    def _begin(self, question: Question) -> asyncio.Task[Answer]:
        running = self._asking.get(question)
        if running is None:
            running = self._asking[question] = asyncio.create_task(self._ask(question))
            running.add_done_callback(lambda _: self._asking.pop(question, None))
        return running

    async def _ask(self, question: Question) -> Answer:
        known = self._answers.get(question)
        if known is not None and known.fresh:
            return known
        asker, repo = question
        try:
            answer = Answer(await self.engine.list_branches(repo, asker), None, time.monotonic())
            self._before[question] = None
        except HubDockError as error:
            answer = Answer(None, error, time.monotonic())
            if isinstance(error, AccessDenied | RepoNotAllowed):
                self._before.pop(question, None)
        self._answers[question] = answer
        self._tidy()
        return answer

    def _tidy(self) -> None:
        """Drop what may not be used again, now and then."""
        while len(self._before) > MOST:
            del self._before[next(iter(self._before))]
        if time.monotonic() - self._tidied > MAX_AGE:
            self._tidied = time.monotonic()
            self._answers = {question: answer for question, answer in self._answers.items() if answer.fresh}
