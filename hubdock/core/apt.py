"""``apt.txt``: Debian packages, one or more a line, as repo2docker reads it."""

from __future__ import annotations

import re

from hubdock.core.errors import RecipeError
from hubdock.core.requirements import decode_text

_PACKAGE = re.compile(r"^[a-z0-9][a-z0-9+.-]+(?::[a-z0-9]+)?(?:=[A-Za-z0-9.+:~-]+)?$")  # Debian Policy 5.6.1, with apt's :arch and =version


def parse_apt(path: str, content: bytes) -> tuple[str, ...]:
    """Return the sorted packages of an apt.txt. Raises RecipeError with the line of what is no package name."""
    packages = set()
    for number, line in enumerate(decode_text(path, content).splitlines(), 1):
        for word in line.partition("#")[0].split():
            if not _PACKAGE.match(word):
                raise RecipeError(f"“{word[:80]}” is no name of a Debian package.", file=path, line=number)
            packages.add(word)
    return tuple(sorted(packages))
