"""Text from strangers, made safe to show: control characters, terminal colours, text that runs backwards, endless lines, passwords."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

# ECMA-48 control sequences, and the operating system commands (titles, links) that end in BEL or ST.
_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_]|[ -/]+[0-~])")
# Unicode's explicit directional formatting characters (UAX #9): they make text read as other text.
_BIDI = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_USERINFO = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)[^/\s'\"]*@")  # to the last @: a password may hold one
_UNSEEN = {"Cc", "Cs", "Zl", "Zp"}
MAX_LINE = 2000


def make_plain(text: str, limit: int = MAX_LINE) -> str:
    """Return one line without control sequences, control and directional characters, cut after ``limit`` characters."""
    text = _BIDI.sub("", _ANSI.sub("", text))
    text = "".join(c if c == "\t" or unicodedata.category(c) not in _UNSEEN else " " for c in text[: limit + 1]).rstrip()
    return text if len(text) <= limit else text[:limit] + "…"


def make_lines(text: str, limit: int = MAX_LINE) -> list[str]:
    """Return the plain lines of a piece of output. A carriage return starts the line again, as in a terminal."""
    lines = [line.rstrip("\r").rsplit("\r", 1)[-1] for line in text.split("\n")]
    return [make_plain(line, limit) for line in lines]


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """Return the text without these secrets and without the user part of any URL."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, "***")
    return _USERINFO.sub(r"\g<scheme>***@", text)


def make_tail(text: str, lines: int = 12) -> str:
    """Return the last non-empty plain lines of some output."""
    kept = [line for line in make_lines(text) if line.strip()]
    return "\n".join(kept[-lines:])


def format_seconds(seconds: float) -> str:
    """Return ``4 s``, ``2 min`` or ``1.5 h``."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"
