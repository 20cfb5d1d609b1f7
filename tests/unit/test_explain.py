"""What errors mean: every code has words and a mend; the line of a log that tells why is found."""

from __future__ import annotations

import pytest

from hubdock.core import errors
from hubdock.core.errors import BuildError, DataDenied, OutOfMemory, OutOfSpace, RecipeError, UnsatisfiableError
from hubdock.core.explain import explain, find_failing_line, quote_failing
from tests.unit.test_errors import KINDS

BEFORE_A_BUILD = {"error", "bad_request", "invalid_repo_url", "invalid_ref", "invalid_option", "repo_not_allowed", "workspace_not_found", "workspace_in_use", "resolve_failed", "build_failed"}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_error_is_explained(kind: type[errors.HubDockError]) -> None:
    found = explain(kind("Message.", file="requirements.txt", line=3).as_dict())
    assert all(text.endswith(".") for text in (found.meaning, found.mend)) and not found.title.endswith(".")
    assert "{" not in found.meaning + found.mend + found.title
    assert (found.title == "It failed") == (kind.code in BEFORE_A_BUILD), "a code that a build can end with has words of its own"


@pytest.mark.parametrize(
    ("error", "title", "mend"),
    [
        (UnsatisfiableError("x", file="env/dev.txt", line=7), "can't be installed together", "Change line 7 of env/dev.txt"),
        (RecipeError("x", file="dvc.yaml"), "can't be used", "Change dvc.yaml, commit"),
        (UnsatisfiableError("x"), "together", "Change what the message names"),
        (DataDenied("x"), "locked", "HubDock.dvc_remotes"),
        (OutOfSpace.on("the hub"), "disk is full", "hubdock gc"),
        (OutOfMemory("x"), "out of memory", "ready wheels"),
        (BuildError("x"), "It failed", "log"),
    ],
)
def test_the_mend_names_the_place(error: errors.HubDockError, title: str, mend: str) -> None:
    found = explain(error.as_dict())
    assert title in found.title and mend in found.mend


def test_what_no_version_knows_is_explained_too() -> None:
    assert explain({}).title == "It failed"


LOG = {
    "uv": (["[environment] ▸ RUN", "[environment] Using Python", "[environment]   × No solution found when resolving dependencies:", "[environment]   ╰─▶ Because there is no version of tabulate==99.0"], 2),  # noqa: RUF001
    "uv error": (["error: old", "[environment] Resolved", "[environment] error: Failed to fetch", "caused by: dns error"], 2),
    "apt": (["Reading package lists...", "E: Unable to locate package libfoo", "process \"/bin/sh -c apt-get\" did not complete successfully: exit code: 100"], 1),
    "python": (["Traceback (most recent call last):", '  File "setup.py", line 1', "RuntimeError: no compiler", "× python setup.py egg_info did not run successfully.", "note: This error originates"], 3),  # noqa: RUF001
    "smoke": (["[environment] jupyter log", "[environment] smoke test: Jupyter can't start a kernel"], 1),
    "dvc": (["[data] Collecting", "[data] ERROR: failed to pull data from the cloud - 1 files"], 1),
    "disk": (["[environment] cp: error writing 'x': No space left on device", "[environment] gone"], 0),
    "good": (["[environment] smoke test: Jupyter serves, a kernel answers", "[image] 3 files and directories, 2 fetched", "0 errors"], None),
    "empty": ([], None),
}  # fmt: skip


@pytest.mark.parametrize("name", LOG)
def test_the_failing_line(name: str) -> None:
    lines, expected = LOG[name]
    assert find_failing_line(lines) == expected


def test_a_line_that_the_message_quotes() -> None:
    lines = ["[data] something of note: x.bin", "[data] short", "[data] file images/lost.txt is missing", "[data] last"]
    assert find_failing_line(lines, "1 file: DVC says: file images/lost.txt is missing") == 2
    assert find_failing_line(lines, "nothing of it") is None


def test_the_quote_goes_on_with_the_line() -> None:
    lines = ["[a] x", "[a] error: no", "[a]   because", "[a]   of that", "[a] later"]
    assert quote_failing(lines, 1) == ["error: no", "  because", "  of that"]
    assert quote_failing(lines, 4) == ["later"]
