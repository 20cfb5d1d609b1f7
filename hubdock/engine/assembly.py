"""All that one start is made of: its keys, and what a worker would be told to make each part."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, astuple, dataclass
from functools import cache, cached_property
from typing import Any
from urllib.parse import urlsplit

import uv

from hubdock.core.asker import LOCAL, Asker
from hubdock.core.contract import BaseImage
from hubdock.core.dockerfile import DATA, GID, UID
from hubdock.core.keys import CodeInputs, EnvironmentInputs, ImageInputs
from hubdock.core.naming import SHORT_KEY, make_data_volume, make_directory, make_scope_name, make_tag
from hubdock.core.options import Options
from hubdock.core.plan import TENSORFLOW, Plan, State
from hubdock.core.project import HOME
from hubdock.core.recipe import Recipe
from hubdock.core.refs import ResolvedRef
from hubdock.core.source import Source
from hubdock.drivers.certificates import read_certificates
from hubdock.drivers.git import Remote
from hubdock.engine.config import HubDock
from hubdock.engine.datasets import Dataset
from hubdock.engine.work import GUEST

RECIPE_VERSION = 1
LAYER_VERSION = 1
POLICY = "submodules left out, LFS pointers kept"


@cache
def find_installer() -> tuple[str, str]:
    """Return (name and version, path) of the installer: the uv that was installed with hubdock."""
    from importlib.metadata import version

    return f"uv {version('uv')}", uv.find_uv_bin()


@cache
def guest_version() -> str:
    """Return the hash of the guest programs, which is their version in image keys."""
    digest = hashlib.sha256()
    for path in sorted(GUEST.glob("*.py")):
        digest.update(f"{path.name}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


@dataclass(frozen=True)
class Assembly:
    """One start, planned. The keys are None while its base image was not looked into yet; until then ``rebuild`` says that packages are to be
    renewed. ``renews`` names the environment's epoch, if that is to be remembered once everything is made.

    ``base_key`` is the key of the task that prepares its base (``base_digest``: a newer one, of its registry), ``prepared`` the tag that this leaves.
    """

    options: Options
    remote: Remote
    ref: ResolvedRef
    source: Source
    plan: Plan
    base_reference: str
    base_key: str = ""
    base_digest: str = ""
    base: BaseImage | None = None
    prepared: str = ""
    environment: EnvironmentInputs | None = None
    code: CodeInputs | None = None
    image: ImageInputs | None = None
    dataset: Dataset | None = None
    overrides: tuple[str, ...] = ()
    rebuild: bool = False
    renews: str = ""
    asker: Asker = LOCAL

    @property
    def workspace(self) -> str:
        """The directory of the workspace in a server."""
        return f"{HOME}/{make_directory(self.options.repo)}"

    @property
    def hypothesis(self) -> str:
        """What names the server and the workspace beside the repository: the branch, or ``tag:NAME``, which is no branch's name."""
        return f"tag:{self.options.branch}" if self.ref.kind == "tag" and not self.options.new_branch else self.options.branch

    def needs(self, part: str) -> bool:
        """True if a part has to be made, or is being made."""
        return self.plan.part(part).state in {State.BUILD, State.RUNNING}

    @cached_property
    def task_keys(self) -> tuple[tuple[str, str], ...]:
        """The (kind, key) of the tasks that it is made of, as far as its keys are known."""
        base = self.base_key if self.needs("base") else ""
        keys = [("base", base), ("environment", self.environment and self.environment.key), ("image", self.image and self.image.key), ("data", self.dataset and self.dataset.inputs.key)]
        return tuple((kind, key) for kind, key in keys if key)

    @property
    def identity(self) -> tuple[str, str, ResolvedRef, Options]:
        """What must be equal for two starts to share a build: what is made, and what is launched of it, which a build says too."""
        return (self.image.key if self.image else "", self.dataset.inputs.key if self.dataset else "", self.ref, self.options)


def make_environment_inputs(
    settings: HubDock, source: Source, workspace: str, base: BaseImage, prepared: str, sources: tuple[tuple[str, str], ...], epoch: int
) -> EnvironmentInputs:
    """Return what makes the environment of a commit on a base."""
    recipe = source.recipe
    private = sorted(str(entry["origin"]) for entry in settings.index_credentials)
    return EnvironmentInputs(
        base={**base.identity, "prepared": prepared.rpartition(":")[2]},
        installer=find_installer()[0] if recipe.kind != "none" else "",
        recipe=RECIPE_VERSION,
        files=tuple((entry.path, entry.mode, entry.oid) for entry in recipe.files),
        settings={**recipe.project.environment_settings, "main": recipe.main, "workspace": workspace if recipe.local else ""},
        sources=sources,
        indexes=settings.indexes if recipe.kind != "none" else (),
        uid=UID, gid=GID, epoch=epoch,
        scope=" ".join(private) if recipe.kind != "none" else "",
    )  # fmt: skip


def make_code_inputs(source: Source, workspace: str, scope: str) -> CodeInputs:
    """Return what makes the code layer of a commit."""
    return CodeInputs(source.tree, workspace, f"{UID}:{GID}", LAYER_VERSION, POLICY, source.recipe.project.copy, scope)


def make_remote_spec(settings: HubDock, remote: Remote, asker: Asker) -> dict[str, Any]:
    """Return how a worker reaches the repository for a person: the credential by the path of its file, never itself."""
    credential = settings.find_git_entry(remote.repo.origin, asker)
    return {
        "url": remote.repo.url, "timeout": max(remote.timeout, 600.0), "trusted": remote.trusted, "credential": credential,
        "proxies": dict(remote.proxies), "certificates": remote.certificates,
    }  # fmt: skip


def make_base_spec(settings: HubDock, reference: str, digest: str = "") -> dict[str, Any]:
    """Return the task that prepares a base image: the local one, or the one of ``digest`` from its registry, which the reference then stands for."""
    return _common(settings) | {
        "reference": reference, "digest": digest, "dvc": list(settings.dvc_packages), "certificates": read_certificates(settings.extra_ca_certificates),
        "index_url": settings.index_url, "extra_index_urls": list(settings.extra_index_urls),
    }  # fmt: skip


def make_environment_spec(settings: HubDock, a: Assembly) -> dict[str, Any]:
    """Return the task that makes the environment."""
    assert a.environment and a.base
    recipe, project = a.source.recipe, a.source.recipe.project
    labels = {"hubdock.environment": a.environment.key, "hubdock.environment.inputs": a.environment.canonical, "hubdock.kind": "environment"}
    command = {"HUBDOCK_COMMAND": json.dumps(list(project.command))} if project.command else {}
    netrc = [
        {"host": urlsplit(str(e["origin"])).hostname, "username": e.get("username", ""), "password_file": e["password_file"]} for e in settings.index_credentials
    ]
    return _common(settings) | _repository(settings, a) | {
        "tag": make_tag("environment", a.environment.key), "base": a.prepared, "user": a.base.user, "workdir": "" if a.base.identity.get("WorkingDir") else HOME,
        "apt": list(recipe.apt), "install": recipe.kind != "none", "main": recipe.main, "workspace": a.workspace, "files": [astuple(entry) for entry in recipe.files],
        "needs_source": recipe.local or bool(recipe.sources), "may_build": not netrc, "netrc": netrc,
        "scope": make_scope_name(a.environment.scope), "cache": f"hubdock-wheels-{make_scope_name(a.environment.scope)}", "env": {**project.env, **command}, "labels": {**project.labels, **labels},
        "lines": [{"name": line.name, "file": line.file, "line": line.line, "text": line.text} for line in recipe.lines if line.name],
        "settings": {
            "kind": recipe.kind, "main": recipe.main, "roots": list(a.base.roots), "overrides": list(a.overrides), "replaces": find_tensorflow(recipe, a.base.packages), "index_url": settings.index_url,
            "extra_index_urls": list(settings.extra_index_urls),
        },
        "smoke": settings.smoke_test and (recipe.kind != "none" or bool(recipe.apt) or bool(project.env)),
    }  # fmt: skip


def make_image_spec(settings: HubDock, a: Assembly) -> dict[str, Any]:
    """Return the task that makes the image."""
    assert a.environment and a.image and a.code
    labels = {
        "hubdock.image": a.image.key, "hubdock.image.inputs": a.image.canonical, "hubdock.code": a.code.key, "hubdock.code.inputs": a.code.canonical,
        "hubdock.kind": "image",
    }  # fmt: skip
    manifest = {"workspace": a.workspace, "repository": make_directory(a.options.repo), "guest": guest_version()}
    return _common(settings) | _repository(settings, a) | {
        "tag": make_tag("image", a.image.key), "environment": make_tag("environment", a.environment.key), "data": make_tag("data", a.image.data) if a.image.data else "", "workspace": a.workspace,
        "copy": [list(pair) for pair in a.source.recipe.project.copy], "labels": labels, "manifest": json.dumps(manifest, sort_keys=True),
    }  # fmt: skip


def make_data_spec(settings: HubDock, a: Assembly) -> dict[str, Any]:
    """Return the task that fetches the data; ``tag`` is the image that is made of it, empty where it goes into the store."""
    assert a.dataset
    inputs = a.dataset.inputs
    labels = {"hubdock.data": inputs.key, "hubdock.data.inputs": inputs.label, "hubdock.kind": "data"}
    return _common(settings) | {
        "tag": make_tag("data", inputs.key) if settings.data_mode == "image" else "", "labels": labels, "target": f"{DATA}/{inputs.key[:SHORT_KEY]}",
        "image": a.prepared, "volume": make_data_volume(settings.volume_prefix), "network": settings.data_network, "scope": a.dataset.scope_directory, "outs": list(a.dataset.outs),
        "remotes": a.dataset.remotes, "size": a.dataset.size, "silence": settings.git_timeout,
    }  # fmt: skip


def find_tensorflow(recipe: Recipe, installed: Mapping[str, str]) -> bool:
    """True if a requirement may bring another TensorFlow than the base's: it must then be taken out first."""
    return recipe.kind == "uv" or any(line.name in TENSORFLOW and line.name not in installed and not line.constrains for line in recipe.lines)


def _common(settings: HubDock) -> dict[str, Any]:
    return {
        "state": str(settings.state), "timeout": settings.build_timeout, "proxies": dict(settings.proxies), "past": {}, "uv": find_installer()[1],
        "backend": settings.backend_values,
    }  # fmt: skip


def _repository(settings: HubDock, a: Assembly) -> dict[str, Any]:
    return {"remote": make_remote_spec(settings, a.remote, a.asker), "commit": a.ref.commit, "max_size": settings.max_repo_size}


def describe_source(source: Source) -> dict[str, Any]:
    """Return what a page shows of a commit."""
    return {"commit": source.commit, "subject": source.subject, "author": source.author, "time": source.author_time, "files": source.files}


def describe_recipe(source: Source) -> dict[str, Any]:
    """Return the requirements of a commit, as they are remembered beside its environment to explain the next change."""
    return {"lines": [[line.file, line.text] for line in source.recipe.lines], "apt": list(source.recipe.apt), "project": asdict(source.recipe.project)}
