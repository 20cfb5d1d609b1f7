"""The git driver and its copies, against a real git HTTP server and a few false ones."""

from __future__ import annotations

import base64
import http.server
import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from config.demo.server import Handler, Server, make_repository
from hubdock.core.errors import (
    AccessDenied,
    BackendError,
    HubDockError,
    InvalidRef,
    RecipeError,
    RefNotFound,
    RepoUnreachable,
    ResolveError,
)
from hubdock.core.refs import ResolvedRef
from hubdock.core.repo import parse_repo_url
from hubdock.drivers import git
from hubdock.drivers.git import Credential, Remote, RemoteRefs, list_branches, resolve_ref
from hubdock.drivers.mirror import Mirror
from tests.unit.conftest import Repository, serve

MIB = 1024**2


def make_remote(url: str, **values: object) -> Remote:
    return Remote(parse_repo_url(url), **{"timeout": 10.0, "trusted": True, **values})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("git")


@pytest.fixture(scope="module")
def server(root: Path) -> Iterator[Server]:
    server = serve(Server(root))
    yield server
    server.shutdown()


def test_the_demo_server_waits_for_no_acknowledgement(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer is written twice, head and body: with Nagle's algorithm the body waits 40 ms for what the client acknowledges late."""
    seen: list[int] = []
    monkeypatch.setattr(Handler, "log_message", lambda self, *_: seen.append(self.connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)))
    with urllib.request.urlopen(urllib.request.Request(f"{server.url}/dvc/x", method="PUT", data=b"x")) as answer:
        assert answer.status == 201
    assert seen == [1]


@pytest.fixture(scope="module")
def work(root: Path, server: Server) -> Repository:
    """A repository with odd names, pushed to the server: ``main`` has three commits."""
    bare = make_repository(root, "x")
    work = Repository(root / "work")
    first = work.commit({"README.md": "one", "data/a.txt": "a"}, "first")
    work.git("tag", "v1")
    work.git("branch", "both")
    work.git("branch", "aaa/main")
    work.commit({"README.md": "two"}, "second")
    work.git("tag", "both")
    work.git("tag", "-a", "annotated", "-m", "a tag", first)
    work.commit({"README.md": "three", "big.bin": os.urandom(2 * MIB), "sp ace/ü.txt": "x", "link": "-> README.md"}, "third: ünï")
    for name in ("same", "heads/odd", "new\u2028line", "vgg19", "Case"):
        work.git("branch", name)
    work.git("tag", "same")
    work.git("push", "--quiet", str(bare), "--all")
    work.git("push", "--quiet", str(bare), "--tags")
    subprocess.run(["git", "-C", str(bare), "symbolic-ref", "refs/remotes/origin/HEAD", "refs/heads/aaa/main"], check=True)
    return work


@pytest.fixture
def remote(server: Server, work: Repository) -> Remote:
    server.requests.clear()
    return make_remote(f"{server.url}/git/x.git")


def commit_of(work: Repository, name: str) -> str:
    return work.git("rev-parse", f"{name}^{{commit}}").decode().strip()


# --- resolving ---


@pytest.mark.parametrize(
    ("name", "kind", "of"),
    [
        ("main", "branch", "refs/heads/main"),
        ("aaa/main", "branch", "refs/heads/aaa/main"),
        ("refs/heads/main", "branch", "refs/heads/main"),
        ("v1", "tag", "refs/tags/v1"),
        ("refs/tags/v1", "tag", "refs/tags/v1"),
        ("annotated", "tag", "refs/tags/annotated"),
        ("refs/tags/annotated", "tag", "refs/tags/annotated"),
        ("refs/heads/both", "branch", "refs/heads/both"),
        ("refs/tags/both", "tag", "refs/tags/both"),
        ("same", "branch", "refs/heads/same"),
        ("refs/tags/same", "tag", "refs/tags/same"),
        ("heads/odd", "branch", "refs/heads/heads/odd"),
        ("new\u2028line", "branch", "refs/heads/new\u2028line"),
    ],
)
def test_names_are_exact(remote: Remote, work: Repository, server: Server, name: str, kind: str, of: str) -> None:
    short = name.removeprefix("refs/heads/").removeprefix("refs/tags/")
    assert resolve_ref(remote, name) == (ResolvedRef(short, kind, commit_of(work, of)), False)
    assert len(server.requests) == 2  # one ls-remote


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mian", "has no branch or tag mian. Did you mean main?"),
        ("VGG19", "Did you mean vgg19?"),
        ("case", "Did you mean Case"),
        ("xyzzy", "has no branch or tag xyzzy. It has "),
        ("refs/heads/v1", "has no branch or tag v1"),
        ("refs/tags/main", "has no branch or tag main"),
        ("aaa", "aaa/main"),
        ("new", "has no branch or tag new"),
        ("HEAD/main", "has no branch"),
        ("deadbeef", "looks like a commit. Give a branch or a tag; `git push origin deadbeef:refs/heads/NAME` makes one"),
    ],
)
def test_what_is_not_there_is_named_with_near_names(remote: Remote, name: str, words: str) -> None:
    with pytest.raises(RefNotFound) as caught:
        resolve_ref(remote, name)
    assert words in caught.value.message
    assert (caught.value.field, caught.value.status) == ("ref", 404)


def test_a_commit_is_no_branch(remote: Remote, work: Repository) -> None:
    with pytest.raises(RefNotFound, match=r"looks like a commit"):
        resolve_ref(remote, commit_of(work, "main"))


def test_a_branch_and_a_tag_that_differ_are_asked_about(remote: Remote) -> None:
    with pytest.raises(InvalidRef, match=r"both is both a branch and a tag here. Write refs/heads/both or refs/tags/both") as caught:
        resolve_ref(remote, "both")
    assert caught.value.field == "ref"


@pytest.mark.parametrize(("new", "taken"), [("vgg19", True), ("try", False), ("main", True), ("v1", False), ("aaa", False), ("line", False)])
def test_whether_a_new_branch_is_new(remote: Remote, server: Server, new: str, taken: bool) -> None:
    assert resolve_ref(remote, "aaa/main", new)[1] is taken
    assert len(server.requests) == 2


def test_what_can_be_chosen(remote: Remote) -> None:
    assert list_branches(remote) == RemoteRefs(
        ("Case", "aaa/main", "both", "heads/odd", "main", "new\u2028line", "same", "vgg19"), ("annotated", "both", "same", "v1"), "main"
    )


def test_an_empty_repository(server: Server, root: Path) -> None:
    make_repository(root, "empty")
    remote = make_remote(f"{server.url}/git/empty.git")
    with pytest.raises(RefNotFound, match=r"is empty: it has no branch yet. Push a first commit"):
        resolve_ref(remote, "main")
    assert list_branches(remote) == RemoteRefs((), (), "")


# --- remotes that do not answer as they should ---


def find_error(remote: Remote) -> ResolveError:
    with pytest.raises(ResolveError) as caught:
        resolve_ref(remote, "main")
    return caught.value


def test_missing_and_forbidden_answer_alike(root: Path, server: Server, work: Repository) -> None:
    locked = serve(Server(root, password="bot:t0ken"))
    try:
        answers = [
            find_error(make_remote(f"{server.url}/git/none.git")),
            find_error(make_remote(f"{locked.url}/git/x.git")),
            find_error(make_remote(f"{locked.url}/git/x.git", credential=Credential(locked.url, "bot", "wr0ng"))),
            find_error(make_remote(f"{locked.url}/git/none.git", credential=Credential(locked.url, "bot", "t0ken"))),
        ]
        assert {type(answer) for answer in answers} == {AccessDenied}
        hosts = [server.url.partition("://")[2], *[locked.url.partition("://")[2]] * 3]
        names = ["none", "x", "x", "none"]
        assert [answer.message for answer in answers] == [
            f"There is no repository {host}/git/{name}, or you may not read it. Check the address." for host, name in zip(hosts, names, strict=True)
        ]
        assert len({str(answer.as_dict() | {"message": ""}) for answer in answers}) == 1
        assert not any("wr0ng" in answer.detail or "t0ken" in answer.detail for answer in answers)
        opened = make_remote(f"{locked.url}/git/x.git", credential=Credential(locked.url, "bot", "t0ken"))
        assert resolve_ref(opened, "main")[0].commit == commit_of(work, "main")
    finally:
        locked.shutdown()


def test_a_silent_remote_is_ended_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silence:
        began = time.monotonic()
        error = find_error(make_remote(f"http://127.0.0.1:{silence.getsockname()[1]}/x", timeout=1.0))
        assert 0.9 < time.monotonic() - began < 4
    assert isinstance(error, RepoUnreachable) and error.status == 502
    assert error.message.startswith("127.0.0.1 did not answer within 1 s. Try again") and "HubDock.git_timeout" in error.message


def test_a_remote_that_drips_is_ended_in_time() -> None:
    with Fake(drip=True) as fake:
        began = time.monotonic()
        assert isinstance(find_error(make_remote(fake.url, timeout=1.5)), RepoUnreachable)
        assert time.monotonic() - began < 5


def test_a_closed_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    error = find_error(make_remote(f"http://127.0.0.1:{port}/x"))
    assert isinstance(error, RepoUnreachable) and "could not be reached" in error.message


def test_an_unknown_host() -> None:
    error = find_error(make_remote("https://no-such-host.invalid/x", trusted=False))
    assert isinstance(error, RepoUnreachable) and "no-such-host.invalid is not known" in error.message


class Fake:
    """An HTTP server that logs headers, and redirects or drips."""

    def __init__(self, redirect: str = "", drip: bool = False, status: int = 404) -> None:
        self.headers: list[dict[str, str]] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.headers.append(dict(self.headers))
                self.send_response(302 if redirect else 200 if drip else status)
                if redirect:
                    self.send_header("Location", redirect)
                self.end_headers()
                for _ in range(100 if drip else 0):
                    try:
                        self.wfile.write(b"x")
                        self.wfile.flush()
                    except OSError:
                        return
                    time.sleep(0.1)

            def log_message(self, format: str, *args: object) -> None:
                return

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.origin = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.url = f"{self.origin}/team/x"

    def __enter__(self) -> Fake:
        serve(self.server)
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()


def test_redirects_are_not_followed() -> None:
    """A redirect could lead a request, and its credential, to the metadata address."""
    with Fake() as target, Fake(redirect=f"{target.url}/info/refs?service=git-upload-pack") as fake:
        error = find_error(make_remote(fake.url, credential=Credential(fake.origin, "bot", "t0ken")))
        assert isinstance(error, RepoUnreachable)
        assert error.message == "127.0.0.1 answers with another address. Open the repository in a browser and use the address shown there."
        assert len(fake.headers) == 1 and target.headers == []


@pytest.mark.parametrize(("status", "kind"), [(401, AccessDenied), (403, AccessDenied), (404, AccessDenied), (500, RepoUnreachable), (503, RepoUnreachable), (429, RepoUnreachable)])
def test_what_a_status_means(status: int, kind: type[ResolveError]) -> None:
    with Fake(status=status) as fake:
        assert type(find_error(make_remote(fake.url))) is kind


def test_a_credential_is_sent_to_exactly_its_origin() -> None:
    with Fake() as fake, Fake() as other:
        credential = Credential(fake.origin, "bot", "t0ken")
        for url in (fake.url, other.url, fake.url.replace("127.0.0.1", "localhost")):
            find_error(make_remote(url, credential=credential))
        sent = ["Authorization" in headers for headers in (*fake.headers, *other.headers)]
        assert sent == [True, False, False]
        assert fake.headers[0]["Authorization"] == "Basic " + base64.b64encode(b"bot:t0ken").decode()


def test_a_credential_is_not_in_the_process_list_or_address(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []
    monkeypatch.setattr(git.process, "run", lambda argv, **_: seen.append(list(argv)) or git.process.Output(0, b"", b""))
    git.run(make_remote("https://a.org/x", credential=Credential("https://a.org", "bot", "t0ken")), ["ls-remote", "--", "https://a.org/x"])
    assert "t0ken" not in str(seen) and base64.b64encode(b"bot:t0ken").decode() not in str(seen)


def test_the_environment_is_minimal(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("JUPYTERHUB_API_TOKEN", "GIT_DIR", "GIT_SSH", "GIT_EXTERNAL_DIFF", "GIT_CONFIG_PARAMETERS", "AWS_SECRET_ACCESS_KEY", "LD_PRELOAD"):
        monkeypatch.setenv(name, "x")
    env = git.make_environment(make_remote("https://a.org/x"))
    config = {env[f"GIT_CONFIG_KEY_{n}"]: env[f"GIT_CONFIG_VALUE_{n}"] for n in range(int(env["GIT_CONFIG_COUNT"]))}
    assert "x" not in env.values()
    assert (env["GIT_TERMINAL_PROMPT"], env["GIT_ALLOW_PROTOCOL"], env["LC_ALL"], env["GIT_CONFIG_GLOBAL"], env["HOME"]) == ("0", "https:ssh", "C.UTF-8", "/dev/null", "/nonexistent")
    assert config["http.followRedirects"] == "false" and config["credential.helper"] == "" and "http.lowSpeedTime" in config
    assert git.make_environment()["GIT_ALLOW_PROTOCOL"] == "none"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "169.254.169.254", "[::1]", "10.0.0.1", "[::ffff:127.0.0.1]"])
def test_a_private_address_is_refused_unless_the_host_is_written_down(host: str) -> None:
    error = find_error(make_remote(f"https://{host}/x", trusted=False))
    assert isinstance(error, RepoUnreachable) and "inside a private network" in error.message and "HubDock.allowed_hosts" in error.message


def test_a_name_can_not_change_to_another_address_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(git.socket, "getaddrinfo", lambda *_, **__: [(2, 1, 6, "", ("140.82.121.4", 443)), (10, 1, 6, "", ("2606:50c0::1", 443, 0, 0))])
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    options = git.pin_address(make_remote("https://github.com/x", trusted=False))
    assert options == ["-c", "http.curloptResolve=github.com:443:140.82.121.4,[2606:50c0::1]"]


def test_git_that_is_not_installed(remote: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(BackendError, match=r"git is not installed where hubdock runs"):
        resolve_ref(remote, "main")


# --- copies ---


@pytest.fixture
def mirror(remote: Remote, tmp_path: Path) -> Mirror:
    return Mirror(tmp_path / "state", remote, 2048 * MIB)


def resolve(remote: Remote, name: str = "main") -> ResolvedRef:
    return resolve_ref(remote, name)[0]


def test_a_commit_is_read_with_few_requests_and_no_contents(mirror: Mirror, work: Repository, server: Server) -> None:
    ref = resolve(mirror.remote)
    server.requests.clear()
    assert mirror.ensure_commit(ref) == ref.commit
    assert len(server.requests) == 3  # capabilities, refs, pack
    tree = mirror.read_tree(ref.commit)
    work.git("checkout", "--quiet", "main")
    assert tree.oid == work.tree().oid
    assert [entry.path for entry in tree.entries()] == [entry.path for entry in work.tree().entries()]
    assert mirror.read_commit(ref.commit) == ("third: ünï", "Ada", 1767323045)
    assert len(mirror.find_missing(entry.oid for entry in tree.entries() if entry.kind == "blob")) == 5  # README and the link differ
    assert len(server.requests) == 3
    assert sum(path.stat().st_size for path in mirror.plan.rglob("*.pack")) < 10_000


def test_a_known_commit_costs_nothing(mirror: Mirror, server: Server) -> None:
    ref = resolve(mirror.remote)
    mirror.ensure_commit(ref)
    server.requests.clear()
    again = Mirror(mirror.directory.parent.parent, mirror.remote, 2048 * MIB)
    assert again.has_commit(ref.commit) and again.ensure_commit(ref) == ref.commit
    assert server.requests == []


def test_files_are_fetched_in_one_go_and_once(mirror: Mirror, server: Server) -> None:
    ref = resolve(mirror.remote)
    mirror.ensure_commit(ref)
    tree = mirror.read_tree(ref.commit)
    oids = {path: entry.oid for path in ("README.md", "data/a.txt", "sp ace/ü.txt") if (entry := tree.find(path))}
    server.requests.clear()
    found = mirror.read_blobs(oids.values())
    assert {path: found[oid] for path, oid in oids.items()} == {"README.md": b"three", "data/a.txt": b"a", "sp ace/ü.txt": b"x"}
    posts = [path for method, path in server.requests if method == "POST"]
    assert len(posts) == 1
    server.requests.clear()
    assert mirror.read_blobs(oids.values()) == found and mirror.ensure_blobs(oids.values()) == 0
    assert mirror.read_blobs([]) == {}
    assert server.requests == []


def test_nothing_is_fetched_behind_ones_back(mirror: Mirror, server: Server) -> None:
    """A partial clone fetches what it lacks by itself, an object and a connection at a time: never here."""
    ref = resolve(mirror.remote)
    mirror.ensure_commit(ref)
    entry = mirror.read_tree(ref.commit).find("big.bin")
    assert entry is not None
    server.requests.clear()
    with pytest.raises(BackendError, match=r"missing in the hub's copy"):
        list(mirror.stream_blobs([entry.oid]))
    assert server.requests == []


def test_streams_are_whole_even_if_they_are_not_read(mirror: Mirror) -> None:
    ref = resolve(mirror.remote)
    mirror.ensure_commit(ref)
    entries = [entry for entry in mirror.read_tree(ref.commit).entries() if entry.kind == "blob"]
    mirror.ensure_blobs(entry.oid for entry in entries)
    sizes = {}
    for number, (oid, size, stream) in enumerate(mirror.stream_blobs(entry.oid for entry in entries)):
        sizes[oid] = size if number % 2 else len(stream.read(3)) + len(stream.read())
    assert sizes == {entry.oid: sizes[entry.oid] for entry in entries} and max(sizes.values()) == 2 * MIB


def test_two_at_once_fetch_once(mirror: Mirror, server: Server) -> None:
    ref = resolve(mirror.remote)
    server.requests.clear()
    copies = [Mirror(mirror.directory.parent.parent, mirror.remote, 2048 * MIB) for _ in range(6)]
    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(lambda copy: copy.ensure_commit(ref), copies)) == [ref.commit] * 6
    assert len(server.requests) == 3


def test_a_branch_that_moved_meanwhile(mirror: Mirror, work: Repository) -> None:
    old = ResolvedRef("main", "branch", commit_of(work, "v1"))
    assert mirror.ensure_commit(old) == commit_of(work, "main")


def test_a_branch_that_is_gone_meanwhile(mirror: Mirror) -> None:
    with pytest.raises(RefNotFound, match=r"gone is not in .*/git/x any more. Choose another branch"):
        mirror.ensure_commit(ResolvedRef("gone", "branch", "1" * 40))


def test_tags(mirror: Mirror, work: Repository) -> None:
    ref = resolve(mirror.remote, "annotated")
    assert mirror.ensure_commit(ref) == ref.commit == commit_of(work, "v1")


def test_a_repository_that_is_too_large(remote: Remote, tmp_path: Path) -> None:
    mirror = Mirror(tmp_path, remote, MIB)
    ref = resolve(remote)
    mirror.ensure_commit(ref)  # trees alone are small
    oids = [entry.oid for entry in mirror.read_tree(ref.commit).entries() if entry.kind == "blob"]
    with pytest.raises(RecipeError, match=r"larger than this hub's limit of 1 MiB \(HubDock.max_repo_size\)"):
        mirror.ensure_blobs(oids)
    assert not list(mirror.plan.rglob("tmp_*"))  # nothing half-fetched fills the disk
    assert Mirror(tmp_path, remote, 4 * MIB).ensure_blobs(oids) == 5


def test_the_history_without_contents(mirror: Mirror, work: Repository, tmp_path: Path) -> None:
    ref = resolve(mirror.remote)
    made = mirror.ensure_history(ref)
    assert sorted(path.name for path in made.iterdir()) == ["history.idx", "history.pack", "refs"]
    assert made.stat().st_mode & 0o777 == 0o755
    refs = dict(line.split(" ", 1)[::-1] for line in (made / "refs").read_text().rstrip("\n").split("\n"))
    assert refs["refs/heads/main"] == ref.commit and refs["refs/heads/new\u2028line"] == ref.commit and "refs/tags/annotated" in refs
    assert (made / "history.pack").stat().st_size < 10_000
    target = Repository(tmp_path / "target")
    target.git("index-pack", "--stdin", "--fix-thin", stdin=(made / "history.pack").read_bytes())
    target.git("update-ref", "refs/heads/got", ref.commit)
    assert target.git("log", "--format=%s", "got").decode().split("\n")[:3] == ["third: ünï", "second", "first"]


def test_the_history_is_made_once(mirror: Mirror, server: Server) -> None:
    ref = resolve(mirror.remote)
    mirror.ensure_history(ref)
    server.requests.clear()
    assert mirror.ensure_history(ref) == mirror.directory / "packs" / ref.commit
    assert server.requests == []


def test_a_history_without_the_commit(mirror: Mirror) -> None:
    with pytest.raises(RefNotFound, match=r"main changed on 127.0.0.1 a moment ago. Start again"):
        mirror.ensure_history(ResolvedRef("main", "branch", "1" * 40))


def test_no_credential_is_written(root: Path, work: Repository, tmp_path: Path) -> None:
    locked = serve(Server(root, password="bot:t0ken-canary"))
    try:
        mirror = Mirror(tmp_path, make_remote(f"{locked.url}/git/x.git", credential=Credential(locked.url, "bot", "t0ken-canary")), 2048 * MIB)
        ref = resolve(mirror.remote)
        mirror.ensure_commit(ref)
        mirror.ensure_history(ref)
        needles = [b"t0ken-canary", base64.b64encode(b"bot:t0ken-canary")]
        assert not [path for path in tmp_path.rglob("*") if path.is_file() and any(needle in path.read_bytes() for needle in needles)]
    finally:
        locked.shutdown()


def test_a_copy_that_was_half_made_is_made_again(mirror: Mirror) -> None:
    ref = resolve(mirror.remote)
    mirror.plan.mkdir(parents=True)
    (mirror.plan / "HEAD").write_text("garbage")
    assert mirror.ensure_commit(ref) == ref.commit


def test_locks_of_a_killed_git_are_in_nobodys_way(mirror: Mirror) -> None:
    """git's own locks outlive a kill -9; ours, which every writer holds, does not."""
    ref = resolve(mirror.remote)
    commit = mirror.ensure_commit(ref)
    left = [mirror.plan / "shallow.lock", mirror.plan / "packed-refs.lock", mirror.plan / "refs" / "hubdock" / "heads" / "main.lock", mirror.plan / "objects" / "pack" / "tmp_pack_x"]
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    half = mirror.directory / "packs" / ".new-x"
    half.mkdir(parents=True)
    (mirror.plan / "hubdock-commits" / commit).unlink()
    assert mirror.ensure_commit(ref) == commit
    mirror.ensure_history(ref)
    assert not [path for path in (*left, half) if path.exists()]


def test_other_addresses_have_other_copies(mirror: Mirror) -> None:
    other = Mirror(mirror.directory.parent.parent, replace(mirror.remote, repo=parse_repo_url("https://a.org/git/x")), MIB)
    same = Mirror(mirror.directory.parent.parent, replace(mirror.remote, repo=parse_repo_url(mirror.remote.repo.canonical)), MIB)
    assert other.directory != mirror.directory == same.directory


def test_sha256_repositories(root: Path, server: Server, tmp_path: Path) -> None:
    bare = root / "git" / "sha256.git"
    subprocess.run(["git", "init", "--quiet", "--bare", "--object-format=sha256", "-b", "main", str(bare)], check=True)
    for option in ("uploadpack.allowFilter", "uploadpack.allowAnySHA1InWant"):
        subprocess.run(["git", "-C", str(bare), "config", option, "true"], check=True)
    work = tmp_path / "work"
    people = ["-c", "user.name=Ada", "-c", "user.email=a@example.org"]
    subprocess.run(["git", "init", "--quiet", "--object-format=sha256", "-b", "main", str(work)], check=True)
    (work / "x.txt").write_text("x")
    subprocess.run(["git", "-C", str(work), "add", "x.txt"], check=True)
    subprocess.run(["git", "-C", str(work), *people, "commit", "--quiet", "-m", "first"], check=True)
    subprocess.run(["git", "-C", str(work), "push", "--quiet", str(bare), "main"], check=True)
    mirror = Mirror(tmp_path / "state", make_remote(f"{server.url}/git/sha256.git"), 64 * MIB)
    ref = resolve(mirror.remote)
    assert len(ref.commit) == 64 and mirror.ensure_commit(ref) == ref.commit
    entry = mirror.read_tree(ref.commit).find("x.txt")
    assert entry is not None and mirror.read_blobs([entry.oid]) == {entry.oid: b"x"}
    assert (mirror.ensure_history(ref) / "history.idx").exists()


def test_errors_of_the_copy_are_the_hub_s_own(mirror: Mirror) -> None:
    with pytest.raises(HubDockError) as caught:
        mirror.read_tree("1" * 40)
    assert caught.value.status == 502 and "Try again" in caught.value.message
