"""Making an image: the code of one tree, and the guest programs, as two layers on an environment."""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any

from hubdock.core.dockerfile import CODE, HOME_SEED, ROOT, render_image
from hubdock.core.errors import BuildError
from hubdock.core.events import Phase
from hubdock.core.project import HOME
from hubdock.core.resources import format_bytes
from hubdock.core.tree import Tree
from hubdock.drivers.context import Context, add_directory_tree, add_tree, find_copies
from hubdock.drivers.mirror import Mirror
from hubdock.drivers.solve import BuildRequest, StepFailed
from hubdock.engine.work import GUEST, Work, make_remote


def run(work: Work) -> None:
    """Fetch the contents of the tree that are not here yet, and make the image."""
    spec = work.spec
    mirror = Mirror(Path(spec["state"]), make_remote(spec["remote"]), spec["max_size"])
    mirror.restore_commit(spec["commit"])
    tree = mirror.read_tree(spec["commit"])
    entries = list(tree.entries())
    work.phase(Phase.FETCHING, f"code of {spec['commit'][:12]}")
    fetched = mirror.ensure_blobs(entry.oid for entry in entries if entry.kind == "blob")
    work.log(f"{len(entries)} files and directories, {fetched} fetched")
    work.phase(Phase.BUILDING, "code layer")
    appended = work.backend.append_image(spec, mirror, tree)
    if appended is not None:
        work.log(f"put on the environment in the registry: {appended.blobs} new parts, {format_bytes(appended.uploaded)} sent")
        return
    try:
        work.solve(BuildRequest(spec["tag"], past=spec["past"], timeout=spec["timeout"]), lambda target: write_context(target, spec, mirror, tree))
    except StepFailed as error:
        raise BuildError("The code could not be put on the environment. Tell an administrator.", f"{error} {error.tail}") from error


def write_context(target: IO[bytes], spec: dict[str, Any], mirror: Mirror, tree: Tree) -> None:
    """Write the build context of an image, whose blobs are in the mirror: the same bytes for the same tree, guest and labels."""
    context = Context(target)
    context.add_bytes("Dockerfile", render_image(spec["environment"], workspace=spec["workspace"], labels=spec["labels"]).encode())
    add_guest(context, spec, "guest")
    add_code(context, spec, mirror, tree, "root")
    context.close()


def add_guest(context: Context, spec: dict[str, Any], root: str = "") -> None:
    """Write the layer of the guest programs; ``root`` is where ``/`` is in the context."""
    add_directory_tree(context, GUEST, f"{root}{ROOT}/guest/")
    context.add_bytes(f"{root}{ROOT}/image.json", spec["manifest"].encode())


def add_code(context: Context, spec: dict[str, Any], mirror: Mirror, tree: Tree, root: str = "") -> None:
    """Write the layer of the code, whose blobs are in the mirror; ``root`` is where ``/`` is in the context."""
    context.add_directory(f"{root}{CODE}")
    context.add_directory(f"{root}{spec['workspace']}")  # owned by jovyan here, or an empty volume mounted there is root's
    places = find_copies(tree, [(source, _place(target)) for source, target in spec["copy"]], root)
    add_tree(context, mirror, tree.entries(), places, f"{root}{CODE}/")


def _place(target: str) -> str:
    """Return where a ``copy`` goes in the image. The home is a volume, which hides what the image has there: the guest puts those in place."""
    return target.replace(HOME, HOME_SEED, 1) if target.startswith(f"{HOME}/") else target
