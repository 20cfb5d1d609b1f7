"""Data as an image: what a build is told, and what is made of the words of the program that fetches."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import pytest

from hubdock.core.errors import BackendError, DataDenied, DataNotFound, OutOfSpace
from hubdock.drivers.solve import BuildRequest, StepFailed
from hubdock.engine import step_data
from hubdock.engine.tasks import Reporter
from hubdock.engine.work import Work

SECRET = "s3cr3t-of-the-remote"
KEY = "d" * 64


class Building:
    """A back-end whose one step prints lines, and ends with an exit code."""

    def __init__(self, *lines: str, code: int = 0) -> None:
        self.lines, self.code = lines, code

    def name_image(self, tag: str) -> str:
        return f"registry.test/{tag}"

    def make_solver(self, request: BuildRequest, listen: Callable[[str, str, float], None]) -> Building:
        self.request, self.listen = request, listen
        return self

    def run(self, write_context: Callable[[IO[bytes]], None]) -> dict[str, float]:
        target = io.BytesIO()
        write_context(target)
        with tarfile.open(fileobj=io.BytesIO(target.getvalue())) as context:
            self.context = {name: file.read() for name in context.getnames() if (file := context.extractfile(name))}
        for line in self.lines:
            self.listen("log", line, 0.0)
        if self.code:
            raise StepFailed("RUN fetch.py", self.code, self.lines)
        return {"RUN fetch.py": 1.0}

    def cancel(self) -> None:
        return


def fetch(directory: Path, backend: Building) -> Work:
    password = directory / "password"
    password.write_text(SECRET)
    password.chmod(0o600)
    spec: dict[str, Any] = {
        "kind": "data", "key": KEY, "tag": f"hubdock/data:{KEY}", "target": "/hubdock/data/dddddddd", "labels": {"hubdock.data": KEY}, "image": "hubdock/base:1",
        "scope": "private", "outs": [{"path": "images", "source": "images.dvc"}], "size": 100, "silence": 60.0, "proxies": {"https_proxy": "http://proxy:3128"},
        "remotes": {"r0": {"url": "https://data.test/x", "password_file": str(password)}}, "past": {}, "timeout": 60.0, "state": str(directory),
    }  # fmt: skip
    work = Work(spec, Reporter(directory))
    work.__dict__["backend"] = backend
    step_data.run(work)
    return work


def say(**values: Any) -> str:
    return f"hubdock {json.dumps(values)}"


def test_credentials_go_to_the_step_alone(tmp_path: Path) -> None:
    backend = Building(f"DVC says {SECRET}", say(files=1, bytes=50), say(done=True, fetched=100, files=2, bytes=100))
    work = fetch(tmp_path, backend)
    assert json.loads(backend.request.secrets["request"])["remotes"]["r0"]["password"] == SECRET
    assert backend.request.args == {"https_proxy": "http://proxy:3128"} and backend.request.scope == "private" and backend.request.tag == f"hubdock/data:{KEY}"
    assert set(backend.context) == {"Dockerfile", "fetch/fetch.py"} and SECRET.encode() not in b"".join(backend.context.values())
    assert work.data == {"fetched": 100, "files": 2, "bytes": 100}
    told = "".join(path.read_text() for path in tmp_path.rglob("*") if path.is_file() and path.name != "password")
    assert SECRET not in told and "DVC says ***" in told and "50 bytes of 100" in told


def test_a_build_that_somebody_else_made_says_nothing(tmp_path: Path) -> None:
    assert fetch(tmp_path, Building()).data == {}


@pytest.mark.parametrize(
    ("lines", "kind", "words"),
    [
        (("nothing under these hashes", say(missing=["images/a"], count=1, code=1)), DataNotFound, "run `dvc push` where they are"),
        ((f"403 Forbidden for {SECRET}", say(missing=["images/a"], count=1, code=1)), DataDenied, "did not let the hub in"),
        ((say(silent=60.0),), BackendError, "sent nothing for 60 s"),
        (("cp: error: No space left on device",), OutOfSpace, "the build's node"),
        (('hubdock {"missing": ["cut sh', "the remote has nothing"), BackendError, "could not be fetched"),
    ],
)
def test_a_failure_is_named_as_in_the_store(lines: tuple[str, ...], kind: type[BackendError], words: str, tmp_path: Path) -> None:
    with pytest.raises(Exception, match=words) as caught:
        fetch(tmp_path, Building(*lines, code=1))
    assert isinstance(caught.value, kind) or kind is BackendError
    assert SECRET not in f"{caught.value} {getattr(caught.value, 'detail', '')}"
    if kind is DataNotFound:
        assert getattr(caught.value, "file", "") == "images.dvc"
