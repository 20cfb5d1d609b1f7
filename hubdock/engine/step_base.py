"""Making a team's base of an image: pulled if it is not here, looked into, and given what it lacks of DVC, LFS and certificates.

A newer image of a tag is pulled by its digest. The tag follows once that image was found good and is prepared: until then, and if it is not, starts
go on with the one before.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import IO, Any

from hubdock.core.contract import BaseImage
from hubdock.core.dockerfile import CONDA_PYTHON, render_base
from hubdock.core.errors import BuildError
from hubdock.core.events import Phase
from hubdock.core.keys import make_digest
from hubdock.core.naming import make_hash, make_tag
from hubdock.drivers.context import Context
from hubdock.drivers.job import Job
from hubdock.drivers.registry import split_reference
from hubdock.drivers.solve import BuildRequest, StepFailed
from hubdock.engine.backend import Backend
from hubdock.engine.step_environment import prepare_tools
from hubdock.engine.work import GUEST, Work

VERSION = 1


def run(work: Work) -> None:
    """Leave a `BaseImage` record and the tag that environments start from in the result."""
    spec = work.spec
    reference = spec["reference"]
    found = _ensure_image(work, f"{split_reference(reference)[0]}@{spec['digest']}" if spec["digest"] else reference)
    work.phase(Phase.BUILDING, f"looking into {reference}")
    base, own_dvc = probe(work.backend, reference, found)
    problems = base.find_problems()
    if problems:
        raise BuildError(f"{reference} can't be used as a base image. {' '.join(problems)}")
    certificates = spec["certificates"]
    lacking = [package for package in ("git-lfs",) if package not in base.programs]
    dvc = [] if own_dvc else spec["dvc"]
    prepared = make_prepared_tag(base, dvc, lacking, certificates)
    if work.backend.inspect_image(prepared) is None:
        if dvc or lacking or certificates:
            _prepare(work, base, prepared, dvc, lacking, certificates)
        else:
            work.backend.tag_image(base.image_id, prepared)
    if spec["digest"]:
        work.backend.move_reference(reference, base.image_id)
    work.data |= {"base": asdict(base), "prepared": prepared}


def _ensure_image(work: Work, reference: str) -> dict[str, Any]:
    """Return the inspection of an image, which is pulled if it is not here."""
    found = work.backend.inspect_image(reference)
    if found is None:
        work.phase(Phase.FETCHING, f"base image {reference}")
        work.backend.pull_image(reference, work.log)
        found = work.backend.inspect_image(reference)
    if found is None:
        raise BuildError(f"The base image {reference} was pulled but is not here. Try again.")
    return found


def make_prepared_tag(base: BaseImage, dvc: list[str], apt: list[str], certificates: str) -> str:
    """Return the tag of a base with what is added to it."""
    added = {"version": VERSION, "dvc": dvc, "apt": apt, "certificates": make_hash(certificates, length=64)}
    return make_tag("base", make_digest("base", {"identity": base.identity, "added": added}))


def make_identity(inspection: dict[str, Any]) -> dict[str, Any]:
    """Return what of an image goes into environment keys. A local image has no manifest digest, so its layers and settings say what it is.

    Engines differ in how they tell of a setting that is not there, and a registry in yet another way: left out, null, or empty.
    """
    config = inspection.get("Config") or {}
    settings = {name: config.get(name) or None for name in ("Env", "User", "Entrypoint", "Cmd", "WorkingDir")}
    return {"diff_ids": (inspection.get("RootFS") or {}).get("Layers") or [], **settings}


def probe(backend: Backend, reference: str, inspection: dict[str, Any]) -> tuple[BaseImage, bool]:
    """Run an image's own Python once, and return what it is, and whether it has DVC in ``/opt/dvc``. Raises BuildError if it has no Python."""
    program = (GUEST / "probe.py").read_bytes()
    job = Job(inspection["Id"], [CONDA_PYTHON, "-I", "/hubdock-probe/probe.py"], entrypoint=[], files={"/hubdock-probe/probe.py": program}, timeout=120)
    result = backend.run_job(job)
    answer = next((line for line in reversed(result.tail) if line.startswith("hubdock {")), None)
    if answer is None:
        raise BuildError(f"{reference} can't be used as a base image: {CONDA_PYTHON} does not run in it.", "\n".join(result.tail))
    values = json.loads(answer.removeprefix("hubdock "))
    base = BaseImage(
        reference, inspection["Id"], make_identity(inspection), values["python"], values["packages"], tuple(values["programs"]), values["uid"],
        values["gid"], values["home"], values["owner"],
    )  # fmt: skip
    return base, bool(values["dvc"])


def _prepare(work: Work, base: BaseImage, tag: str, dvc: list[str], apt: list[str], certificates: str) -> None:
    spec = work.spec
    work.phase(Phase.BUILDING, f"adding {', '.join([*(['DVC'] if dvc else []), *apt, *(['certificates'] if certificates else [])])}")
    labels = {"hubdock.base": base.reference}
    settings = {"dvc": dvc, "index_url": spec["index_url"], "extra_index_urls": spec["extra_index_urls"]}

    def write(source: str, target: IO[bytes]) -> None:
        context = Context(target)
        dockerfile = render_base(source, user=base.user, dvc=dvc, apt=apt, certificates=bool(certificates), labels=labels)
        context.add_bytes("Dockerfile", dockerfile.encode())
        context.add_bytes("certificates.pem", certificates.encode())
        context.add_bytes("settings/install.json", json.dumps(settings).encode())
        context.add_directory("project")
        context.close()

    tools = prepare_tools(Path(spec["state"]), spec["uv"])
    try:
        with work.backend.named(base.image_id) as source:
            work.solve(BuildRequest(tag, contexts={"tools": tools}, args=spec["proxies"], timeout=spec["timeout"]), partial(write, source))
    except StepFailed as error:
        raise BuildError(f"{base.reference} could not be prepared: {error}. {' '.join(error.tail[-3:])}", "\n".join(error.tail)) from error
