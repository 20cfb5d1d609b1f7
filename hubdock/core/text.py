"""Text from strangers, made safe to show: control characters, terminal colours, text that runs backwards, endless lines, passwords."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

# ECMA-48 control sequences, and the operating system commands (titles, links) that end in BEL or ST.
_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_]|[ -/]+[0-~])")
# What nobody sees, and what makes text read as other text: directional formatting (UAX #9), zero-width and filler characters, tags. Shown as U+FFFD, so that
# “ma·in” is not taken for “main”. The joiners are letters' own in many scripts (and in emoji), but never beside ASCII.
_UNSEEN = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\u3164\ufeff\uffa0\ufff9-\ufffb\U000e0000-\U000e007f]"
)
_JOINER = re.compile("(?<![^\x00-\x7f])[\u200c\u200d]|[\u200c\u200d](?![^\x00-\x7f])")
_USERINFO = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)[^/\s'\"]*@")  # to the last @: a password may hold one
_CONTROL = {"Cc", "Cs", "Zl", "Zp"}
MAX_LINE = 2000


def make_plain(text: str, limit: int = MAX_LINE) -> str:
    """Return one line without terminal sequences, with spaces for control characters and U+FFFD for what is unseen, cut after ``limit`` characters.

    It still has to be escaped where it is shown. ``service/static/plain.js`` does the same in the browser.
    """
    text = _ANSI.sub("", text[: 8 * limit])[: limit + 1]
    text = "".join(c if c == "\t" or unicodedata.category(c) not in _CONTROL else " " for c in text)
    text = _UNSEEN.sub("\ufffd", _JOINER.sub("\ufffd", text)).rstrip()
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


def format_passed(seconds: float) -> str:
    """Return ``3 days ago``."""
    for unit, length in (("year", 365 * 86400), ("month", 30 * 86400), ("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            count = int(seconds // length)
            return f"{count} {unit}{'' if count == 1 else 's'} ago"
    return "just now"


def format_seconds(seconds: float) -> str:
    """Return ``4 s``, ``2 min`` or ``1.5 h``."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"
