"""Names of branches and tags: git's own rules (git-check-ref-format(1)), a little narrower, so that no name can be an option or a pattern."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from hubdock.core.errors import InvalidRef

MAX_REF = 255
_FORBIDDEN = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//")
_COMMIT = re.compile(r"^(?:[0-9a-f]{40}|[0-9a-f]{64})$")
_HEXADECIMAL = re.compile(r"^[0-9a-f]{7,64}$")


@dataclass(frozen=True)
class ResolvedRef:
    """What a remote says a name stands for. ``kind`` is ``branch`` or ``tag``; ``commit`` is 40 or 64 hex digits (a tag is peeled)."""

    name: str
    kind: str
    commit: str

    @property
    def full(self) -> str:
        """``refs/heads/NAME`` or ``refs/tags/NAME``."""
        return f"refs/{'heads' if self.kind == 'branch' else 'tags'}/{self.name}"


def parse_ref(text: object, field: str = "ref") -> str:
    """Return the name of a branch or tag as a user typed it: short, or whole (``refs/heads/…``, ``refs/tags/…``) where the two share a name.

    Raises InvalidRef, with the form's ``field``.
    """
    if not isinstance(text, str):
        raise InvalidRef("A branch is given as text.", field=field)
    name = text.strip(" \t")
    if not name:
        raise InvalidRef("Give the name of a branch, for example main.", field=field)
    problem = _find_problem(name)
    if problem:
        raise InvalidRef(f"This is no name of a branch: {problem}.", field=field)
    return name


def parse_new_branch(text: object) -> str:
    """Return the short name of a branch to be made. Raises InvalidRef, also for a tag's name."""
    name = parse_ref(text, "new_branch")
    if name.startswith("refs/tags/"):
        raise InvalidRef("A new hypothesis is a branch. Give the name alone, for example try-vgg19.", field="new_branch")
    if make_short(name).startswith("refs/"):
        raise InvalidRef("The name of a new branch can't start with “refs/”.", field="new_branch")
    return make_short(name)


def _find_problem(name: str) -> str:
    if len(name.encode("utf-8", "surrogatepass")) > MAX_REF:
        return f"it is longer than {MAX_REF} bytes"
    if make_short(name).startswith("-"):
        return "it starts with “-”"
    found = _FORBIDDEN.search(name)
    if found:
        shown = found[0] if found[0].isprintable() and found[0] != " " else "a space or control character"
        return f"it holds {shown!r}" if shown == found[0] else f"it holds {shown}"
    if name.startswith("/") or name.endswith(("/", ".")):
        return "it starts or ends with “/”, or ends with “.”"
    if name.startswith("refs/") and not re.match(r"^refs/(heads|tags)/.", name):
        return "only branches and tags can be started"
    if make_short(name) in {"HEAD", "@"}:
        return f"{make_short(name)} is a pointer; name the branch itself"
    if any(part.startswith(".") or part.endswith(".lock") for part in name.split("/")):
        return "a part of it starts with “.” or ends with “.lock”"
    if any(0xD800 <= ord(c) <= 0xDFFF for c in name):
        return "it is not valid text"
    return ""


def make_short(name: str) -> str:
    """Return a name without the ``refs/heads/`` or ``refs/tags/`` that it starts with."""
    return name.removeprefix("refs/tags/") if name.startswith("refs/tags/") else name.removeprefix("refs/heads/")


def looks_like_commit(name: str) -> bool:
    """True if a name that the remote does not know was probably meant as a (short) commit id."""
    return bool(_HEXADECIMAL.fullmatch(name))


def is_commit(text: str) -> bool:
    """True for a whole commit id, of SHA-1 or SHA-256."""
    return bool(_COMMIT.fullmatch(text))


def find_near(name: str, known: Iterable[str], count: int = 3) -> list[str]:
    """Return the known names that a misspelt one may have meant, nearest first."""
    known = list(known)
    folded = {other.lower(): other for other in reversed(known)}
    near = [folded[match] for match in difflib.get_close_matches(name.lower(), folded, count, 0.6)]
    return near + [other for other in known if name and name.lower() in other.lower() and other not in near][: count - len(near)]
