"""The worker: ``python -m hubdock.engine.worker DIRECTORY`` does one task to its end and writes the result.

It is started detached, with the task's lock already held, and outlives whoever started it. SIGTERM ends it in order. It imports only what its
kind of task needs: an image of a changed README is made in less time than SQLAlchemy takes to import.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import threading
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

from hubdock.core.errors import BackendError, BuildCancelled, BuildError, BuilderUnavailable, HubDockError
from hubdock.core.events import Event, Kind, Phase
from hubdock.drivers import space
from hubdock.drivers.process import MARK
from hubdock.engine.tasks import Reporter
from hubdock.engine.work import Work

STEPS = {"base": "step_base", "environment": "step_environment", "image": "step_image", "data": "step_data"}
PATIENCE = 30.0  # seconds: an engine that is restarted answers again well within them


def main() -> int:
    """Do the task of the directory named by the first argument."""
    path = Path(sys.argv[1])
    spec = json.loads((path / "spec.json").read_text(encoding="utf-8"))
    work = Work(spec, Reporter(path))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: _stop(work))
    try:
        with space.noticed():
            _run(work)
        work.check()
    except HubDockError as error:
        if isinstance(error, BuildCancelled) or work.stop.is_set():  # what fails once it was told to stop, failed for that
            return _end(work, Phase.CANCELLED, BuildCancelled("The build was cancelled.", error.detail))
        return _end(work, Phase.FAILED, error)
    except OSError as error:
        return _end(work, Phase.FAILED, BuildError("The build failed on the hub's machine. Tell an administrator.", f"{type(error).__name__}: {error}"))
    except Exception:
        unknown = BuildError("The build failed for a reason that hubdock does not know. Tell an administrator.", traceback.format_exc())
        return _end(work, Phase.FAILED, unknown)
    return _end(work, Phase.READY, None)


def _stop(work: Work) -> None:
    """Called on SIGTERM, between two instructions of the main thread: never wait here."""
    work.stop.set()
    threading.Thread(target=work.on_stop, daemon=True).start()


def _run(work: Work) -> None:
    """Do the steps of a kind of task; once more if the engine went away meanwhile: what was finished is in its cache."""
    step = importlib.import_module(f"hubdock.engine.{STEPS[work.part]}")
    try:
        step.run(work)
    except BuilderUnavailable:
        if not _wait_for_engine(work):
            raise
        work.log(f"{work.backend.place} was away, and answers again: once more, from where it was.")
        step.run(work)


def _wait_for_engine(work: Work) -> bool:
    """Return True once the engine answers and what this worker left in it is gone, False if it stays away."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and not work.stop.wait(0.2):
        with suppress(BackendError):
            work.backend.remove_jobs(os.environ[MARK])
            return True
    return False


def _end(work: Work, status: Phase, error: HubDockError | None) -> int:
    if error is not None and error.detail:
        print(f"{time.strftime('%F %T')} {work.part}: {error.message}\n{error.detail}", file=sys.stderr, flush=True)
    values: dict[str, Any] | None = error.as_dict() if error else None
    work.reporter.release()
    with suppress(OSError):  # the disk may be full; the result has room of its own
        work.reporter.write(Event(Kind.PHASE, time.time(), work.part, status, error.message if error else "", error=values))
    work.reporter.finish(status, error, work.steps, work.data)
    return 0 if status is Phase.READY else 1


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    os._exit(code)  # threads that still read a dead pipe must not keep the lock
