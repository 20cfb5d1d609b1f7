"""BuildKit's own record of its solves, from the engine's gRPC API (``moby.buildkit.v1.Control/ListenBuildHistory``): builds are counted, not assumed.

The messages are read by hand: https://github.com/moby/buildkit/blob/master/api/services/control/control.proto.
"""

from __future__ import annotations

import contextlib
import os
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc

_UPGRADE = b"POST /grpc HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"


def _pipe(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while chunk := source.recv(1 << 16):
            target.sendall(chunk)
    for end in (source, target):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def _bridge(listener: socket.socket) -> None:
    """Lead each connection to the engine's /grpc, which wants to be upgraded from HTTP/1.1 first."""
    while True:
        try:
            near, _ = listener.accept()
        except OSError:
            return
        far = socket.socket(socket.AF_UNIX)
        far.connect(os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock").removeprefix("unix://"))
        far.sendall(_UPGRADE)
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += far.recv(1)
        assert b" 101 " in head.split(b"\r\n")[0], head
        threading.Thread(target=_pipe, args=(near, far), daemon=True).start()
        threading.Thread(target=_pipe, args=(far, near), daemon=True).start()


def _fields(message: bytes) -> Iterator[tuple[int, bytes | int]]:
    """Yield (number, value) of the fields of a protobuf message."""
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    while at < len(message):
        tag = varint()
        kind = tag & 7
        if kind == 0:
            yield tag >> 3, varint()
        elif kind == 2:
            size = varint()
            yield tag >> 3, message[at : at + size]
            at += size
        else:
            at += 8 if kind == 1 else 4


@contextlib.contextmanager
def _control() -> Iterator[grpc.Channel]:
    """Hold a channel to the BuildKit of the engine that ``DOCKER_HOST`` names."""
    with tempfile.TemporaryDirectory() as directory:
        path = str(Path(directory) / "buildkit.sock")
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen()
        threading.Thread(target=_bridge, args=(listener,), daemon=True).start()
        with grpc.insecure_channel(f"unix:{path}", options=[("grpc.default_authority", "docker")]) as channel:
            yield channel
        listener.close()


def _ask(channel: grpc.Channel, method: str, request: bytes) -> Iterator[tuple[int, bytes | int]]:
    """Yield the fields of the messages that a method streams."""
    call = channel.unary_stream(f"/moby.buildkit.v1.Control/{method}", lambda value: value, lambda value: value)
    for message in call(request, timeout=20):
        yield from _fields(message)


def list_solves() -> dict[str, str]:
    """Return ``{ref: configuration of the image that came out, or empty}`` of every solve that BuildKit remembers."""
    solves = {}
    with _control() as channel:
        for number, value in _ask(channel, "ListenBuildHistory", b"\x18\x01"):  # early_exit = true
            if number == 2 and isinstance(value, bytes):  # BuildHistoryEvent.record
                record = list(_fields(value))
                ref = next(item.decode() for name, item in record if name == 1 and isinstance(item, bytes))
                answers = b"".join(item for name, item in record if name == 9 and isinstance(item, bytes))  # ExporterResponse
                solves[ref] = answers.decode("utf-8", "replace")
    return solves


def _seconds(timestamp: bytes) -> float:
    """Return a google.protobuf.Timestamp as seconds since the epoch."""
    found = dict(_fields(timestamp))
    return float(found.get(1, 0)) + float(found.get(2, 0)) / 1e9


def list_steps(refs: set[str]) -> list[tuple[str, float]]:
    """Return (name, seconds) of the steps that these solves did to their end: neither found in the cache, nor failed, nor interrupted.

    A step that a solve shares with another one that has just done it is told for both; the second time it takes no time.
    """
    done = []
    with _control() as channel:
        for ref in refs:
            steps: dict[bytes, dict[int, bytes | int]] = {}
            for number, value in _ask(channel, "Status", b"\x0a" + bytes([len(ref)]) + ref.encode()):
                if number == 1 and isinstance(value, bytes):  # StatusResponse.vertexes, told again when they change
                    vertex = dict(_fields(value))
                    steps.setdefault(vertex[1], {}).update(vertex)  # type: ignore[arg-type]
            for step in steps.values():  # Vertex: 3 name, 4 cached, 5 started, 6 completed, 7 error
                if 6 in step and not step.get(4) and not step.get(7):
                    done.append((bytes(step[3]).decode(), _seconds(step[6]) - _seconds(step[5])))  # type: ignore[arg-type]
    return done


class SolveCounter:
    """Counts the solves since it was made. BuildKit keeps the last 50 or so, so count over short spans."""

    def __init__(self) -> None:
        self._before = set(list_solves())

    def new(self, kind: str, needle: str = "") -> int:
        """Return how many solves made a kind of hubdock's images ("environment", "image") whose labels hold a text."""
        return self._count(list_solves(), kind, needle)

    def take(self, *asked: tuple[str, str]) -> tuple[int, ...]:
        """Return `new` of each (kind, text), and count anew from here on. BuildKit is asked once, which takes a second where it remembers thousands."""
        solves = list_solves()
        found = tuple(self._count(solves, kind, needle) for kind, needle in asked)
        self._before = set(solves)
        return found

    def _count(self, solves: dict[str, str], kind: str, needle: str) -> int:
        wanted = f'"hubdock.kind":"{kind}"'
        return sum(1 for ref, text in solves.items() if ref not in self._before and wanted in text and needle in text)

    def all(self) -> int:
        """Return how many solves there were, of whatever, failed ones too."""
        return len(set(list_solves()) - self._before)

    def steps(self, least: float = 0.0) -> list[str]:
        """Return the names of the RUN and COPY steps that were done to their end and took so many seconds, once for each time."""
        found = list_steps(set(list_solves()) - self._before)
        return [name for name, seconds in found if ("] RUN " in name or "] COPY " in name) and seconds >= least]
