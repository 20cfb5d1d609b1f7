"""What a launcher needs to start a server: the same for the spawner, the command line, and (through the API) other machines."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hubdock.core.dockerfile import DATA
from hubdock.core.naming import SHORT_KEY, make_data_volume, make_home_volume
from hubdock.core.project import HOME
from hubdock.drivers.job import VolumeMount, make_image_gone
from hubdock.drivers.mirror import find_directory
from hubdock.engine.assembly import Assembly
from hubdock.engine.backend import open_backend
from hubdock.engine.config import HubDock
from hubdock.engine.database import Database
from hubdock.engine.tasks import TaskStore
from hubdock.engine.usage import Usage
from hubdock.engine.workspaces import Workspaces

RUN = "/hubdock/run"


@dataclass(frozen=True)
class Launch:
    """One launch. ``image`` is an image id; ``start`` the document that the guest reads; ``labels`` go on the container."""

    image: str
    workspace: str
    mounts: tuple[dict[str, Any], ...]
    env: dict[str, str]
    labels: dict[str, str]
    resources: dict[str, Any]
    start: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form of the API."""
        return asdict(self)


def make_launch(settings: HubDock, a: Assembly, database: Database, tasks: TaskStore, user: str, server: str) -> Launch:
    """Return how to launch what an assembly describes, for one user's server, and remember its workspace.

    Raises BackendError if the image was removed since it was made.
    """
    assert a.image
    usage = Usage(database)
    usage.record_start(a)
    backend = open_backend(settings.backend_values)
    image = backend.find_image("image", a.image.key, a.image.canonical)
    if image is None:
        raise make_image_gone()
    prefix = settings.volume_prefix
    volume = Workspaces(settings, database, usage).find_volume(user, server, a.options.repo, a.hypothesis)
    values = {"volume": volume, "user": user, "server": server, "repo": a.remote.repo.canonical, "branch": a.hypothesis}
    store = make_data_volume(prefix)
    current = a.dataset.inputs.key if a.dataset else ""
    used = database.use_workspace(values, "" if a.image.data else current)  # what is in the image is copied: nothing links to it
    keys = [current] if a.image.data else list(_distinct(key for key in used if key == current or backend.find_data(tasks, key, store)))
    mounts = [VolumeMount(make_home_volume(prefix, user), HOME), VolumeMount(volume, a.workspace)]
    mounts += [mount for key in keys if key != a.image.data for mount in backend.mount_view(store, key, f"{DATA}/{key[:SHORT_KEY]}")]
    labels = {
        "hubdock.user": user, "hubdock.server": server, "hubdock.repo": a.remote.repo.url, "hubdock.ref": a.options.ref,
        "hubdock.branch": a.options.branch, "hubdock.commit": a.ref.commit, "hubdock.image": a.image.key,
    }  # fmt: skip
    env = {"HUBDOCK_REPO": a.remote.repo.url, "HUBDOCK_BRANCH": a.options.branch, "GIT_CONFIG_SYSTEM": "/tmp/hubdock/gitconfig"}  # noqa: S108
    resources, start = asdict(a.options.resources), make_start(a, user, current, keys)
    return Launch(image, a.workspace, tuple(mount.as_dict() for mount in mounts), env, labels, resources, start)


def _distinct(keys: Iterator[str]) -> Iterator[str]:
    """Yield the keys whose short names differ from those before: two can't be mounted at one place."""
    seen: set[str] = set()
    for key in keys:
        if key[:SHORT_KEY] not in seen:
            seen.add(key[:SHORT_KEY])
            yield key


def make_start(a: Assembly, user: str, current: str, keys: list[str]) -> dict[str, Any]:
    """Return the document ``/hubdock/run/start.json``. ``branch`` is None for a tag: the workspace is then on the commit itself."""
    on_branch = a.ref.kind == "branch" or a.options.new_branch
    roots = [project.root for project in a.source.data.projects]
    data = {"current": current[:SHORT_KEY], "mounts": {key[:SHORT_KEY]: f"{DATA}/{key[:SHORT_KEY]}" for key in keys}}
    exclude = [posixpath.normpath(f"{root}/.dvc/{name}") for root in roots for name in ("config.local", "cache", "tmp")]
    return {
        "workspace": a.workspace, "url": a.remote.repo.url, "commit": a.ref.commit, "ref": a.ref.name, "branch": a.options.branch if on_branch else None,
        "new_branch": bool(a.options.new_branch), "author": {"name": user, "email": user if "@" in user else f"{user}@localhost"}, "dvc_roots": roots,
        "exclude": exclude,
        "data": (data | ({"baked": True} if a.image and a.image.data else {})) if keys else None,
    }  # fmt: skip


def find_start_files(state: Path, a: Assembly, launch: Launch) -> dict[str, bytes | Path]:
    """Return the files to put into the container before it starts, by path. The history must have been ensured."""
    directory = find_directory(state, a.remote.repo) / "packs" / a.ref.commit
    files: Mapping[str, bytes | Path] = {
        f"{RUN}/start.json": json.dumps(launch.start).encode("ascii"),  # names that are not UTF-8 as escapes
        **{f"{RUN}/{name}": directory / name for name in ("history.pack", "history.idx", "refs")},
    }
    return dict(files)
