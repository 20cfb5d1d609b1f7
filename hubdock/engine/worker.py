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
from pathlib import Path
from typing import Any

from hubdock.core.errors import BuildCancelled, BuildError, HubDockError, OutOfSpace
from hubdock.core.events import Event, Kind, Phase
from hubdock.engine.tasks import Reporter
from hubdock.engine.work import Work

STEPS = {"base": "step_base", "environment": "step_environment", "image": "step_image", "data": "step_data"}


def main() -> int:
    """Do the task of the directory named by the first argument."""
    path = Path(sys.argv[1])
    spec = json.loads((path / "spec.json").read_text(encoding="utf-8"))
    work = Work(spec, Reporter(path))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: _stop(work))
    try:
        importlib.import_module(f"hubdock.engine.{STEPS[spec['kind']]}").run(work)
        work.check()
    except HubDockError as error:
        if isinstance(error, BuildCancelled) or work.stop.is_set():  # what fails once it was told to stop, failed for that
            return _end(work, Phase.CANCELLED, BuildCancelled("The build was cancelled.", error.detail))
        return _end(work, Phase.FAILED, error)
    except OSError as error:
        return _end(work, Phase.FAILED, _name_os_error(error))
    except Exception:
        unknown = BuildError("The build failed for a reason that hubdock does not know. Tell an administrator.", traceback.format_exc())
        return _end(work, Phase.FAILED, unknown)
    return _end(work, Phase.READY, None)


def _stop(work: Work) -> None:
    """Called on SIGTERM, between two instructions of the main thread: never wait here."""
    work.stop.set()
    threading.Thread(target=work.on_stop, daemon=True).start()


def _name_os_error(error: OSError) -> HubDockError:
    if error.errno in {28, 122}:  # ENOSPC, EDQUOT
        return OutOfSpace("The disk of the hub is full. Nothing half-built is kept; an administrator can free space there.", str(error))
    return BuildError("The build failed on the hub's machine. Tell an administrator.", f"{type(error).__name__}: {error}")


def _end(work: Work, status: Phase, error: HubDockError | None) -> int:
    if error is not None and error.detail:
        print(f"{time.strftime('%F %T')} {work.part}: {error.message}\n{error.detail}", file=sys.stderr, flush=True)
    values: dict[str, Any] | None = error.as_dict() if error else None
    work.reporter.write(Event(Kind.PHASE, time.time(), work.part, status, error.message if error else "", error=values))
    work.reporter.finish(status, error, work.steps, work.data)
    return 0 if status is Phase.READY else 1


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    os._exit(code)  # threads that still read a dead pipe must not keep the lock
