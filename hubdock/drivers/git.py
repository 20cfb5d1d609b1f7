"""The git command line: how it is called, and what its answers mean.

Called with ``--`` before anything from outside, a fixed locale, no prompts, no configuration of the machine, only https and ssh (http where
the admin lists it), no redirects, and a deadline (git has none of its own). Credentials reach it through ``GIT_CONFIG_COUNT``, bound to one
scheme, host and port; never through the address. Proxies and certificate authorities are the admin's settings, else those of hubdock's own
environment.
"""

from __future__ import annotations

import base64
import os
import re
import socket
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from hubdock.core.errors import AccessDenied, BackendError, InvalidRef, OutOfSpace, RecipeError, RefNotFound, RepoUnreachable
from hubdock.core.refs import ResolvedRef, find_near, looks_like_commit, make_short
from hubdock.core.repo import RepoURL, is_private_address
from hubdock.core.text import make_tail, redact
from hubdock.drivers import process

_PASSED = ("PATH", "http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "GIT_SSL_CAINFO", "SSL_CERT_FILE", "SSH_AUTH_SOCK")
_DENIED = re.compile(
    r"Authentication failed|could not read (Username|Password)|[Pp]ermission denied|returned error: 40[134]|[Nn]ot [Ff]ound|does not appear to be a git|access denied", re.I
)
_REDIRECT = re.compile(r"returned error: 30\d|redirect", re.I)
_TLS = re.compile(r"SSL|certificate|TLS", re.I)
FULL = re.compile(r"No space left|Disk quota exceeded", re.I)
_LARGE = re.compile(r"File too large|SIGXFSZ|signal 25|invalid index-pack output", re.I)  # the last is all that fetch says of its killed child
_GONE = re.compile(r"couldn't find remote ref (\S+)")


@dataclass(frozen=True)
class Credential:
    """What opens one origin: a user name and password or token (https), or the path of a private key (ssh)."""

    origin: str
    username: str = ""
    password: str = ""
    key_file: str = ""


@dataclass(frozen=True)
class Remote:
    """A repository and how to reach it.

    ``timeout`` is seconds a process; ``trusted`` allows a private address behind the host. ``proxies`` (``https_proxy`` …) and ``certificates``, the
    path of a bundle of authorities, stand in for what the environment says.
    """

    repo: RepoURL
    timeout: float = 60.0
    credential: Credential | None = None
    trusted: bool = False
    proxies: Mapping[str, str] = field(default_factory=dict, hash=False)
    certificates: str = ""


def make_environment(remote: Remote | None = None) -> dict[str, str]:
    """Return the whole environment of a git process."""
    env = {name: os.environ[name] for name in _PASSED if name in os.environ}
    env |= {
        "LC_ALL": "C.UTF-8", "HOME": "/nonexistent", "GIT_TERMINAL_PROMPT": "0", "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_ASKPASS": "/bin/false", "SSH_ASKPASS": "/bin/false", "GIT_OPTIONAL_LOCKS": "0", "GIT_PROTOCOL_FROM_USER": "0",
    }  # fmt: skip
    if remote is None:
        return env | {"GIT_ALLOW_PROTOCOL": "none"}
    repo, credential = remote.repo, remote.credential
    for name, value in remote.proxies.items():
        env |= {name: value}
        env.pop(name.upper(), None)
    if remote.certificates:
        env["GIT_SSL_CAINFO"] = remote.certificates
    config = {
        "http.followRedirects": "false", "http.lowSpeedLimit": "1000", "http.lowSpeedTime": str(max(5, int(remote.timeout / 2))),
        "protocol.version": "2", "credential.helper": "", "gc.auto": "0", "maintenance.auto": "false", "fetch.writeCommitGraph": "false",
    }  # fmt: skip
    if credential is not None and credential.origin == repo.origin and credential.password:
        pair = base64.b64encode(f"{credential.username or 'git'}:{credential.password}".encode()).decode()
        config[f"http.{repo.origin}/.extraHeader"] = f"Authorization: Basic {pair}"
    env["GIT_ALLOW_PROTOCOL"] = {"http": "http"}.get(repo.scheme, "https:ssh")
    env["GIT_SSH_COMMAND"] = _make_ssh(credential)
    env["GIT_CONFIG_COUNT"] = str(len(config))
    for number, (name, value) in enumerate(config.items()):
        env |= {f"GIT_CONFIG_KEY_{number}": name, f"GIT_CONFIG_VALUE_{number}": value}
    return env


def _make_ssh(credential: Credential | None) -> str:
    words = ["ssh", "-oBatchMode=yes", "-oStrictHostKeyChecking=yes", "-oConnectTimeout=15", "-oClearAllForwardings=yes"]
    if credential is not None and credential.key_file:
        words += ["-oIdentitiesOnly=yes", "-i", "'" + credential.key_file.replace("'", "'\\''") + "'"]
    return " ".join(words)


def pin_address(remote: Remote) -> list[str]:
    """Return the git options that keep the connection at the addresses just looked up, so that a name can't change to a private one later.

    Raises RepoUnreachable if the name is unknown, or its address is private and the admin did not write this host down.
    """
    repo = remote.repo
    if remote.trusted or uses_proxy(remote):
        return []
    try:
        found = socket.getaddrinfo(repo.host, repo.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise RepoUnreachable(f"The host {repo.host} is not known. Check the address.", str(error), field="repo") from error
    addresses = sorted({str(entry[4][0]) for entry in found})
    if any(is_private_address(address) for address in addresses):
        raise RepoUnreachable(
            f"{repo.host} is an address inside a private network. An administrator can list it in HubDock.allowed_hosts.", field="repo"
        )
    return ["-c", f"http.curloptResolve={repo.host}:{repo.port}:{','.join(f'[{a}]' if ':' in a else a for a in addresses)}"]


def uses_proxy(remote: Remote) -> bool:
    """True if the connection goes through a proxy, which then looks up the name: this machine may know no names of the outside."""
    env, repo = make_environment(remote), remote.repo
    proxy = env.get(f"{repo.scheme}_proxy") or (env.get("HTTPS_PROXY") if repo.scheme == "https" else "")  # libcurl does not read HTTP_PROXY
    excepted = env.get("no_proxy") or env.get("NO_PROXY") or ""
    return bool(proxy) and not urllib.request.proxy_bypass_environment(f"{repo.host}:{repo.port}", {"no": excepted})  # type: ignore[attr-defined]


@contextmanager
def translated(remote: Remote) -> Iterator[None]:
    """Turn the ways in which git can fail to run into hubdock's errors."""
    try:
        yield
    except process.DeadlineExceeded as error:
        raise RepoUnreachable(
            f"{remote.repo.host} did not answer within {remote.timeout:g} s. Try again, or ask an administrator to raise HubDock.git_timeout.",
            str(error), field="repo",
        ) from error  # fmt: skip
    except FileNotFoundError as error:
        raise BackendError("git is not installed where hubdock runs. An administrator can run `hubdock doctor`.", str(error)) from error


def run(
    remote: Remote, arguments: Sequence[str], *, stdin: bytes = b"", directory: Path | None = None, max_file: int | None = None,
    extra_env: Mapping[str, str] | None = None,
) -> bytes:  # fmt: skip
    """Run git against a remote and return what it prints.

    Raises ResolveError's children for what the remote answers, OutOfSpace, and RecipeError if the repository is over ``max_file`` bytes.
    """
    argv = ["git", *pin_address(remote), *(["-C", str(directory)] if directory else []), *arguments]
    env = make_environment(remote) | dict(extra_env or {})
    with translated(remote):
        output = process.run(argv, env=env, timeout=remote.timeout, stdin=stdin, max_file=max_file)
    if output.code:
        raise _make_error(remote, output.error_text, max_file)
    return output.stdout


def _make_error(remote: Remote, text: str, max_file: int | None) -> Exception:
    secrets = [remote.credential.password] if remote.credential else []
    detail = redact(make_tail(text), secrets)
    host = remote.repo.host
    if FULL.search(text):
        return OutOfSpace.on("the hub", detail)
    if _LARGE.search(text) and max_file is not None:
        return RecipeError(f"The repository is larger than this hub's limit of {max_file // 1024**2} MiB (HubDock.max_repo_size).", detail)
    if gone := _GONE.search(text):
        return RefNotFound(f"{make_short(gone[1])} is not in {remote.repo.short} any more. Choose another branch.", detail, field="ref")
    if _REDIRECT.search(text):
        return RepoUnreachable(f"{host} answers with another address. Open the repository in a browser and use the address shown there.", detail, field="repo")
    if _DENIED.search(text):
        return make_denied(remote.repo, detail)
    if _TLS.search(text):
        return RepoUnreachable(f"The certificate of {host} is not trusted here. An administrator can add it to HubDock.extra_ca_certificates.", detail, field="repo")
    return RepoUnreachable(f"{host} could not be reached. Try again in a moment; if it stays so, tell an administrator.", detail, field="repo")


def make_denied(repo: RepoURL, detail: str = "") -> AccessDenied:
    """Return the one answer for a repository that does not exist and for one that may not be read."""
    return AccessDenied(f"There is no repository {repo.short}, or you may not read it. Check the address.", detail, field="repo")


def list_refs(remote: Remote, patterns: Sequence[str] = ()) -> dict[str, str]:
    """Return ``{full name: commit}`` of a remote with one ``ls-remote``. Annotated tags are peeled. ``HEAD`` maps to the commit of the default."""
    listing = run(remote, ["ls-remote", "--symref", "--", remote.repo.url, *patterns]).decode("utf-8", "replace")
    refs: dict[str, str] = {}
    for line in listing.split("\n"):  # a name may hold what else str.splitlines takes for an end
        oid, _, name = line.partition("\t")
        if oid.startswith("ref: ") and name == "HEAD":
            refs["symref:HEAD"] = oid.removeprefix("ref: ")
        elif re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", oid):
            refs[name.removesuffix("^{}")] = oid  # the peeled line comes after the tag's own
    return refs


def resolve_ref(remote: Remote, name: str, new_branch: str = "") -> tuple[ResolvedRef, bool]:
    """Return what a branch or tag stands for now, and whether the remote has ``new_branch`` already: one process, two requests.

    Raises RefNotFound (with near names), InvalidRef if a branch and a tag of this name differ, and `run`'s errors.
    """
    short = make_short(name)
    branch, tag, other = f"refs/heads/{short}", f"refs/tags/{short}", f"refs/heads/{new_branch}"
    wanted = [name] if name != short else [branch, tag]
    found = list_refs(remote, [*wanted, *(f"{ref}^{{}}" for ref in wanted if ref == tag), *([other] if new_branch else [])])
    # ls-remote's patterns match the end of a name: "main" lists refs/heads/aaa/main too, and first.
    kept = {ref: found[ref] for ref in wanted if ref in found}
    if len(set(kept.values())) > 1:
        raise InvalidRef(f"{short} is both a branch and a tag here. Write {branch} or {tag}.", field="ref")
    for ref, commit in kept.items():
        return ResolvedRef(short, "branch" if ref == branch else "tag", commit), bool(new_branch) and other in found
    raise _make_not_found(remote, short)


@dataclass(frozen=True)
class RemoteRefs:
    """The names of a remote: branches and tags, each sorted, and the default branch (empty if HEAD points nowhere). ``heads`` are the commits of the branches."""

    branches: tuple[str, ...]
    tags: tuple[str, ...]
    default: str
    heads: Mapping[str, str] = field(default_factory=dict, compare=False)


def list_branches(remote: Remote) -> RemoteRefs:
    """Return what can be chosen of a remote, with one process."""
    refs = list_refs(remote, ["HEAD", "refs/heads/*", "refs/tags/*"])
    named = {kind: tuple(sorted(ref.removeprefix(kind) for ref in refs if ref.startswith(kind))) for kind in ("refs/heads/", "refs/tags/")}
    default = refs.get("symref:HEAD", "").removeprefix("refs/heads/")
    heads = {name: refs[f"refs/heads/{name}"] for name in named["refs/heads/"]}
    return RemoteRefs(named["refs/heads/"], named["refs/tags/"], default if default in heads else "", heads)


def _make_not_found(remote: Remote, name: str) -> RefNotFound:
    refs = list_refs(remote)
    known = [ref.split("/", 2)[2] for ref in refs if ref.startswith(("refs/heads/", "refs/tags/"))]
    if not known:
        return RefNotFound(f"{remote.repo.short} is empty: it has no branch yet. Push a first commit.", field="ref")
    if looks_like_commit(name):
        return RefNotFound(f"{name} looks like a commit. Give a branch or a tag; `git push origin {name[:12]}:refs/heads/NAME` makes one.", field="ref")
    near = find_near(name, known)
    hint = f" Did you mean {', '.join(near)}?" if near else f" It has {', '.join(known[:5])}{' …' if len(known) > 5 else ''}."
    return RefNotFound(f"{remote.repo.short} has no branch or tag {name}.{hint}", field="ref", near=near or known[:5])
