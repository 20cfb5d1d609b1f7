"""Requirement files, read line by line as pip documents them (https://pip.pypa.io/en/stable/reference/requirements-file-format/), and as uv reads
them where the two differ, for uv installs them: what is not seen here must not be seen there.

Nothing is installed and nothing but text is looked at. A line that would read a file outside the repository, send a credential elsewhere or
depend on the build machine is refused with its file and line: pip prints the first line of any file that ``-r`` names, and expands ``${VAR}``.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import urlsplit

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from hubdock.core.errors import RecipeError

MAX_LINES = 5000
_COMMENT = re.compile(r"(^|\s+)#.*$")
_VARIABLE = re.compile(r"\$\{[A-Za-z0-9_]+\}")
_HASH = re.compile(r"\s--hash(=|\s+)\S+")
_ARCHIVE = re.compile(r"\.(whl|zip|tar|tar\.(gz|bz2|xz|zst)|tgz|tbz|txz)$", re.I)
_VCS = re.compile(r"^(?:(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[[^\]]*\])?\s*@\s*)?(?P<vcs>git|hg|bzr|svn)\+(?P<url>\S+)")
_VALUED = {
    "-r": "include", "--requirement": "include", "-c": "constraint", "--constraint": "constraint", "-e": "editable", "--editable": "editable",
    "-i": "index", "--index-url": "index", "--extra-index-url": "index", "-f": "links", "--find-links": "links",
    "--trusted-host": "refused", "--no-binary": "kept", "--only-binary": "kept",
}  # fmt: skip
_FLAGS = {"--pre", "--prefer-binary", "--require-hashes", "--no-index"}


class LineKind(StrEnum):
    """What a line of a requirements file is."""

    PACKAGE = "package"
    URL = "url"
    GIT = "git"
    LOCAL = "local"
    INCLUDE = "include"
    CONSTRAINT = "constraint"
    INDEX = "index"
    LINKS = "links"
    OPTION = "option"


@dataclass(frozen=True)
class RequirementLine:
    """One logical line.

    ``file`` and ``line`` (from 1, where it starts) say where; ``text`` is the line itself without comment. ``name`` is the canonical package
    name where one is written. ``value`` is the path, URL or option that it names. ``pinned`` says that the same line always installs the same.
    ``constrains`` says that it stands in a file that ``-c`` names: it installs nothing, and holds only what something else installs.
    """

    kind: LineKind
    file: str
    line: int
    text: str
    name: str = ""
    value: str = ""
    pinned: bool = False
    constrains: bool = False


def parse_requirements(path: str, content: bytes) -> list[RequirementLine]:
    """Return the lines of one requirements file of the repository, comments and blank lines left out.

    Raises RecipeError with file and line.
    """
    lines = [_parse_line(path, number, text) for number, text in _join_lines(path, decode_text(path, content))]
    if len(lines) > MAX_LINES:
        raise RecipeError(f"This file has {len(lines)} requirements; at most {MAX_LINES} are accepted. Split the project.", file=path)
    return lines


def decode_text(path: str, content: bytes) -> str:
    """Return a file's text. Raises RecipeError, which names line and byte, if it is not UTF-8."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        column = error.start - (content.rfind(b"\n", 0, error.start) + 1) + 1
        byte = content[error.start]
        raise RecipeError(f"Byte {column} of this line (0x{byte:02x}) is not UTF-8. Save the file as UTF-8.", file=path, line=line) from error
    if "\0" in text:
        raise RecipeError("The file holds a NUL byte. Save it as plain UTF-8 text.", file=path, line=text.count("\n", 0, text.index("\0")) + 1)
    return text


def _join_lines(path: str, text: str) -> Iterator[tuple[int, str]]:
    """Yield (number, logical line): continuation joined, comments and surrounding space removed.

    A comment ends with its line, whatever it ends with: so it is for uv, while pip would go on.
    """
    start, pending = 0, ""
    for number, raw in enumerate([*re.split(r"\r\n|\r|\n", text), ""], 1):
        start = start or number
        bare = _COMMENT.sub("", raw)
        if bare == raw and raw.endswith("\\"):
            pending += raw[:-1]
            continue
        line = (pending + bare).strip()
        if line:
            if _VARIABLE.search(line):
                raise RecipeError("A ${VARIABLE} can't be used here: the build has none of yours. Write the value itself.", file=path, line=start)
            if pending and line.startswith("-"):
                raise RecipeError("An option must stand on one line, without “\\” at its end.", file=path, line=start)
            yield start, line
        start, pending = 0, ""


def _parse_line(path: str, number: int, text: str) -> RequirementLine:
    if text.startswith("-"):
        return _parse_option(path, number, text)
    return _parse_package(path, number, text)


def _parse_option(path: str, number: int, text: str) -> RequirementLine:
    match = re.fullmatch(r"(--?[A-Za-z][A-Za-z-]*)(?:(?:=|\s+)(.*))?", text)
    option, value = (match[1], _unquote(match[2] or "")) if match else (re.split(r"[\s=]", text, maxsplit=1)[0][:40], "")
    if option in _FLAGS:
        if value:
            raise RecipeError(f"{option} stands alone on its line. Write the rest on a line of its own.", file=path, line=number)
        return RequirementLine(LineKind.OPTION, path, number, text, value=option)
    if not option.startswith("--") and len(option) > 2 and option[:2] in _VALUED:
        raise RecipeError(f"Write a space after {option[:2]}.", file=path, line=number)
    meaning = _VALUED.get(option)
    if meaning is None:
        raise RecipeError(f"The option {option} is not supported in a requirements file here. Remove it.", file=path, line=number)
    if meaning == "refused":
        raise RecipeError(f"{option} would switch off a check of the package index. Remove the line.", file=path, line=number)
    if not value:
        raise RecipeError(f"{option} needs a value.", file=path, line=number)
    return _make_option(path, number, text, meaning, option, value)


def _unquote(value: str) -> str:
    value = value.strip()
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"" else value


def _make_option(path: str, number: int, text: str, meaning: str, option: str, value: str) -> RequirementLine:
    if meaning in {"include", "constraint"}:
        target = resolve_path(path, number, value)
        return RequirementLine(LineKind(meaning), path, number, text, value=target)
    if meaning == "editable":
        return _parse_package(path, number, value, editable=True)
    if meaning == "index" or (meaning == "links" and re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", value)):
        kind = LineKind.INDEX if meaning == "index" else LineKind.LINKS
        _check_web_address(path, number, value)
        if re.search(r"[#?]|/\.|%2e", value, re.I):
            raise RecipeError("Remove “#”, “?” and “..” from this address.", file=path, line=number)
        return RequirementLine(kind, path, number, text, value=value)
    if meaning == "links":
        return RequirementLine(LineKind.LINKS, path, number, text, value=resolve_path(path, number, value))
    return RequirementLine(LineKind.OPTION, path, number, text, value=option)


def _check_web_address(path: str, number: int, url: str) -> str:
    """Return an http(s) address as it is. Raises RecipeError for anything else, and for what readers of URLs disagree about."""
    try:
        host = urlsplit(url).hostname
    except ValueError:
        host = None
    if not host or not url.startswith(("http://", "https://")) or re.search(r"[\s\\\x00-\x1f\x7f]", url):
        raise RecipeError("This must be an address such as https://packages.example.org/simple.", file=path, line=number)
    if "@" in url.partition("://")[2].partition("/")[0]:
        raise RecipeError("Remove the credential from this address, and change it: it is in the repository's history.", file=path, line=number)
    return url


def _parse_package(path: str, number: int, text: str, editable: bool = False) -> RequirementLine:
    shown = f"-e {text}" if editable else text
    vcs = _VCS.match(text)
    if vcs:
        return _parse_vcs(path, number, shown, vcs)
    bare = _HASH.sub("", text).strip()
    if _is_local(bare):
        return RequirementLine(LineKind.LOCAL, path, number, shown, value=_resolve_local(path, number, bare))
    if re.match(r"^https?://", bare):
        url = _check_web_address(path, number, re.split(r"\s", bare, maxsplit=1)[0])
        return RequirementLine(LineKind.URL, path, number, shown, name=_guess_name(url), value=url, pinned="#sha256=" in url or bare != text)
    try:
        requirement = Requirement(bare)
    except InvalidRequirement as error:
        reason = str(error).splitlines()[0]
        raise RecipeError(f"“{text[:120]}” is not a requirement that pip understands ({reason}).", file=path, line=number) from error
    if requirement.url and not re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", requirement.url):
        kind, value, pinned = LineKind.LOCAL, _resolve_local(path, number, requirement.url), False
    elif requirement.url:
        if requirement.url.startswith("file:"):
            raise RecipeError("file: points to a disk that the build does not have. Use a path relative to the repository's root.", file=path, line=number)
        kind, value, pinned = LineKind.URL, _check_web_address(path, number, requirement.url), "#sha256=" in requirement.url or bare != text
    else:
        kind, value = LineKind.PACKAGE, str(requirement.specifier)
        pinned = any(s.operator == "===" or (s.operator == "==" and not s.version.endswith(".*")) for s in requirement.specifier)
    return RequirementLine(kind, path, number, shown, name=canonicalize_name(requirement.name), value=value, pinned=pinned)


def _parse_vcs(path: str, number: int, text: str, match: re.Match[str]) -> RequirementLine:
    url = match["url"]
    if match["vcs"] != "git" or not url.startswith("https://"):
        raise RecipeError("Only git+https:// is supported for packages from a repository.", file=path, line=number)
    parts = urlsplit(_check_web_address(path, number, url.partition("#")[0]))
    egg = re.search(r"#(?:.*&)?egg=([A-Za-z0-9._-]+)", url)
    name = match["name"] or (egg[1] if egg else "")
    ref = parts.path.rpartition("@")[2] if "@" in parts.path else ""
    pinned = bool(re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", ref))
    if not name and not pinned:  # only by its name can the build be held to the commit that the plan found
        raise RecipeError(f"This package needs its name, or a commit. Write “name @ git+{url}”.", file=path, line=number)
    return RequirementLine(LineKind.GIT, path, number, text, name=canonicalize_name(name) if name else "", value=url, pinned=pinned)


def split_git(value: str) -> tuple[str, str, str]:
    """Return (address of the repository, ref or the empty string, fragment) of a ``git+`` requirement's URL."""
    address, _, fragment = value.partition("#")
    scheme, _, rest = address.partition("://")
    host, slash, path = rest.partition("/")
    path, _, ref = path.rpartition("@") if "@" in path else (path, "", "")
    return f"{scheme}://{host}{slash}{path}", ref, fragment


def pin_git(line: RequirementLine, commit: str) -> str:
    """Return the requirement that holds a named ``git+`` line to a commit, with its extras and marker: it stands in for the line as a whole."""
    url, _, fragment = split_git(line.value)
    head, _, rest = line.text.removeprefix("-e ").partition("git+")
    extras = re.search(r"\[[^\]]*\]", head) or re.search(r"(?<=[A-Za-z0-9])\[[^\]&]*\]", fragment)
    kept = "&".join(part for part in fragment.split("&") if part and not part.startswith("egg="))
    marker = rest.removeprefix(line.value).strip()
    return f"{line.name}{extras[0] if extras else ''} @ git+{url}@{commit}{'#' + kept if kept else ''}{' ' + marker if marker else ''}"


def _is_local(text: str) -> bool:
    if text.startswith(("file:", "./", "../", "/", ".\\", "~")) or text in {".", ".."} or re.match(r"^\.\[", text):
        return True
    head = re.split(r"[\s;@<>=!~\[]", text, maxsplit=1)[0]
    if _ARCHIVE.search(head) and "://" not in head:
        return True
    return "/" in head and "://" not in text.partition("@")[0] and not re.match(r"^[A-Za-z][A-Za-z0-9+.-]*://", text)


def _resolve_local(path: str, number: int, text: str) -> str:
    """Return the repository path of a package: pip and uv take it from where they run, which is the root, and not from this file."""
    target = re.sub(r"\[[A-Za-z0-9_.,\s-]*\]$", "", re.split(r"\s*;|\s+#", text, maxsplit=1)[0].strip())
    return resolve_path(path, number, target, directory="")


def _guess_name(url: str) -> str:
    """Return the package that a wheel's or archive's file name starts with (PEP 427), or the empty string."""
    stem = urlsplit(url).path.rsplit("/", 1)[-1]
    match = re.match(r"^([A-Za-z0-9](?:[A-Za-z0-9._]*[A-Za-z0-9])?)-\d", stem)
    return canonicalize_name(match[1]) if match else ""


def resolve_path(file: str, line: int | None, target: str, directory: str | None = None) -> str:
    """Return the repository path of ``target`` as written in ``file``: relative to it (or to ``directory``), ``.`` for the root.

    Raises RecipeError for absolute paths, for URLs and for paths that leave the repository.
    """
    directory = posixpath.dirname(file) if directory is None else directory
    if target.startswith("file:") or "://" in target:
        raise RecipeError("Only files of the repository can be named here, by a relative path.", file=file, line=line)
    if target.startswith(("/", "~")) or re.match(r"^[A-Za-z]:\\", target):
        raise RecipeError("An absolute path is not part of the repository. Use a relative path.", file=file, line=line)
    joined = posixpath.normpath(posixpath.join(directory, target))
    if joined == ".." or joined.startswith("../"):
        raise RecipeError(f"“{target}” leads out of the repository. Move the file into it.", file=file, line=line)
    return joined
