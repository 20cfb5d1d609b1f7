"""``.hubdock.yml``: what the talk's Dockerfile could set, and nothing that could escape the build.

    base: tensorflow-2.20          # one of the admin's HubDock.base_images
    requirements: env/dev.txt      # instead of the usual places
    env: {PYTHONHASHSEED: "0"}
    labels: {team: vision}
    copy: [{from: jupyter/, to: ~/.jupyter}]
    command: [jupyter, lab]        # instead of Jupyter's own start
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass, field
from typing import Any

import yaml

from hubdock.core.errors import RecipeError
from hubdock.core.requirements import decode_text

FILE = ".hubdock.yml"
HOME = "/home/jovyan"
_ENV_NAME = re.compile(r"^[A-Za-z_][A-Za-z0-9_]{0,127}$")
_LABEL_NAME = re.compile(r"^[a-z0-9]([a-z0-9.-]{0,126}[a-z0-9])?$")
_RESERVED_ENV = re.compile(
    r"^(PATH|HOME|USER|SHELL|LANG|PYTHONPATH|PYTHONHOME|PYTHONSTARTUP|LD_.*|CONDA_.*|NB_.*|JUPYTERHUB_.*|JPY_.*|HUBDOCK_.*|GIT_.*"
    r"|SSL_CERT_.*|REQUESTS_CA_BUNDLE|PIP_.*|UV_.*|.*_proxy|.*_PROXY|CUDA_VISIBLE_DEVICES|NVIDIA_.*)$"
)
_COPY_ROOTS = ("/opt/", "/srv/", "/usr/local/share/", "/usr/local/etc/jupyter/")
_KEYS = ("base", "requirements", "env", "labels", "copy", "command")
MAX_TEXT = 4096


@dataclass(frozen=True)
class Project:
    """The settings of one repository. ``copy`` holds ``(source, destination)`` pairs; a destination in the home starts with ``/home/jovyan/``."""

    base: str = ""
    requirements: str = ""
    env: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    copy: tuple[tuple[str, str], ...] = ()
    command: tuple[str, ...] = ()

    @property
    def environment_settings(self) -> dict[str, Any]:
        """What of it goes into the environment key."""
        return {"base": self.base, "env": self.env, "labels": self.labels, "command": list(self.command)}


class _Loader(yaml.SafeLoader):
    """YAML without aliases' bombs; duplicate keys are errors."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.composer.ComposerError(None, None, "aliases are not accepted", self.peek_event().start_mark)  # type: ignore[no-untyped-call]
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if str(key.value) in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{str(key.value)[:60]!r} stands here twice", key.start_mark)
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


def parse_project(content: bytes) -> Project:
    """Return the settings of a ``.hubdock.yml``. Raises RecipeError with the line where one is known."""
    text = decode_text(FILE, content)
    loader = _make_loader(text)
    try:
        node = loader.get_single_node()
        values = None if node is None else loader.construct_document(node)
    except (yaml.YAMLError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:  # the later ones: ``!!bool x`` and the like
        mark = getattr(error, "problem_mark", None)
        reason = getattr(error, "problem", None) or "it can't be read"
        raise RecipeError(f"This is not valid YAML: {reason}.", file=FILE, line=mark.line + 1 if mark else None) from error
    finally:
        loader.dispose()
    if values is None:
        return Project()
    if not isinstance(values, dict):
        raise RecipeError("The file must hold settings of the form “name: value”.", file=FILE)
    return _make_project(values, _find_lines(node))


def _make_loader(text: str) -> _Loader:
    try:
        return _Loader(text)
    except yaml.reader.ReaderError as error:  # the text is looked through before anything of it is parsed
        line = text.count("\n", 0, error.position) + 1
        raise RecipeError(f"The file holds the character U+{error.character:04X}, which YAML does not allow. Remove it.", file=FILE, line=line) from error


def _find_lines(node: Any) -> dict[str, int]:
    return {key.value: key.start_mark.line + 1 for key, _ in node.value if isinstance(key, yaml.ScalarNode)}


def _make_project(values: dict[Any, Any], lines: dict[str, int]) -> Project:
    for name in values:
        if name not in _KEYS:
            raise RecipeError(f"The setting {str(name)[:60]!r} is unknown. Known: {', '.join(_KEYS)}.", file=FILE, line=lines.get(str(name)))
    at = lines.get
    return Project(
        base=_text(values.get("base", ""), "base", at("base")),
        requirements=_repo_path(values["requirements"], "requirements", at("requirements")) if "requirements" in values else "",
        env=_parse_env(values.get("env") or {}, at("env")),
        labels=_parse_labels(values.get("labels") or {}, at("labels")),
        copy=tuple(_parse_copy(item, at("copy")) for item in _list(values.get("copy") or [], "copy", at("copy"))),
        command=tuple(_text(item, "command", at("command")) for item in _list(values.get("command") or [], "command", at("command"))),
    )


def _text(value: Any, name: str, line: int | None) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise RecipeError(f"“{name}” must be text.", file=FILE, line=line)
    try:
        text = str(value)
    except ValueError:  # a number of thousands of digits
        text = "9" * (MAX_TEXT + 1)
    if len(text) > MAX_TEXT or any(ord(c) < 32 or ord(c) == 127 or 0xD800 <= ord(c) <= 0xDFFF for c in text):
        raise RecipeError(f"“{name}” holds a line break or control character, or is longer than {MAX_TEXT} characters.", file=FILE, line=line)
    return text


def _list(value: Any, name: str, line: int | None) -> list[Any]:
    if not isinstance(value, list) or len(value) > 100:
        raise RecipeError(f"“{name}” must be a list of at most 100 entries.", file=FILE, line=line)
    return value


def _mapping(value: Any, name: str, line: int | None) -> dict[str, str]:
    if not isinstance(value, dict) or len(value) > 100:
        raise RecipeError(f"“{name}” must hold at most 100 entries of the form “name: value”.", file=FILE, line=line)
    return {str(key): _text(item, f"{name}.{key}"[:80], line) for key, item in value.items()}


def _parse_env(value: Any, line: int | None) -> dict[str, str]:
    env = _mapping(value, "env", line)
    for name in env:
        if not _ENV_NAME.fullmatch(name):
            raise RecipeError(f"{name[:60]!r} is no name of an environment variable.", file=FILE, line=line)
        if _RESERVED_ENV.fullmatch(name):
            raise RecipeError(f"{name} is set by the hub or the image and can't be changed here.", file=FILE, line=line)
    return dict(sorted(env.items()))


def _parse_labels(value: Any, line: int | None) -> dict[str, str]:
    labels = _mapping(value, "labels", line)
    for name in labels:
        if not _LABEL_NAME.fullmatch(name) or name.startswith(("hubdock", "com.docker", "io.docker", "org.opencontainers")):
            raise RecipeError(f"{name[:60]!r} can't be a label: use lower case, digits, “.” and “-”, and none of the reserved prefixes.", file=FILE, line=line)
    return dict(sorted(labels.items()))


def _repo_path(value: Any, name: str, line: int | None) -> str:
    text = _text(value, name, line).removeprefix("./").rstrip("/")
    if text.startswith(("/", "~")) or ".." in text.split("/") or posixpath.normpath(text or ".") != (text or "."):
        raise RecipeError(f"“{name}” must be a path inside the repository, such as env/dev.txt.", file=FILE, line=line)
    return text


def _parse_copy(item: Any, line: int | None) -> tuple[str, str]:
    if not isinstance(item, dict) or set(item) != {"from", "to"}:
        raise RecipeError("Each entry of “copy” has a “from” (path in the repository) and a “to” (path in the image).", file=FILE, line=line)
    target = _text(item["to"], "copy.to", line)
    target = HOME + target[1:] if target.startswith("~/") else target
    target = target.rstrip("/")
    allowed = target.startswith((HOME + "/", *_COPY_ROOTS))
    if not allowed or posixpath.normpath(target) != target:
        raise RecipeError(f"“copy.to” must lie in ~/ or in one of {', '.join(_COPY_ROOTS)}.", file=FILE, line=line)
    return _repo_path(item["from"], "copy.from", line), target
