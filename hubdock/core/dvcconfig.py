"""``.dvc/config``: the remotes that a repository declares. Read as DVC's own configobj reads it (https://configobj.readthedocs.io), without
interpolation and without values of several lines, which no remote needs."""

from __future__ import annotations

import re
from dataclasses import dataclass

from hubdock.core.errors import RecipeError
from hubdock.core.requirements import decode_text

_SECTION = re.compile(r"(?P<open>(?:\[\s*)+)(?P<name>\"\s*\S.*?\s*\"|'\s*\S.*?\s*'|[^'\"\s].*?)(?P<close>(?:\s*\])+)\s*(?:#.*)?")
_OPTION = re.compile(r"(?P<name>\".*?\"|'.*?'|[^'\"=].*?)\s*=\s*(?P<value>.*)")
_VALUE = re.compile(r"(?P<value>\".*?\"|'.*?'|[^'\"#].*?|)\s*(?:#.*)?")
_REMOTE = re.compile(r"\s*remote\s*\"(?P<name>.*)\"\s*")
# Options that would send the team's credentials where the repository says, or read files of the machine that fetches.
BLOCKED = frozenset({"configpath", "credentialpath", "endpointurl", "keyfile", "gdrive_service_account_json_file_path"})


@dataclass(frozen=True)
class DataRemote:
    """A remote of ``.dvc/config``, its name in lower case as DVC compares it. ``ignored`` are the options that a repository may not set here."""

    name: str
    url: str
    ignored: tuple[str, ...] = ()


@dataclass(frozen=True)
class DataProject:
    """One DVC project: its directory, its remotes, and the name of its default remote."""

    root: str
    remotes: tuple[DataRemote, ...] = ()
    default: str = ""


def is_literal(value: str) -> bool:
    """True if DVC takes a value as it is. ``%(`` stands for another option there, and its complaint about one would show a part of the value."""
    return "%(" not in value


def parse_config(root: str, path: str, content: bytes, notices: list[str]) -> DataProject:
    """Return the project whose configuration this is. Of a remote only the ``url`` is taken; what else it sets is told in ``notices``.

    Raises RecipeError with file and line for what can't be read.
    """
    sections = _read_sections(path, decode_text(path, content))
    remotes = []
    for title, options in sections.items():
        match = _REMOTE.fullmatch(title)
        if match:
            ignored = tuple(sorted(option for option in options if option != "url"))
            remotes.append(DataRemote(match["name"], options.get("url", ""), ignored))
    blocked = sorted({option for remote in remotes for option in remote.ignored} & BLOCKED)
    if blocked:
        notices.append(f"{path}: {', '.join(blocked)} ignored while fetching; an administrator sets them in HubDock.dvc_remotes.")
    return DataProject(root, tuple(remotes), sections.get("core", {}).get("remote", "").lower())


def _read_sections(path: str, text: str) -> dict[str, dict[str, str]]:
    """Return ``{section: {option: value}}``, names in lower case. Sections within sections are left out."""
    sections: dict[str, dict[str, str]] = {}
    options: dict[str, str] = {}
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        title = _SECTION.fullmatch(line)
        if title:
            nested = title["open"].count("[") > 1
            options = {} if nested else sections.setdefault(_unquote(title["name"]).lower(), {})
            continue
        option = _OPTION.fullmatch(line)
        value = _VALUE.fullmatch(option["value"]) if option else None
        if option is None or value is None or option["value"].startswith(('"""', "'''")):
            raise RecipeError("This is no valid DVC configuration.", file=path, line=number)
        options[_unquote(option["name"]).lower()] = _unquote(value["value"])
    return sections


def _unquote(text: str) -> str:
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text
