"""git behind a proxy and with authorities of the admin's own: a real git server over TLS, and a proxy that notes what it is asked."""

from __future__ import annotations

import http.server
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from config.demo.server import Server, make_repository
from hubdock.core.asker import LOCAL
from hubdock.core.errors import ConfigError, RepoUnreachable
from hubdock.core.repo import parse_repo_url
from hubdock.drivers import git
from hubdock.drivers.certificates import ensure_bundle, find_system_bundle
from hubdock.drivers.git import Remote, list_refs, resolve_ref
from hubdock.engine.assembly import make_remote_spec
from hubdock.engine.config import HubDock
from hubdock.engine.database import Database
from hubdock.engine.reading import Reader
from hubdock.engine.work import make_remote
from tests.unit.conftest import Repository, serve

PROXIES = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "GIT_SSL_CAINFO", "SSL_CERT_FILE")


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of 127.0.0.1 that only its own file vouches for, with its key beside it."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    path = tmp_path_factory.mktemp("authority")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=hubdock's tests"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(path / "key.pem"), "-out", str(path / "ca.pem")]
    subprocess.run(command, check=True, capture_output=True)
    return path


@pytest.fixture(scope="module")
def secure(authority: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a repository with the branch ``main``, over https."""
    root = tmp_path_factory.mktemp("secure")
    work = Repository(root / "work")
    work.commit({"README.md": "x"})
    work.git("push", "--quiet", str(make_repository(root, "x")), "main")
    server = Server(root)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority / "ca.pem", authority / "key.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    serve(server)
    yield f"https://127.0.0.1:{server.server_address[1]}/git/x.git"
    server.shutdown()


def make_reader(state: Path, url: str, **settings: Any) -> Reader:
    options = HubDock(state_dir=str(state), allowed_hosts=[parse_repo_url(url).origin], **settings)
    return Reader(options, Database(options.database_url))


def test_git_trusts_the_admin_s_authorities(secure: str, authority: Path, tmp_path: Path) -> None:
    """What the error recommends helps: in the service, and in the workers that it starts."""
    repo = parse_repo_url(secure)
    with pytest.raises(RepoUnreachable, match=r"not trusted here\. An administrator can add it to HubDock\.extra_ca_certificates"):
        list_refs(make_reader(tmp_path, secure).make_remote(repo, LOCAL))
    reader = make_reader(tmp_path, secure, extra_ca_certificates=str(authority / "ca.pem"))
    remote = reader.make_remote(repo, LOCAL)
    ref, _ = resolve_ref(remote, "main")
    assert make_remote(make_remote_spec(reader.settings, remote, LOCAL)).certificates == remote.certificates
    mirror = reader.make_mirror(make_remote(make_remote_spec(reader.settings, remote, LOCAL)))
    assert mirror.ensure_commit(ref) == ref.commit and mirror.ensure_history(ref).exists()


def test_the_system_s_authorities_are_trusted_too(authority: Path, tmp_path: Path) -> None:
    text = ensure_bundle(tmp_path, str(authority / "ca.pem")).read_text()
    assert (authority / "ca.pem").read_text().strip() in text and Path(find_system_bundle()).read_text().strip() in text


def test_a_bundle_is_named_by_its_content(authority: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine, system = tmp_path / "mine.pem", tmp_path / "system.pem"
    mine.write_text("one")
    system.write_text("system")
    monkeypatch.setenv("GIT_SSL_CAINFO", str(system))
    first = ensure_bundle(tmp_path, str(mine))
    assert first.read_text() == "system\none\n" and ensure_bundle(tmp_path, str(mine)) == first
    mine.write_text("two")
    second = ensure_bundle(tmp_path, str(mine))
    assert second.read_text() == "system\ntwo\n" and first.exists(), "a git process may read it still"
    system.write_text("renewed")
    assert ensure_bundle(tmp_path, str(mine)).read_text() == "renewed\ntwo\n"
    mine.unlink()
    with pytest.raises(ConfigError, match=r"HubDock\.extra_ca_certificates: .*mine\.pem can't be read"):
        ensure_bundle(tmp_path, str(mine))


class Proxy:
    """A proxy that notes what it is asked and has no answer."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append((self.command, self.path))
                self.send_error(502)

            do_CONNECT = do_GET

            def log_message(self, format: str, *args: object) -> None:
                return

        self.server = serve(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    proxy = Proxy()
    yield proxy
    proxy.server.shutdown()


def ask(url: str, **values: Any) -> str:
    """Ask a remote that can't answer, and return what is said of it."""
    with pytest.raises(RepoUnreachable) as caught:
        list_refs(Remote(parse_repo_url(url), timeout=10.0, **values))
    return caught.value.message


@pytest.mark.parametrize(
    ("url", "asked"),
    [
        ("https://git.no-such-host.invalid/team/x", ("CONNECT", "git.no-such-host.invalid:443")),
        ("http://git.no-such-host.invalid/team/x", ("GET", "http://git.no-such-host.invalid/team/x/info/refs?service=git-upload-pack")),
    ],
)
def test_git_goes_through_the_admin_s_proxy(proxy: Proxy, url: str, asked: tuple[str, str]) -> None:
    """Which looks up the name: this machine may know none of the outside."""
    ask(url, proxies={"http_proxy": proxy.url, "https_proxy": proxy.url})
    assert proxy.asked[:1] == [asked]


def test_hosts_that_need_no_proxy(proxy: Proxy) -> None:
    proxies = {"https_proxy": proxy.url, "no_proxy": "localhost,.no-such-host.invalid"}
    assert "git.no-such-host.invalid is not known" in ask("https://git.no-such-host.invalid/team/x", proxies=proxies)
    assert "private network" in ask("https://localhost/team/x", proxies=proxies), "addresses are looked at where git connects itself"
    assert proxy.asked == []


def test_the_setting_stands_in_for_the_environment(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "git.no-such-host.invalid")
    url = "https://git.no-such-host.invalid/x"
    ask(url, proxies={"https_proxy": proxy.url, "no_proxy": "localhost"})
    assert len(proxy.asked) == 1
    env = git.make_environment(Remote(parse_repo_url(url)))
    assert (env["HTTPS_PROXY"], env["NO_PROXY"]) == ("http://127.0.0.1:9", "git.no-such-host.invalid"), "without the setting"


def test_the_planner_and_the_workers_use_the_proxy(proxy: Proxy, tmp_path: Path) -> None:
    url = "https://git.no-such-host.invalid/x"
    reader = make_reader(tmp_path, url, proxies={"https_proxy": proxy.url})
    remote = reader.make_remote(parse_repo_url(url), LOCAL)
    for used in (remote, make_remote(make_remote_spec(reader.settings, remote, LOCAL))):
        with pytest.raises(RepoUnreachable):
            list_refs(used)
    assert proxy.asked == [("CONNECT", "git.no-such-host.invalid:443")] * 2
