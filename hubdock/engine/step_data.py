"""Fetching the data of one key into the shared store, in a container that alone holds the credentials of the remotes."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import IO, Any

from hubdock.core.dockerfile import GID, UID, render_data
from hubdock.core.dvcconfig import is_literal
from hubdock.core.errors import BackendError, ConfigError, DataDenied, DataError, DataNotFound, OutOfSpace
from hubdock.core.events import Phase
from hubdock.core.resources import format_bytes
from hubdock.core.text import redact
from hubdock.drivers.context import Context
from hubdock.drivers.job import Job, VolumeMount
from hubdock.drivers.secrets import read_secret
from hubdock.drivers.solve import BuildRequest, StepFailed
from hubdock.engine.store import fetching
from hubdock.engine.work import GUEST, Work

_PROGRAM, _REQUEST = "/hubdock-fetch/fetch.py", "/hubdock-fetch/request.json"
STORE_LABELS = {"hubdock.store": "data"}
NAMED = 5
# What S3, GCS, Azure, SSH and web servers say through DVC to somebody whom they don't let in.
_DENIED = re.compile(
    r"\(40[13]\)|\b40[13],|\b40[13] client error|unauthori[sz]ed|forbidden|access ?denied|permission denied|unable to locate credentials|invalid credentials|no credentials|InvalidAccessKeyId|"
    r"SignatureDoesNotMatch|authentication failed|anonymous caller", re.I,
)  # fmt: skip
_TROUBLE = re.compile(r"\b50\d\b|\b30[1278]\b|redirect|reset|refused|timed? ?out|disconnected|certificate|name resolution|cannot connect", re.I)


def run(work: Work) -> None:
    """Fetch into the store, or into an image, and leave in the result how many bytes came."""
    spec = work.spec
    work.phase(Phase.FETCHING, f"data, {format_bytes(spec['size'])}" if spec["size"] else "data")
    remotes, secrets = _open_remotes(spec["remotes"])
    request = {"key": spec["key"], "scope": spec["scope"], "outs": spec["outs"], "remotes": remotes, "silence": spec["silence"]}
    listener = _Listener(work, secrets)
    if spec["tag"]:
        _fetch_into_image(work, request, listener)
    else:
        _fetch_into_store(work, request, listener)
    work.data |= {name: listener.answer[name] for name in ("fetched", "files", "bytes") if name in listener.answer}


def _fetch_into_store(work: Work, request: dict[str, Any], listener: _Listener) -> None:
    """Run the program with the store's volume, and leave in the result which one that is."""
    spec = work.spec
    volume = work.backend.ensure_volume(spec["volume"], STORE_LABELS)
    files = {_PROGRAM: (GUEST / "fetch.py").read_bytes(), _REQUEST: json.dumps(request).encode()}
    job = Job(
        spec["image"], ["/opt/dvc/bin/python", "-I", _PROGRAM, _REQUEST], entrypoint=[], mounts=[VolumeMount(spec["volume"], "/store")], files=files,
        env={**spec["proxies"], "AWS_EC2_METADATA_DISABLED": "true"}, user="0:0", network=spec["network"], timeout=spec["timeout"],
    )  # fmt: skip
    with fetching(Path(spec["state"])):
        result = work.backend.run_job(job, listener.hear, work.stop)
    work.check()
    if result.code or not listener.answer.get("done"):
        raise _name_failure(spec, listener, "\n".join(result.tail))
    work.data |= {"volume": spec["volume"], "volume_created": volume["CreatedAt"]}


def _fetch_into_image(work: Work, request: dict[str, Any], listener: _Listener) -> None:
    """Run the program as a step of a build, to which the credentials are a secret. Who joins a build that somebody else began may hear nothing of it."""
    spec = work.spec
    dockerfile = render_data(
        work.backend.name_image(spec["image"]), key=spec["key"], target=spec["target"], cache=f"hubdock-data-{spec['scope']}", labels=spec["labels"]
    )

    def write_context(target: IO[bytes]) -> None:
        context = Context(target, (UID, GID))
        context.add_bytes("Dockerfile", dockerfile.encode())
        context.add_bytes("fetch/fetch.py", (GUEST / "fetch.py").read_bytes())
        context.close()

    build = BuildRequest(spec["tag"], secrets={"request": json.dumps(request)}, args=spec["proxies"], past=spec["past"], timeout=spec["timeout"], scope=spec["scope"])
    try:
        work.solve(build, write_context, listener.hear)
    except StepFailed as error:
        raise _name_failure(spec, listener, "\n".join(error.tail), place="the build's node") from error


def _open_remotes(remotes: dict[str, dict[str, str]]) -> tuple[dict[str, dict[str, str]], list[str]]:
    """Return the remotes with the contents of the ``…_file`` options, and those contents."""
    opened: dict[str, dict[str, str]] = {}
    secrets = []
    for name, options in remotes.items():
        opened[name] = {}
        for option, value in options.items():
            if option.endswith("_file"):
                value = read_secret(value)
                secrets.append(value)
                if not is_literal(value):
                    raise ConfigError(f"{option} of HubDock.dvc_remotes holds “%(” by now, which DVC's configuration can't take as it is. Tell an administrator.")
            opened[name][option.removesuffix("_file")] = value
    return opened, secrets


class _Listener:
    """Hears what the fetching program prints: its own messages as JSON, everything else as log."""

    def __init__(self, work: Work, secrets: list[str]) -> None:
        self.work = work
        self.secrets = secrets
        self.answer: dict[str, Any] = {}
        self.lines: list[str] = []
        self.started = time.monotonic()

    def hear(self, line: str) -> None:
        if not line.startswith("hubdock {"):
            line = redact(line, self.secrets)
            self.lines.append(line)
            self.work.log(line)
            return
        try:
            self.answer = json.loads(line.removeprefix("hubdock "))
        except ValueError:  # a builder cuts what is very long
            return
        if "bytes" in self.answer and not self.answer.get("done"):
            size, known = int(self.answer["bytes"]), self.work.spec["size"]
            rate = size / max(time.monotonic() - self.started, 0.1)
            message = f"{format_bytes(size)}{f' of {format_bytes(known)}' if known else ''}, {self.answer['files']} files, {format_bytes(int(rate))}/s"
            self.work.progress(100.0 * size / known if known else 0.0, message)


def _name_failure(spec: dict[str, Any], listener: _Listener, text: str, place: str = "the Docker host") -> Exception:
    text = redact(text, listener.secrets)
    if "No space left" in text:
        return OutOfSpace.on(place, text)
    answer = listener.answer
    said = next((line for line in reversed(listener.lines) if line.strip()), "")
    urls = ", ".join(sorted({redact(remote["url"]) for remote in spec["remotes"].values()}))
    if answer.get("silent"):
        return BackendError(
            f"The data could not be fetched: {urls} sent nothing for {answer['silent']:g} s. Try again in a moment; what came so far is kept. If it stays so, "
            "tell an administrator.", text,
        )  # fmt: skip
    denied = next((line for line in listener.lines if _DENIED.search(line)), "")
    if denied:
        return DataDenied(
            f"The data could not be fetched: {urls} did not let the hub in. An administrator gives the hub its credentials (HubDock.dvc_remotes). DVC says: {denied[:300]}", text,
        )  # fmt: skip
    if answer.get("missing"):
        count, names = answer["count"], answer["missing"][:NAMED]
        more = f" and {count - len(names)} more" if count > len(names) else ""
        source = next((out["source"] for out in spec["outs"] if f"{names[0]}/".startswith(f"{out['path']}/")), None)
        kind = DataError if any(_TROUBLE.search(line) for line in listener.lines) else DataNotFound
        return kind(
            f"{count} {'file' if count == 1 else 'files'} of the data could not be fetched from {urls}: {', '.join(names)}{more}. "
            f"If they were never pushed, run `dvc push` where they are. DVC says: {said[:300]}", text, file=source,
        )  # fmt: skip
    return DataError(f"The data could not be fetched. {said[:300]}", text)
