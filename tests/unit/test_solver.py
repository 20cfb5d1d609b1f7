"""What the end of a solve means, from what ``docker buildx`` says."""

from __future__ import annotations

import pytest

from hubdock.core.errors import BuilderUnavailable, HubDockError, ImageGone, OutOfSpace, RegistryUnavailable
from hubdock.drivers.buildkit import Solver
from hubdock.drivers.solve import BuildRequest

KEY = "a" * 64


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("ERROR: Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?", BuilderUnavailable),
        ('ERROR: error during connect: Head "http://%2Fx.sock/_ping": read unix @->/x.sock: read: connection reset by peer', BuilderUnavailable),
        ("ERROR: failed to receive status: rpc error: code = Unavailable desc = error reading from server: EOF", BuilderUnavailable),
        (f"ERROR: failed to solve: hubdock/environment:{KEY}: failed to resolve source metadata for docker.io/hubdock/environment:{KEY}: pull access denied", ImageGone),
        ("ERROR: failed to solve: failed to resolve source metadata for quay.io/team/base:1: pull access denied", RegistryUnavailable),
        ("ERROR: failed to solve: write /var/lib/docker/overlay2/x: no space left on device", OutOfSpace),
    ],
)
def test_what_buildx_means(text: str, kind: type[HubDockError]) -> None:
    output = Solver(BuildRequest("hubdock/image:x"), lambda *_: None).output
    output.feed(f"{text}\n".encode())
    output.close()
    error = output.make_error()
    assert type(error) is kind and text in error.detail
