"""Whether an image can be a base: the contract of the Jupyter docker-stacks, looked up in a container of it, and a kernel that answers."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any

from hubdock.core.contract import BaseImage
from hubdock.core.errors import BackendError, BuildError, HubDockError
from hubdock.doctor import Check
from hubdock.drivers import docker
from hubdock.drivers.job import Job
from hubdock.engine.backend_docker import DockerBackend
from hubdock.engine.step_base import make_identity, probe
from hubdock.engine.work import GUEST

_PROGRAMS = ("start.sh", "tini", "jupyterhub-singleuser", "jupyter", "git", "git-lfs", "dvc", "ssh")
_LOOK = 'echo "hubdock $(id -u) $(id -g) $HOME"; stat -c "owner %u" /opt/conda; for name in "$@"; do command -v "$name" >/dev/null && echo "has $name"; done; :'


def check_base(reference: str) -> Iterator[Check]:
    """Yield what ``doctor --base`` tells of an image: every part of the contract that it breaks, or that a kernel answers in it."""
    try:
        if docker.inspect_image(reference) is None:
            yield Check(reference, "fail", "the Docker Engine does not have this image", f"Run `docker pull {reference}`, or check the name.")
            return
        checks = list(check_contract("contract", reference))
        yield from checks
        if all(check.status != "fail" for check in checks):
            yield _check_kernel(reference)
    except HubDockError as error:
        yield Check(reference, "fail", error.message)


def check_contract(name: str, reference: str) -> Iterator[Check]:
    """Yield one ok, or a failure for each part of the contract that an image of this engine breaks. Raises BackendError if the engine is away."""
    inspection = docker.inspect_image(reference)
    if inspection is None:
        yield Check(name, "fail", f"{reference} was removed a moment ago", "Start again.")
        return
    base, own_dvc = _look(reference, inspection)
    problems = base.find_problems()
    for problem in problems:
        what, _, mend = problem.partition(". ")
        yield Check(name, "fail", f"{reference}: {what}", mend)
    if problems:
        return
    versions = ", ".join(f"{package} {base.packages[package]}" for package in ("jupyterlab", "jupyterhub"))
    yield Check(name, "ok", f"{reference}: Python {base.python} in /opt/conda, jovyan 1000:100, {versions}")
    added = [what for what, there in (("DVC", own_dvc), ("git-lfs", "git-lfs" in base.programs)) if not there]
    if added:
        yield Check(name, "ok", f"{reference}: {' and '.join(added)} will be added at its first use")


def _look(reference: str, inspection: dict[str, Any]) -> tuple[BaseImage, bool]:
    """Return what an image is. Where its Python does not run, a shell says the rest; where there is no shell either, the image's settings do."""
    try:
        return probe(DockerBackend(), reference, inspection)
    except BuildError:
        lines = _look_with_shell(inspection)
    except BackendError:  # the engine refuses to start a program that is not there
        docker.describe_engine()
        lines = _look_with_shell(inspection)
    user, group, home = _find_settings(inspection)
    told = re.match(r"hubdock (\d+) (\d+) ?(.*)", next((line for line in lines if line.startswith("hubdock ")), ""))
    if told:
        user, group, home = int(told[1]), int(told[2]), told[3]
    owner = next((int(line.split()[1]) for line in lines if line.startswith("owner ")), -1)
    programs = tuple(line.removeprefix("has ") for line in lines if line.startswith("has "))
    return BaseImage(reference, inspection["Id"], make_identity(inspection), "", {}, programs, user, group, home, owner), False


def _look_with_shell(inspection: dict[str, Any]) -> list[str]:
    job = Job(inspection["Id"], ["/bin/sh", "-c", _LOOK, "sh", *_PROGRAMS], entrypoint=[], timeout=60)
    try:
        return list(docker.run_job(job).tail)
    except BackendError:
        return []


def _find_settings(inspection: dict[str, Any]) -> tuple[int, int, str]:
    """Return user, group and home as an image's own settings have them."""
    config = inspection.get("Config") or {}
    user, _, group = str(config.get("User") or "0").partition(":")
    home = next((entry.partition("=")[2] for entry in config.get("Env") or () if entry.startswith("HOME=")), "")
    return int(user) if user.isdigit() else -1, int(group) if group.isdigit() else 0, home


def _check_kernel(reference: str) -> Check:
    began = time.monotonic()
    result = docker.run_job(make_smoke_job(reference))
    said = result.tail[-1].removeprefix("smoke test: ") if result.tail else "it ended without a word"
    if result.code:
        mend = "Run `jupyter lab` in a container of it: its output says more. Check the versions of Jupyter's packages."
        return Check("kernel", "fail", "it was killed for the memory it took" if result.out_of_memory else said, mend)
    return Check("kernel", "ok", f"{said} ({time.monotonic() - began:.1f} s)")


def make_smoke_job(image: str) -> Job:
    """Return the container that starts Jupyter and a kernel in an image, as builds try their result."""
    files = {f"/hubdock/guest/{name}": (GUEST / name).read_bytes() for name in ("smoke.py", "server.py")}
    return Job(image, ["/opt/conda/bin/python", "/hubdock/guest/smoke.py"], entrypoint=[], files=files, user="1000:100", timeout=180.0)
