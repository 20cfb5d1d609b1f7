"""Settings and plans for the command line."""

from __future__ import annotations

import getpass
import logging
import os
from pathlib import Path

from hubdock.core.asker import LOCAL
from hubdock.core.errors import ConfigError
from hubdock.core.options import Options
from hubdock.engine.assembly import Assembly
from hubdock.engine.config import HubDock, load_config, make_settings
from hubdock.engine.database import Database
from hubdock.engine.planner import Planner
from hubdock.engine.tasks import TaskStore

MOST_GPUS = 999


def load_settings(config: Path | None, state_dir: Path | None) -> HubDock:
    """Return the settings of a configuration file, or the defaults. Raises ConfigError.

    A limit of GPUs is a hub's: without a configuration there is none, for who may use Docker may use its GPUs anyway.
    """
    loaded = load_config(str(config) if config else None)
    if state_dir is not None:
        loaded.HubDock.state_dir = str(state_dir.absolute())
    if config is None:
        loaded.HubDock.gpu_limit = MOST_GPUS
    settings: HubDock = make_settings(loaded)
    try:
        _ = settings.state
    except OSError as error:
        raise ConfigError(f"The state directory {settings.state_dir} can't be made: {error.strerror}. Choose another with --state-dir.") from error
    return settings


def find_user() -> str:
    """Return the name of the user of this process."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def make_plan(settings: HubDock, options: Options, rebuild: bool) -> Assembly:
    """Return the plan of a choice, in this thread: it can be interrupted anywhere. Raises HubDockError."""
    database = Database(settings.database_url)
    return Planner(settings, database, TaskStore(settings.state)).plan(options, LOCAL, rebuild=rebuild)


def quiet_logs(verbose: bool) -> None:
    """Keep the engine's log off the terminal: the command says what happened in words of its own."""
    for name in ("hubdock", "asyncio", "urllib3"):
        logger = logging.getLogger(name)
        logger.propagate = verbose
        if not verbose:
            logger.addHandler(logging.NullHandler())
