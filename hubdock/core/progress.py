"""BuildKit's progress: the JSON objects of ``docker buildx build --progress rawjson`` (buildx 0.13 and newer), to steps, percent and log lines.

Each object is a BuildKit ``SolveStatus`` (https://github.com/moby/buildkit/blob/master/client/graph.go); they are printed over several lines,
so a decoder must find where each ends.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

_DECODER = json.JSONDecoder()
# What a chunk may end with inside a literal or a number, which json reports as wrong where it begins.
_CUT = re.compile(r"(?:t|tr|tru|f|fa|fal|fals|n|nu|nul|N|Na|-?(?:I(?:n(?:f(?:i(?:n(?:i(?:t)?)?)?)?)?)?)?|\.|\.?[eE][+-]?)?")
MAX_OBJECT = 16 * 1024 * 1024
MAX_OUTPUT = 8 * 1024


class JSONStream:
    """Finds the objects in a stream of bytes; text that is no JSON (a warning of the CLI) comes out as text."""

    def __init__(self) -> None:
        self._text = ""
        self._decode = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, chunk: bytes) -> Iterator[dict[str, Any] | str]:
        """Yield what became whole with this chunk: an object, or a line of other text."""
        self._text += self._decode.decode(chunk)
        while self._text:
            self._text = self._text.lstrip()
            if not self._text.startswith("{"):
                line, newline, rest = self._text.partition("\n")
                if not newline:
                    return
                self._text = rest
                yield line.rstrip("\r")
                continue
            try:
                value, end = _DECODER.raw_decode(self._text)
            except json.JSONDecodeError as error:
                if len(self._text) > MAX_OBJECT:
                    self._text = ""
                if not _is_text(self._text, error):
                    return
                line, _, self._text = self._text.partition("\n")
                yield line.rstrip("\r")
                continue
            self._text = self._text[end:]
            yield value

    def close(self) -> str:
        """Return what was left unfinished."""
        rest, self._text = self._text.strip(), ""
        return rest


def _is_text(text: str, error: json.JSONDecodeError) -> bool:
    """True if what starts with a brace is no beginning of an object, whatever follows: its fault is not that it ends early."""
    rest = text[error.pos :].strip()
    cut = error.msg.startswith("Unterminated") or _CUT.fullmatch(rest) or (error.msg.startswith("Invalid \\") and len(rest) < len("\\uXXXX"))
    return "\n" in text and not cut


# What the steps of our own Dockerfiles do (`hubdock.core.dockerfile`), by a word in them. Their text holds keys, so it is another each time.
_NAMES = (
    ("install.py resolve", "resolve versions"), ("install.py wheels", "resolve and install packages"), ("install.py pinned", "install packages"),
    ("install.py source", "build packages from source"), ("install.py dvc", "install DVC"), ("smoke.py", "try Jupyter and a kernel"),
    ("apt-get install", "install Debian packages"), ("certificates.pem", "add certificates"), ("COPY --link", "copy files"), ("exporting", "write the image"),
)  # fmt: skip


def name_step(step: str) -> str:
    """Return what a step of BuildKit does, in words that are the same for every build; empty for what nobody waits for."""
    return next((words for mark, words in _NAMES if mark in step), "")


def name_steps(seconds: Mapping[str, float]) -> dict[str, float]:
    """Return seconds by step as seconds by `name_step`, those of one name together."""
    found: dict[str, float] = {}
    for step, taken in seconds.items():
        if name := name_step(step):
            found[name] = found.get(name, 0.0) + taken
    return found


@dataclass
class Step:
    """One vertex of the solve. ``seconds`` is how long it took once completed, ``output`` the end of what it printed."""

    name: str
    started: str = ""
    completed: str = ""
    cached: bool = False
    error: str = ""
    output: str = ""

    @property
    def seconds(self) -> float:
        """Seconds between BuildKit's own two times of this step, 0 for a cached or unfinished one."""
        return 0.0 if self.cached or not (self.started and self.completed) else max(0.0, _seconds(self.completed) - _seconds(self.started))


def _decode(text: str) -> str:
    """Return the text of a field that Go writes as base64, as it is if it is none."""
    try:
        return base64.b64decode(text, validate=True).decode("utf-8")
    except (binascii.Error, ValueError):
        return text


def _seconds(stamp: str) -> float:
    """Return the seconds of an RFC 3339 time with up to nine decimals."""
    match = re.match(r"^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?(Z|[+-]\d\d:\d\d)$", stamp)
    if not match:
        return 0.0
    return datetime.fromisoformat(match[1] + match[3].replace("Z", "+00:00")).timestamp() + float(match[2] or 0)


@dataclass
class Solve:
    """The state of one solve, fed with its status objects."""

    past: Mapping[str, float] = field(default_factory=dict)
    steps: dict[str, Step] = field(default_factory=dict)
    known: dict[str, float] = field(init=False)

    def __post_init__(self) -> None:
        self.known = name_steps(self.past)

    def feed(self, status: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """Take one status object in. Yield ("step", name) for each step that starts, ("done", name) or ("failed", name) where it ends, ("log", text)
        for output, ("error", text)."""
        for vertex in status.get("vertexes") or []:
            yield from self._feed_vertex(vertex)
        for log in status.get("logs") or []:
            try:
                text = base64.b64decode(log.get("data") or "").decode("utf-8", "replace")
            except (binascii.Error, ValueError, TypeError):
                continue
            if step := self.steps.get(str(log.get("vertex"))):  # steps run side by side, and each has its own last words
                step.output = (step.output + text)[-MAX_OUTPUT:]
            yield "log", text
        for warning in status.get("warnings") or []:
            short = warning.get("short") if isinstance(warning, dict) else None
            if isinstance(short, str):
                yield "log", f"warning: {_decode(short)}\n"

    def _feed_vertex(self, vertex: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        digest, name = str(vertex.get("digest")), str(vertex.get("name", ""))
        known = self.steps.get(digest)
        step = Step(
            name, str(vertex.get("started") or ""), str(vertex.get("completed") or ""), bool(vertex.get("cached")), str(vertex.get("error") or "")
        )
        if (known is None or not known.started) and step.started and not step.cached:
            yield "step", name
        if known is not None:
            step.started = step.started or known.started
            step.cached = step.cached or known.cached
            step.output = known.output
        self.steps[digest] = step
        if step.error and not (known and known.error):
            yield "error", step.error
        if step.started and step.completed and not step.cached and not (known and known.completed):
            yield "failed" if step.error else "done", name

    @property
    def percent(self) -> float:
        """0 to 100: finished steps over all known ones, weighed by how long each took the last time (an unknown one counts a second)."""
        total = sum(self._weight(step) for step in self.steps.values())
        done = sum(self._weight(step) for step in self.steps.values() if step.completed)
        return min(100.0, 100.0 * done / total) if total else 0.0

    def _weight(self, step: Step) -> float:
        return 0.01 if step.cached else max(0.05, self.past.get(step.name, self.known.get(name_step(step.name), 1.0)))

    @property
    def durations(self) -> dict[str, float]:
        """Seconds by step name, to weigh the next build with."""
        return {step.name: round(step.seconds, 2) for step in self.steps.values() if step.completed and not step.cached and not step.error}

    @property
    def failed(self) -> Step | None:
        """The step that ended in an error, the one that ran rather than one that was cancelled with it."""
        errors = [step for step in self.steps.values() if step.error]
        return next((step for step in errors if "context canceled" not in step.error), errors[0] if errors else None)
