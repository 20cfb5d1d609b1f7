"""What an error means, and what mends it, in words for somebody who did not build hubdock; and which line of a log tells it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_AGAIN = "Start again in a few minutes. What is finished is not done twice."
_ADMIN = "Tell an administrator, with the address of this page: the hub's own log has the details."
_FIX = "Change {place}, commit, push, and start again."


@dataclass(frozen=True)
class Explanation:
    """``title`` in a few words, ``meaning`` of the error, ``mend`` for it."""

    title: str
    meaning: str
    mend: str


# By an error's code (`hubdock.core.errors`). {place} is the file and line at fault, or what the file usually is.
_KNOWN: dict[str, tuple[str, str, str]] = {
    "unsatisfiable": (
        "The requirements can't be installed together", "Two requirements ask for versions that exclude each other, or one asks for a version that the package index does not have.",
        f"{_FIX} Loosening a pin (>= for ==) is often enough.",
    ),
    "package_failed": (
        "A package could not be built", "It has no ready wheel for this Python, so it is built from its source, and that failed. Often a compiler or a library of the system is missing.",
        "Ask for a version that has a wheel, or name the missing Debian packages in apt.txt. Then commit, push, and start again.",
    ),
    "index_unavailable": ("The package index does not answer", "Packages could not be downloaded. The requirements may well be right.", _AGAIN),
    "smoke_test_failed": (
        "Jupyter does not work with these packages", "Everything was installed, but with it Jupyter can't start a kernel. A package of Jupyter's own was replaced by a version that does not fit.",
        "Take out what {place} pins of Jupyter's packages (jupyter, notebook, ipykernel, tornado, traitlets), commit, push, and start again.",
    ),
    "recipe_error": ("A file of the branch can't be used", "hubdock can't understand it, or does not support what it asks for.", _FIX),
    "data_not_found": (
        "Data is not on the remote", "The branch names files that DVC does not find on its remote: they were tracked, and never pushed.",
        "Run `dvc push` where the files are, and start again.",
    ),
    "data_denied": ("The data is locked", "The DVC remote wants credentials that the hub does not have, or no longer accepts them.", "Ask an administrator to give the hub credentials for this remote (HubDock.dvc_remotes)."),
    "data_failed": ("The data could not be fetched", "The DVC remote did not send what the branch names.", "The log says what DVC saw. If the remote was away, start again in a few minutes."),
    "out_of_space": ("The disk is full", "There was no room left to build or to fetch. Nothing half-made is used.", "Ask an administrator to free space (`hubdock gc`), and start again."),
    "out_of_memory": (
        "The build ran out of memory", "A step took more memory than the build machine has, and was ended. Compiling large packages does that.",
        "Ask for versions that have ready wheels, so that nothing is compiled, or ask an administrator for a larger build machine.",
    ),
    "build_timeout": ("It took too long", "The administrator limits how long a build may take, its turn in the queue included, and the limit was reached.", "Start again: finished steps are not done twice. If it stays so, ask an administrator for a longer limit."),
    "build_cancelled": ("It was cancelled", "Nobody waited for it any more.", "Start it again whenever you want."),
    "queue_full": ("The queue is full", "Too many builds wait already.", _AGAIN),
    "gpu_unavailable": ("No GPU is free", "All GPUs are held by servers that run.", "Wait until one is stopped, or start without a GPU: the choice keeps all other values."),
    "no_capacity": ("There is no room now", "The hub starts as many servers at once as it may.", _AGAIN),
    "launch_failed": ("The server did not start", "Everything is ready, but the server's container ended at once, or never answered.", "Start again. If it stays so, choose more memory, or tell an administrator."),
    "builder_unavailable": ("The Docker Engine does not answer", "It may be restarting. Servers that run are not affected.", _AGAIN),
    "registry_unavailable": ("The image registry does not answer", "A base image could not be pulled, or its registry does not let the hub in.", f"{_AGAIN} If it stays so, tell an administrator."),
    "data_gone": ("The data was removed meanwhile", "It was in the store when this start was planned.", "Start again: it is fetched anew."),
    "image_gone": ("An image was removed meanwhile", "It was there when this start was planned.", "Start again: it is made anew."),
    "backend_unavailable": ("Something that hubdock needs does not answer", "The branch may well be right.", _AGAIN),
    "repo_unreachable": ("The repository does not answer", "Its server did not answer in time, or refused the connection.", _AGAIN),
    "repo_not_found": ("The repository can't be read", "It does not exist, or you may not read it: the server does not tell which.", "Check its address and your access to it."),
    "ref_not_found": ("The branch is gone", "The repository has no such branch or tag any more.", "Choose another branch."),
    "config_error": ("The hub is not set up for this", "A setting of the administrator's is wrong.", _ADMIN),
}  # fmt: skip
_UNKNOWN = ("It failed", "A step of the build failed.", "The log says what happened. If that does not help, tell an administrator, with the address of this page.")


def explain(error: Mapping[str, Any]) -> Explanation:
    """Return what an error in its JSON form (`HubDockError.as_dict`) means. Every code has an answer."""
    title, meaning, mend = _KNOWN.get(str(error.get("code")), _UNKNOWN)
    file, line = error.get("file"), error.get("line")
    place = (f"line {line} of {file}" if line else str(file)) if file else "what the message names"
    return Explanation(title, meaning, mend.replace("{place}", place))


# What programs begin the line with that tells what went wrong; the last match counts, for what follows is only its consequence.
_TELLING = re.compile(
    r"^\s*(?:×|error\b|fatal\b|E:|CRITICAL\b|ERROR\b|smoke test: (?!Jupyter serves)|[A-Za-z_.]*(?:Error|Exception)\b:|OSError|Killed\b|.*No space left on device|.*No solution found)", re.I  # noqa: RUF001 (uv's own sign)
)
_NOISE = re.compile(r"did not complete successfully|exit code: \d+\s*$")


def find_failing_line(lines: Sequence[str], message: str = "") -> int | None:
    """Return the index of the line of a log that says why it failed: the last that begins as an error does, or that the message quotes. None if no line does.

    A line may begin with the part it is of (``[environment] error: …``).
    """
    bare = [re.sub(r"^\[[a-z]+\] ", "", line) for line in lines]
    for number in range(len(bare) - 1, -1, -1):
        if _TELLING.match(bare[number]) and not _NOISE.search(bare[number]):
            return number
    quoted = [number for number, line in enumerate(bare) if len(line.strip()) > 15 and line.strip() in message]
    return quoted[-1] if quoted else None


def quote_failing(lines: Sequence[str], failing: int, most: int = 4) -> list[str]:
    """Return the failing line and those that go on with it, which are indented: without the part that they are of."""
    bare = [re.sub(r"^\[[a-z]+\] ", "", line) for line in lines[failing : failing + most]]
    end = next((number for number, line in enumerate(bare) if number and not line[:1].isspace()), len(bare))
    return bare[:end]
