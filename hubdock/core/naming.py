"""Names of servers, volumes, tags and directories.

Guaranteed: a name is a pure function of what it names; different things get different names (a hash of the whole identity ends each name that
had to be cut or cleaned); every name is valid where it is used. Rejected: cleaning without a hash (``a/b`` and ``a-b`` meet), the commit in a
name (a branch that moves would lose its workspace), random suffixes (a restart could not find its own).
"""

from __future__ import annotations

import hashlib
import re

from hubdock.core.repo import RepoURL

MAX_SERVER = 30  # JupyterHub 6: 1-30 of [a-z0-9-], a letter first, no double hyphen
MAX_BRANCH = 255
SHORT = 12
SHORT_KEY = 8  # of data keys in paths: links through them fit into an inode
_DIRECTORY = re.compile(r"[^A-Za-z0-9._-]+")


def make_slug(text: str, limit: int) -> str:
    """Return ``[a-z0-9-]``, a letter first, no double hyphen, at most ``limit`` long. Not unique by itself."""
    slug = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    slug = slug if slug[:1].isalpha() else f"x-{slug}".rstrip("-")
    return slug[:limit].rstrip("-")


def make_hash(*parts: str, length: int = 8) -> str:
    """Return hex digits over parts that can't run into each other."""
    text = "\0".join(f"{len(part)}:{part}" for part in parts)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:length]


def make_server_name(repo: RepoURL, branch: str) -> str:
    """Return the named server of a hypothesis: readable parts of repository and branch, and a hash of both whole."""
    digest = make_hash(repo.canonical, branch, length=6)
    room = MAX_SERVER - len(digest) - 1
    name = make_slug(repo.name, room)
    tail = make_slug(branch, max(room - len(name) - 1, room // 2))
    name = name[: room - len(tail) - 1].rstrip("-")
    return f"{name}-{tail}-{digest}"


def make_workspace_volume(prefix: str, user: str, server: str, repo: RepoURL, branch: str) -> str:
    """Return the volume of one user's, one server's workspace of one hypothesis."""
    digest = make_hash(user, server, repo.canonical, branch, length=16)
    return f"{prefix}-work-{make_slug(user, 24)}-{make_slug(repo.name, 24)}-{make_slug(branch, 24)}-{digest}"


def make_home_volume(prefix: str, user: str) -> str:
    """Return the volume of one user's settings and history."""
    return f"{prefix}-home-{make_slug(user, 32)}-{make_hash(user, length=12)}"


def make_data_volume(prefix: str) -> str:
    """Return the volume of the data store, which all users read."""
    return f"{prefix}-data"


def make_directory(repo: RepoURL) -> str:
    """Return the directory of the workspace: the repository's name as ``git clone`` would write it, without what a shell would trip over."""
    return _DIRECTORY.sub("-", repo.name).strip("-.")[:64].rstrip("-.") or "work"


def make_tag(kind: str, key: str) -> str:
    """Return the local image tag of a key: ``hubdock/environment:<64 hex>``."""
    return f"hubdock/{kind}:{key}"


def make_untried(tag: str) -> str:
    """Return what an image is called until it was tried: nobody looks for it by this name."""
    return f"{tag}-untried"


def make_scope_name(scope: str) -> str:
    """Return the name of a trust scope as it is used in cache ids and directories: ``public``, or a hash that does not tell what it hides."""
    return make_hash(scope, length=24) if scope else "public"


def shorten(key: str) -> str:
    """Return a key as it is shown to people."""
    return key[:SHORT]
