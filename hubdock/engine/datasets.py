"""From the DVC outputs that a commit names to a data key, and to the remotes they are fetched from."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from hubdock.core.dvcconfig import DataProject
from hubdock.core.dvcfiles import DataFiles, DataOut
from hubdock.core.errors import HubDockError, RecipeError
from hubdock.core.keys import DataInputs
from hubdock.core.naming import make_scope_name
from hubdock.core.repo import RepoPolicy, RepoURL, is_private_address
from hubdock.core.text import redact

_HOSTED = {"http": "http", "https": "https", "webdav": "http", "webdavs": "https", "ssh": "ssh"}
# What the configuration that DVC reads would take for something else ("%(" asks for another option's value: a password, say).
_UNSAFE = re.compile(r"[\x00-\x1f\x7f\"'\\]|%\(|(?:^|/)(?:\.|%2e){1,2}(?:/|$)", re.I)
_STORES = {"s3", "gs", "azure", "oss", "gdrive"}


@dataclass(frozen=True)
class Dataset:
    """The data of one commit. ``remotes`` are the options of each remote that is used, by a name of our own; ``outs`` name it."""

    inputs: DataInputs
    outs: tuple[dict[str, Any], ...]
    remotes: dict[str, dict[str, str]] = field(default_factory=dict)
    size: int = 0

    @property
    def scope_directory(self) -> str:
        """The directory of the pool that holds its objects."""
        return make_scope_name(self.inputs.scope)


def make_dataset(data: DataFiles, policy: RepoPolicy, options: Mapping[str, Mapping[str, str]]) -> Dataset | None:
    """Return what is to be fetched, None if the commit tracks nothing.

    ``options`` are the admin's ``dvc_remotes``. Raises RecipeError for outputs without a remote, and for remotes that may not be asked.
    """
    if not data.outs:
        return None
    projects = {project.root: project for project in data.projects}
    names: dict[str, str] = {}
    remotes: dict[str, dict[str, str]] = {}
    scopes: set[str] = set()
    outs = []
    for out in data.outs:
        url = _find_url(out, projects[out.root])
        if url not in names:
            names[url] = f"r{len(names)}"
            prefix, chosen = _find_options(url, options)
            if prefix is None:
                _check_url(url, out, policy)
            remotes[names[url]] = {"url": url, **chosen}
            scopes |= {prefix} if prefix is not None and chosen else set()
        outs.append(
            {"path": out.path, "oid": out.oid, "hash_name": out.hash_name, "is_exec": out.is_exec, "remote": names[url], "source": out.source}
        )
    inputs = DataInputs(tuple((out.path, out.hash_name, out.oid, out.is_exec) for out in data.outs), " ".join(sorted(scopes)))
    return Dataset(inputs, tuple(outs), remotes, data.size)


def _find_url(out: DataOut, project: DataProject) -> str:
    declared = {remote.name: remote.url for remote in project.remotes}
    name = out.remote or project.default  # both in lower case, as DVC compares them
    place = "" if project.root == "." else f"{project.root}/"
    if not name:
        raise RecipeError(
            f"{out.path} is tracked by DVC, but no default remote says where it is. Run `dvc remote default NAME` and commit .dvc/config.",
            file=f"{place}.dvc/config",
        )
    if name not in declared:
        raise RecipeError(f"{out.path} is on the remote {name!r}, which is not declared. Declared: {', '.join(declared) or 'none'}.", file=f"{place}.dvc/config")
    url = declared[name]
    if url.startswith("remote://"):
        base, _, rest = url.removeprefix("remote://").partition("/")
        url = f"{declared.get(base.lower(), '').rstrip('/')}/{rest}"
    if "://" not in url:
        raise RecipeError(
            f"The DVC remote {name!r} is a directory of somebody's machine ({url[:120]}). Use one that servers can reach: http, ssh, s3, gs, azure.",
            file=f"{place}.dvc/config",
        )
    if _UNSAFE.search(url):
        raise RecipeError(
            f"The URL of the DVC remote {name!r} holds a quote, a backslash, a control character, “%(” or “..”. Remove it.", file=f"{place}.dvc/config"
        )
    return url


def _find_options(url: str, options: Mapping[str, Mapping[str, str]]) -> tuple[str | None, dict[str, str]]:
    """Return the longest of the admin's prefixes that this URL starts with, and its options. It holds for the place itself and all below it, and
    ends at a slash, which may be written or not: ``s3://team/`` is for ``s3://team``, and neither for ``s3://team-2``."""
    held = [prefix for prefix in options if f"{url}/".startswith(prefix.rstrip("/") + "/")]
    prefix = max(held, key=len, default=None)
    return prefix, {name: str(value) for name, value in options[prefix].items()} if prefix is not None else {}


def _check_url(url: str, out: DataOut, policy: RepoPolicy) -> None:
    shown = redact(url)[:200]
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise RecipeError(f"The address of the DVC remote, {shown}, can't be read: {error}.", file=out.source) from error
    if parts.scheme in _STORES:
        return
    if parts.scheme not in _HOSTED:
        raise RecipeError(f"The DVC remote {shown} can't be fetched from here. Use http, ssh, s3, gs or azure.", file=out.source)
    if parts.password:
        raise RecipeError("The DVC remote's URL holds a password. Remove it, and change the password: it is in the repository's history.", file=out.source)
    scheme = _HOSTED[parts.scheme]
    try:
        port = parts.port or {"http": 80, "https": 443, "ssh": 22}[scheme]
        host = RepoURL(scheme, (parts.hostname or "").lower(), port, "data")
        RepoPolicy(policy.hosts).check(host)  # allowed_repos is about repositories
        if not policy.trusts_address(host):
            _refuse_private(host.host)
    except (HubDockError, ValueError) as error:
        raise RecipeError(
            f"The DVC remote {shown} is on a host that this hub does not ask. An administrator can add it to HubDock.dvc_remotes or allowed_hosts.",
            file=out.source,
        ) from error


def _refuse_private(host: str) -> None:
    """Raise ValueError for a private address that is written as one."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return
    if is_private_address(str(address)):
        raise ValueError(f"{host} is a private address")
