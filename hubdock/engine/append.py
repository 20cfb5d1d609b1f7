"""Making an image without a builder: code and guest programs are put on the environment where it is, in the registry.

What comes out differs in no file, mode, owner or setting from what `hubdock.engine.step_image` has BuildKit make of the same spec.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from hubdock.core.dockerfile import GID, START, UID
from hubdock.core.errors import HubDockError, ImageGone
from hubdock.core.oci import Changes
from hubdock.core.tree import Tree
from hubdock.drivers.append import Appended, Place, append_layers, find_lost
from hubdock.drivers.layer import spool_layer
from hubdock.drivers.mirror import Mirror
from hubdock.drivers.oci import Registry
from hubdock.engine.step_image import add_code, add_guest


def append_image(
    registry: Registry, environment: tuple[str, str], target: tuple[str, str], spec: dict[str, Any], mirror: Mirror, tree: Tree, data: tuple[str, str] | None = None
) -> Appended:
    """Make the image of a spec (`hubdock.engine.assembly.make_image_spec`), whose blobs are in the mirror. It is there already → nothing is sent.

    ``environment`` is (repository, digest), and so is ``data``, whose layers come below the code; ``target`` (repository, tag). Raises what `append_layers` and
    `add_code` raise. An environment or data that have lost a layer are of no use to anybody: they are deleted, so that the next plan has them made anew.
    """
    spool = Path(spec["state"]) / "spool"
    spool.mkdir(exist_ok=True)
    changes = Changes(labels=spec["labels"], workdir=spec["workspace"], command=START)
    with (
        spool_layer(lambda context: add_guest(context, spec), (0, 0), "hubdock: guest programs", spool) as guest,
        spool_layer(lambda context: add_code(context, spec, mirror, tree), (UID, GID), "hubdock: code", spool) as code,
    ):
        try:
            return append_layers(registry, *environment, *target, [guest, code], changes, spool, data)
        except ImageGone:
            for source in (environment, *([data] if data else [])):
                with suppress(HubDockError):  # a registry may be set to delete nothing
                    if find_lost(Place(registry, source[0]), source[1]):
                        registry.delete_manifest(*source)
            raise
