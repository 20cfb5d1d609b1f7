"""Making an environment: the packages of one set of requirements on a base, tried before anybody gets it."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from hubdock.core.dockerfile import CONDA_PYTHON, GID, UID, render_environment
from hubdock.core.errors import BuildError, IndexUnavailable, PackageFailed, SmokeTestFailed, UnsatisfiableError
from hubdock.core.events import Phase
from hubdock.core.naming import make_hash, make_untried
from hubdock.core.tree import TreeEntry
from hubdock.drivers.context import Context, add_tree
from hubdock.drivers.job import Job, make_image_gone
from hubdock.drivers.mirror import Mirror
from hubdock.drivers.secrets import read_secret
from hubdock.drivers.solve import BuildRequest, StepFailed
from hubdock.engine.work import GUEST, Work, make_remote
from hubdock.guest.install import BUILD_FAILED, INDEX_FAILED, LOCK_FAILED, NEEDS_SOURCE, REPLACES, UNSATISFIABLE
from hubdock.guest.smoke import DEADLINE as SMOKE_DEADLINE
from hubdock.guest.smoke import FAILED as SMOKE_FAILED

_TRIAL = "/hubdock-trial"
_PATIENCE = 60.0  # seconds for a trial beside its own deadline


def run(work: Work) -> None:
    """Build, and try Jupyter and a kernel, in the same solve or in a pod of the result: what does not work never has the key's name."""
    spec = work.spec
    mirror = Mirror(Path(spec["state"]), make_remote(spec["remote"]), spec["max_size"])
    if spec["files"]:
        mirror.restore_commit(spec["commit"])
    trial = ", and a trial of Jupyter and a kernel" if spec["smoke"] else ""
    work.phase(Phase.BUILDING, f"packages{trial}" if spec["install"] else f"base image as it is{trial}")
    if spec["needs_source"]:
        _solve(work, mirror, from_source=True)
    else:
        _solve_wheels(work, mirror)
    if _is_tried_apart(work):
        _try(work)


def _is_tried_apart(work: Work) -> bool:
    return bool(work.spec["smoke"]) and work.backend.tries_apart


def _try(work: Work) -> None:
    """Run the trial in what was made, and give it its name."""
    spec = work.spec
    untried = make_untried(spec["tag"])
    found = work.backend.inspect_image(untried)
    if found is None:
        raise make_image_gone(untried)
    work.phase(Phase.BUILDING, "a trial of Jupyter and a kernel")
    files = {f"{_TRIAL}/{name}": (GUEST / name).read_bytes() for name in ("smoke.py", "server.py")}
    job = Job(found["Id"], [CONDA_PYTHON, f"{_TRIAL}/smoke.py"], entrypoint=[], files=files, timeout=SMOKE_DEADLINE + _PATIENCE)
    result = work.backend.run_job(job, work.log, work.stop)
    work.check()
    if result.code:
        raise _name_smoke(spec, result.tail)
    work.backend.tag_image(found["Id"], spec["tag"])


def _solve_wheels(work: Work, mirror: Mirror) -> None:
    """Install from wheels; where that can't be resolved, once more with building allowed, which alone tells the true reason."""
    try:
        _solve(work, mirror, from_source=False)
    except StepFailed as error:
        if error.exit_code == REPLACES:
            work.log("Another TensorFlow comes with a package: once more, with the base image's taken out first.")
            work.spec["settings"]["replaces"] = work.spec["again"] = True
            _solve_wheels(work, mirror)
            return
        if error.exit_code != NEEDS_SOURCE:
            raise _name_failure(work.spec, error) from error
        if not work.spec["may_build"]:
            raise _name_failure(work.spec, error, private=True) from error
        work.log("Not everything can be had as a wheel: once more, with packages built from source.")
        _solve(work, mirror, from_source=True)


def _solve(work: Work, mirror: Mirror, from_source: bool) -> None:
    spec = work.spec
    apart = _is_tried_apart(work)
    dockerfile = render_environment(
        work.backend.name_image(spec["base"]), user=spec["user"], workdir=spec["workdir"], apt=spec["apt"], install=spec["install"], from_source=from_source,
        cache=spec["cache"], private_cache=f"hubdock-source-{spec['key']}", secrets=["netrc"] if spec["netrc"] else [], project=spec["workspace"],
        smoke=spec["smoke"] and not apart, env=spec["env"], labels=spec["labels"],
    )  # fmt: skip
    request = BuildRequest(
        make_untried(spec["tag"]) if apart else spec["tag"], contexts={"tools": prepare_tools(Path(spec["state"]), spec["uv"])}, secrets={"netrc": _make_netrc(spec["netrc"])} if spec["netrc"] else {}, args=spec["proxies"],
        past=spec["past"], timeout=spec["timeout"], scope=spec["scope"], variant=_name_variant(spec, from_source),
        onward=frozenset() if from_source else frozenset({REPLACES, *([NEEDS_SOURCE] if spec["may_build"] else [])}),
    )  # fmt: skip
    try:
        work.solve(request, lambda target: _write_context(target, dockerfile, spec, mirror))
    except StepFailed as error:
        if not from_source and error.exit_code in {NEEDS_SOURCE, REPLACES}:
            raise
        raise _name_failure(spec, error) from error


def _name_variant(spec: dict[str, Any], from_source: bool) -> str:
    """Return in which way an environment is made, the empty string for the way that is tried first."""
    return "-".join([*(["other"] if spec.get("again") else []), *(["source"] if from_source and not spec["needs_source"] else [])])


def _write_context(target: IO[bytes], dockerfile: str, spec: dict[str, Any], mirror: Mirror) -> None:
    context = Context(target, (UID, GID))  # build backends write beside the sources
    context.add_bytes("Dockerfile", dockerfile.encode())
    context.add_bytes("settings/install.json", json.dumps(spec["settings"]).encode())
    context.add_directory("project")
    entries = [TreeEntry(*entry) for entry in spec["files"]]
    whole = [entry for entry in entries if entry.kind == "tree"]
    wanted = {entry.path: entry for entry in entries if entry.kind == "blob"}
    if whole:
        tree = mirror.read_tree(spec["commit"])
        prefixes = tuple("" if entry.path == "." else f"{entry.path}/" for entry in whole)
        wanted |= {entry.path: entry for entry in tree.entries() if entry.path.startswith(prefixes)}
    mirror.ensure_blobs(entry.oid for entry in wanted.values() if entry.kind == "blob")
    add_tree(context, mirror, wanted.values(), prefix="project/")
    context.close()


def prepare_tools(state: Path, uv: str) -> Path:
    """Return the directory with uv and the programs of a build, named by their content: BuildKit compares a known directory by size and time only."""
    programs = [GUEST / name for name in ("install.py", "bytecode.py", "smoke.py", "server.py")]
    size = Path(uv).stat().st_size
    directory = state / "tools" / make_hash(uv, str(size), *(program.read_text(encoding="utf-8") for program in programs), length=24)
    if not directory.exists():
        directory.parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=directory.parent) as work:
            made = Path(work) / "made"
            made.mkdir()
            shutil.copy(uv, made / "uv")
            for program in programs:
                shutil.copy(program, made / program.name)
            try:
                made.rename(directory)
            except OSError:
                if not directory.is_dir():  # it is: another worker was first, with the same
                    raise
    return directory


def _make_netrc(entries: Sequence[dict[str, str]]) -> str:
    """Return the indexes' credentials for the one step that needs them (a BuildKit secret: it never is part of a layer, nor a file of ours)."""
    return "".join(f"machine {e['host']} login {e['username']} password {read_secret(e['password_file'])}\n" for e in entries)


_JUPYTER = re.compile(r"^(jupyter|notebook|nb|ipy|tornado|traitlets|zmq|pyzmq|jinja2|sqlalchemy|jsonschema|anyio|comm|debugpy)")


def _name_suspects(spec: dict[str, Any]) -> str:
    suspects = [f"{line['text']} ({line['file']}:{line['line']})" for line in spec["lines"] if _JUPYTER.match(line["name"])]
    return f": {', '.join(suspects[:4])}" if suspects else ""


def _name_smoke(spec: dict[str, Any], tail: Sequence[str]) -> SmokeTestFailed:
    reason = tail[-1].removeprefix("smoke test: ") if tail else "it ended without a word"
    return SmokeTestFailed(
        f"The packages were installed, but with them Jupyter does not work: {reason}. Check what this branch pins of Jupyter's own packages"
        f"{_name_suspects(spec)}.", "\n".join(tail),
    )  # fmt: skip


def _name_failure(spec: dict[str, Any], error: StepFailed, private: bool = False) -> Exception:
    """Return the error for an exit code of the install program, with the requirement at fault where uv's words name one."""
    tail = [line for line in error.tail if line.strip()]
    said = _find_message(tail)
    place = _find_place(spec["lines"], said) if error.exit_code != INDEX_FAILED else None
    where = {"file": place["file"], "line": place["line"]} if place else {"file": spec["main"] or None}
    detail = "\n".join(tail)
    if error.exit_code == SMOKE_FAILED:
        return _name_smoke(spec, tail)
    if private:
        return PackageFailed(f"A package has no wheel, and none may be built where the index needs a credential. {said}", detail, **where)
    if error.exit_code in {UNSATISFIABLE, NEEDS_SOURCE}:
        return UnsatisfiableError(f"The requirements can't be installed together. {said}", detail, **where)
    if error.exit_code == INDEX_FAILED:
        return IndexUnavailable(f"The package index does not answer as it should. Try again in a moment. {said}", detail)
    if error.exit_code == BUILD_FAILED:
        return PackageFailed(f"A package could not be built from source. {said}", detail, **where)
    if error.exit_code == LOCK_FAILED:
        return BuildError(f"uv.lock can't be used. Run `uv lock` and commit the result. {said}", detail, **where)
    if "apt-get" in error.step:
        return BuildError(f"The Debian packages of apt.txt could not be installed. {said}", detail, file="apt.txt")
    return BuildError(f"A step failed with exit code {error.exit_code}: {error.step[:120]}. {said}", detail)


def _find_message(tail: Sequence[str]) -> str:
    """Return uv's own explanation: from the last “error:” on, without drawing characters, at most 600 characters."""
    start = next((n for n in range(len(tail) - 1, -1, -1) if re.match(r"\s*(error|E):", tail[n])), max(0, len(tail) - 4))
    words = " ".join(re.sub(r"^\s*(error:|cause:|[╰├]─▶|│|E:)\s*", "", line).strip() for line in tail[start:])
    words = re.sub(r"\s+", " ", words).strip()
    return words if len(words) <= 600 else words[:600] + "…"


def _find_place(lines: Sequence[dict[str, Any]], said: str) -> dict[str, Any] | None:
    """Return the user's line that the message names: one whose own text it quotes, else the first package it names."""
    folded = re.sub(r"[-_.]+", "-", said.lower())
    best: tuple[int, int] | None = None
    for number, line in enumerate(lines):
        match = re.search(rf"(?<![a-z0-9-]){re.escape(line['name'])}(?![a-z0-9-])", folded) if line["name"] else None
        if match is None:
            continue
        quoted = re.sub(r"\s+", "", line["text"].lower()) in re.sub(r"\s+", "", said.lower())
        rank = (0 if quoted else 1, match.start())
        if best is None or rank < best:
            best, found = rank, number
    return lines[found] if best is not None else None
