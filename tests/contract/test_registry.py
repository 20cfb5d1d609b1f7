"""The registry driver against a real registry: what is there, what is missing, and what only can't be asked."""

from __future__ import annotations

import hashlib
import io
import json
import random
import re
import socket
import time
from pathlib import Path

import httpx
import pytest

from hubdock.core.errors import BackendError, ConfigError, HubDockError, ImageGone, RegistryUnavailable
from hubdock.core.oci import CONFIG, LAYER, Descriptor, make_digest, make_manifest
from hubdock.drivers.oci import Registry
from hubdock.drivers.oci_auth import Logins
from tests.contract.conftest import Connect, make_logins, start
from tests.kit.images import publish, put_raw
from tests.kit.moody import Answer, Moody, be_silent
from tests.kit.ports import find_port
from tests.kit.registry import Registry as Running
from tests.kit.registry import write_htpasswd
from tests.kit.tokens import TokenServer, write_tls

MISSING = "sha256:" + "0" * 64


def test_what_is_there_and_what_is_not(registry: Registry) -> None:
    digest = publish(registry, "team/base", "1")
    assert registry.find_digest("team/base", "1") == registry.find_digest("team/base", digest) == digest
    assert registry.find_digest("team/base", "2") is None and registry.find_digest("nobody/nothing", "1") is None
    assert registry.find_digest("team/base", MISSING) is None and registry.read_manifest("team/base", MISSING) is None
    manifest = registry.read_manifest("team/base", "1")
    assert manifest and manifest.digest == digest and len(manifest.layers) == 3
    assert registry.read_config("team/base", manifest)["config"] == {"Env": ["PATH=/usr/bin"]}
    layer = manifest.layers[0].digest
    assert registry.has_blob("team/base", layer) and not registry.has_blob("team/other", layer) and not registry.has_blob("team/base", MISSING)


def test_the_digest_is_that_of_the_registry_itself(registry: Registry, running: Running) -> None:
    digest = publish(registry, "team/base", "1", docker=True)
    answer = httpx.get(f"http://{running.host}/v2/team/base/manifests/1", headers={"Accept": "application/vnd.docker.distribution.manifest.v2+json"})
    assert answer.headers["docker-content-digest"] == digest == f"sha256:{hashlib.sha256(answer.content).hexdigest()}"


def test_schema_2_is_read_as_oci(registry: Registry) -> None:
    publish(registry, "team/base", "1", docker=True)
    manifest = registry.read_manifest("team/base", "1")
    assert manifest and manifest.config.media_type == CONFIG and {layer.media_type for layer in manifest.layers} == {f"{LAYER}+gzip"}


def test_the_platform_is_chosen_from_an_index(registry: Registry) -> None:
    entries = []
    for n, (system, architecture) in enumerate([("linux", "arm64"), ("linux", "amd64"), ("unknown", "unknown")]):
        digest = publish(registry, "team/base", f"part-{n}", Mark=str(n))
        entries.append({"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": 1, "platform": {"os": system, "architecture": architecture}})
    index = put_raw(registry, "team/base", "many", {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": entries})
    assert registry.find_digest("team/base", "many") == index
    for reference in ("many", index):
        found = registry.read_manifest("team/base", reference)
        assert found and found.digest == entries[1]["digest"]
    with pytest.raises(BackendError, match=r"has no image for linux/riscv64 under many"):
        registry.read_manifest("team/base", "many", "linux/riscv64")


@pytest.mark.parametrize("chunk", [512 * 1024 * 1024, 1000, 4096, 65536])
def test_blobs_arrive_whole(running: Running, connect: Connect, chunk: int) -> None:
    registry, content = connect(running.host, chunk=chunk), random.Random(1).randbytes(65536)
    described = Descriptor(f"{LAYER}+zstd", make_digest(content), len(content))
    registry.upload_blob("team/x", described, io.BytesIO(content))
    assert registry.has_blob("team/x", described.digest) and b"".join(registry.stream_blob("team/x", described)) == content


def test_a_blob_that_is_another_is_refused(registry: Registry) -> None:
    with pytest.raises(RegistryUnavailable, match=r"answers with an error \(400\)"):
        registry.upload_blob("team/x", Descriptor(LAYER, MISSING, 3), io.BytesIO(b"abc"))
    assert not registry.has_blob("team/x", MISSING)


def test_mounting_moves_nothing(moody: Moody, connect: Connect) -> None:
    registry = connect(moody.host)
    publish(registry, "team/a", "1")
    manifest = registry.read_manifest("team/a", "1")
    assert manifest
    moody.asked.clear()
    assert registry.mount_blob("team/b", manifest.layers[0].digest, "team/a") == ""
    assert registry.has_blob("team/b", manifest.layers[0].digest)
    assert moody.count("PUT") == moody.count("GET") == 0
    upload = registry.mount_blob("team/b", MISSING, "team/a")
    assert "/uploads/" in upload, "the registry began an upload instead"
    registry.upload_blob("team/b", Descriptor(LAYER, make_digest(b"abc"), 3), io.BytesIO(b"abc"), upload)
    assert registry.has_blob("team/b", make_digest(b"abc"))


def test_a_manifest_without_its_blobs_is_refused(registry: Registry) -> None:
    content = make_manifest(b"{}", [Descriptor(LAYER, MISSING, 3)])
    with pytest.raises(ImageGone, match="Start again"):
        registry.put_manifest("team/x", "1", content)
    assert registry.find_digest("team/x", "1") is None


def test_deleting(registry: Registry) -> None:
    digest = publish(registry, "team/x", "1")
    assert registry.delete_manifest("team/x", digest)
    assert registry.find_digest("team/x", "1") is None and registry.find_digest("team/x", digest) is None
    assert not registry.delete_manifest("team/x", digest)


def test_a_registry_that_deletes_nothing_says_so(running: Running, connect: Connect, tmp_path: Path) -> None:
    running.stop()
    keeping = Running(tmp_path, delete=False).start()
    try:
        registry = connect(keeping.host)
        digest = publish(registry, "team/x", "1")
        with pytest.raises(RegistryUnavailable, match="set to delete nothing"):
            registry.delete_manifest("team/x", digest)
    finally:
        keeping.stop()


def test_tags(registry: Registry, running: Running) -> None:
    assert registry.list_tags("team/x") == []
    digest = publish(registry, "team/x", "t2")
    manifest = httpx.get(f"http://{running.host}/v2/team/x/manifests/{digest}", headers={"Accept": "application/vnd.oci.image.manifest.v1+json"}).content
    registry.put_manifest("team/x", "t1", manifest)
    assert registry.list_tags("team/x") == ["t1", "t2"]
    registry.delete_manifest("team/x", digest)
    assert registry.list_tags("team/x") == []


def test_tags_of_all_pages(moody: Moody, connect: Connect) -> None:
    """Registries that page are newer than the one that these tests run."""
    pages = {"n=1000": (["b", "a"], '</v2/team/x/tags/list?last=b&n=2>; rel="next"'), "n=2": (["c"], "")}

    def mood(method: str, path: str) -> Answer:
        tags, link = pages[path.partition("?")[2].rpartition("&")[2]]
        return (200, {"Link": link} if link else {}, json.dumps({"name": "team/x", "tags": tags}).encode())

    moody.mood = mood
    assert connect(moody.host).list_tags("team/x") == ["a", "b", "c"]


# --- who asks ---


def test_a_password(closed: Running, connect: Connect, password_file: str) -> None:
    registry = connect(closed.host, make_logins(closed.host, password_file))
    digest = publish(registry, "team/x", "1")
    assert registry.find_digest("team/x", "1") == digest and registry.find_digest("team/x", "2") is None


@pytest.mark.parametrize("key", ["{host}", "http://{host}", "https://{host}/v1/", "{host}/v2/"])
@pytest.mark.parametrize("form", ["auth", "words"])
def test_a_docker_config(closed: Running, connect: Connect, tmp_path: Path, key: str, form: str) -> None:
    auth = {"auth": "dGVhbTpvbmx5LWZvci10ZXN0cw=="} if form == "auth" else {"username": "team", "password": "only-for-tests"}
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"auths": {"other.example.org": {"auth": "eDp5"}, key.format(host=closed.host): auth}}))
    path.chmod(0o600)
    assert connect(closed.host, Logins(docker_config=str(path))).find_digest("team/x", "1") is None


@pytest.mark.parametrize(
    ("text", "told"),
    [("nonsense", "must be a docker config.json"), ("[]", "must be a docker config.json"), ('{"auths": {"HOST": {"auth": "%%%"}}}', "must be a docker config.json"),
     ('{"auths": {"HOST": {"identitytoken": "x"}}}', "has no username and password for HOST")],
)  # fmt: skip
def test_a_docker_config_that_is_none(closed: Running, connect: Connect, tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(text.replace("HOST", closed.host))
    path.chmod(0o600)
    with pytest.raises(ConfigError, match=re.escape(told.replace("HOST", closed.host))):
        connect(closed.host, Logins(docker_config=str(path))).find_digest("team/x", "1")


def test_a_password_that_changed_counts_at_once(closed: Running, connect: Connect, tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_text("wrong")
    path.chmod(0o600)
    registry = connect(closed.host, make_logins(closed.host, str(path)))
    with pytest.raises(RegistryUnavailable, match="does not let hubdock in") as caught:
        registry.find_digest("team/x", "1")
    assert "wrong" not in caught.value.message + caught.value.detail
    path.write_text("only-for-tests")
    assert registry.find_digest("team/x", "1") is None


def test_without_a_credential_it_is_closed_and_not_missing(closed: Running, guarded: Running, connect: Connect, password_file: str) -> None:
    for host in (closed.host, guarded.host):
        for logins in (Logins(), make_logins("127.0.0.1:1", password_file)):
            with pytest.raises(RegistryUnavailable, match="does not let hubdock in"):
                connect(host, logins).find_digest("team/x", "1")


def test_a_credential_is_for_its_scheme_host_and_port(closed: Running, connect: Connect, password_file: str) -> None:
    port = closed.host.rpartition(":")[2]
    for origin in (f"https://{closed.host}", f"http://localhost:{port}", "http://127.0.0.1", f"http://{closed.host}0"):
        logins = Logins([{"origin": origin, "username": "team", "password_file": password_file}])
        with pytest.raises(RegistryUnavailable, match="does not let hubdock in"):
            connect(closed.host, logins).find_digest("team/x", "1")


def test_tokens(guarded: Running, tokens: TokenServer, connect: Connect, password_file: str) -> None:
    registry = connect(guarded.host, make_logins(guarded.host, password_file))
    publish(registry, "team/a", "1")
    manifest = registry.read_manifest("team/a", "1")
    assert manifest
    for layer in manifest.layers:
        assert registry.mount_blob("team/b", layer.digest, "team/a") == ""
    assert tokens.asked[-1] == ("team", ["repository:team/a:pull", "repository:team/b:pull,push"]), "one token for both, for all mounts"
    assert len(tokens.asked) == 3
    assert registry.delete_manifest("team/a", manifest.digest)
    assert connect(guarded.host).find_digest("public/x", "1") is None, "a token for nobody"


def test_tokens_that_end_are_renewed(tokens: TokenServer, guarded: Running, connect: Connect, password_file: str) -> None:
    tokens.life = 1.0
    registry = connect(guarded.host, make_logins(guarded.host, password_file))
    for _ in range(3):
        assert registry.find_digest("team/x", "1") is None
        time.sleep(0.6)
    assert len(tokens.asked) >= 3


def test_a_token_that_is_refused_is_asked_for_anew(tokens: TokenServer, guarded: Running, connect: Connect, password_file: str) -> None:
    """The registry was set up anew: what it trusted before its restart, it does not trust now."""
    registry = connect(guarded.host, make_logins(guarded.host, password_file))
    tokens.life = -400.0
    with pytest.raises(RegistryUnavailable, match="does not let hubdock in"):
        registry.find_digest("team/x", "1")
    tokens.life = 300.0
    assert registry.find_digest("team/x", "1") is None


def test_a_token_service_that_is_broken_or_away(tokens: TokenServer, guarded: Running, connect: Connect, password_file: str) -> None:
    registry = connect(guarded.host, make_logins(guarded.host, password_file))
    tokens.broken = True
    with pytest.raises(RegistryUnavailable, match="its token service answers with an error"):
        registry.find_digest("team/x", "1")
    tokens.stop()
    with pytest.raises(RegistryUnavailable, match="does not answer"):
        registry.find_digest("team/x", "1")


# --- what can't be asked ---


def quick(registry: Registry) -> HubDockError:
    """Ask, and return the error, which must come at once."""
    begun = time.monotonic()
    with pytest.raises(RegistryUnavailable) as caught:
        registry.find_digest("team/x", "1")
    assert time.monotonic() - begun < 4
    assert caught.value.status == 503
    return caught.value


def test_a_registry_that_is_away(running: Running, registry: Registry, connect: Connect) -> None:
    digest = publish(registry, "team/x", "1")
    running.stop()
    assert "does not answer" in quick(registry).message
    assert "does not answer" in quick(connect(f"127.0.0.1:{find_port()}")).message
    assert "does not answer" in quick(connect("no-such-host.invalid")).message
    running.start()
    assert registry.find_digest("team/x", "1") == digest, "and everything is still there"


def test_a_registry_that_takes_no_connection(connect: Connect) -> None:
    """Its queue is full, as if every packet were dropped."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        address = listening.getsockname()
        filling = [socket.socket() for _ in range(4)]
        for each in filling:
            each.setblocking(False)
            each.connect_ex(address)
        assert "does not answer" in quick(connect(f"127.0.0.1:{address[1]}")).message
        for each in filling:
            each.close()


def test_a_registry_that_says_nothing(moody: Moody, connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hubdock.drivers.oci_http.ANSWER", 1.0)
    moody.mood = be_silent(5)
    assert "does not answer" in quick(connect(moody.host)).message


@pytest.mark.parametrize("status", [400, 403, 429, 500, 502, 503])
def test_an_error_is_never_missing(moody: Moody, connect: Connect, status: int) -> None:
    registry = connect(moody.host)
    moody.mood = lambda method, path: (status, {}, b"<html>oh</html>")
    quick(registry)
    for ask in (registry.read_manifest, registry.find_digest):
        with pytest.raises(RegistryUnavailable):
            ask("team/x", "1")
    for ask_blob in (registry.has_blob, registry.delete_manifest):
        with pytest.raises(RegistryUnavailable):
            ask_blob("team/x", MISSING)
    with pytest.raises(RegistryUnavailable):
        registry.list_tags("team/x")


def test_a_proxy_that_does_not_find_the_registry_is_not_believed(moody: Moody, connect: Connect) -> None:
    """An ingress whose registry is away answers 404 itself."""
    registry = connect(moody.host)
    moody.mood = lambda method, path: (404, {}, b"default backend - 404")
    assert "(404)" in quick(registry).message
    with pytest.raises(RegistryUnavailable):
        registry.has_blob("team/x", MISSING)


def test_a_registry_that_says_missing_only_in_words(moody: Moody, connect: Connect) -> None:
    registry = connect(moody.host)
    moody.mood = lambda method, path: (404, {}, json.dumps({"errors": [{"code": "MANIFEST_UNKNOWN"}]}).encode())
    assert registry.find_digest("team/x", "1") is None and registry.read_manifest("team/x", "1") is None


def test_a_short_hiccup_is_outlived(moody: Moody, connect: Connect) -> None:
    registry = connect(moody.host)
    digest = publish(registry, "team/x", "1")
    answers = [None, (503, {}, b"")]
    moody.mood = lambda method, path: answers.pop() if answers else None
    assert registry.find_digest("team/x", "1") == digest


def test_what_is_not_what_was_asked_for_is_not_used(moody: Moody, connect: Connect) -> None:
    registry = connect(moody.host)
    digest = publish(registry, "team/x", "1")
    manifest = registry.read_manifest("team/x", digest)
    assert manifest
    moody.mood = lambda method, path: (200, {}, b'{"schemaVersion": 2, "layers": []}')
    with pytest.raises(RegistryUnavailable, match="something else than it was asked for"):
        registry.read_manifest("team/x", digest)
    moody.mood = lambda method, path: (200, {}, b"{" * manifest.config.size)
    with pytest.raises(RegistryUnavailable, match="something else than it was asked for"):
        registry.read_config("team/x", manifest)
    for content in (b"short", b"x" * (manifest.config.size + 1)):
        moody.mood = lambda method, path, content=content: (200, {}, content)  # type: ignore[misc]
        with pytest.raises(RegistryUnavailable, match="not whole"):
            registry.read_config("team/x", manifest)


# --- where it sends us ---


def test_storage_hosts_never_see_the_credential(closed: Running, connect: Connect, password_file: str) -> None:
    front, storage = Moody(closed.host), Moody()
    try:
        registry = connect(front.host, make_logins(front.host, password_file))
        publish(registry, "team/x", "1")
        manifest = registry.read_manifest("team/x", "1")
        assert manifest
        config = registry.read_config("team/x", manifest)
        content = b"".join(registry.stream_blob("team/x", manifest.config))
        storage.mood = lambda method, path: (200, {}, content)
        front.mood = lambda method, path: (307, {"Location": f"http://{storage.host}/signed?secret=1"}, b"") if "/blobs/sha256" in path else None
        front.asked.clear()
        assert registry.read_config("team/x", manifest) == config
        assert [asked[0] for asked in storage.asked] == ["GET"] and storage.asked[0][2] == ""
        assert front.asked[0][2].startswith("Basic ")
    finally:
        front.stop()
        storage.stop()


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/x", "http://user:pass@127.0.0.1/x"])
def test_redirects_that_are_not_followed(moody: Moody, connect: Connect, target: str) -> None:
    registry = connect(moody.host)
    publish(registry, "team/x", "1")
    manifest = registry.read_manifest("team/x", "1")
    assert manifest
    moody.mood = lambda method, path: (302, {"Location": target}, b"")
    with pytest.raises(RegistryUnavailable, match="not safe"):
        registry.read_config("team/x", manifest)


@pytest.mark.parametrize("target", ["http://[::1", "ftp://127.0.0.1/x", ""])
def test_uploads_that_are_not_sent_anywhere(moody: Moody, connect: Connect, target: str) -> None:
    registry = connect(moody.host)
    moody.mood = lambda method, path: (202, {"Location": target}, b"") if method == "POST" else (404, {}, b"")
    with pytest.raises(RegistryUnavailable):
        publish(registry, "team/x", "1")


def test_redirects_without_an_end(moody: Moody, connect: Connect) -> None:
    registry = connect(moody.host)
    publish(registry, "team/x", "1")
    manifest = registry.read_manifest("team/x", "1")
    assert manifest
    moody.mood = lambda method, path: (302, {"Location": path}, b"")
    with pytest.raises(RegistryUnavailable, match="from one address to the next"):
        registry.read_config("team/x", manifest)


def test_plain_http_only_where_the_admin_says_so(running: Running) -> None:
    registry = Registry(running.host)
    try:
        with pytest.raises(RegistryUnavailable, match="does not answer"):
            registry.find_digest("team/x", "1")
    finally:
        registry.close()


def test_a_certificate_of_the_teams_own(tmp_path: Path, password_file: str) -> None:
    tls = write_tls(tmp_path)
    running = start(tmp_path / "tls", tls=tls, auth=write_htpasswd(tmp_path))
    logins = Logins([{"origin": running.url, "username": "team", "password_file": password_file}])
    trusting, strict = Registry(running.host, logins, certificates=str(tls["certificate"])), Registry(running.host, logins)
    try:
        assert publish(trusting, "team/x", "1") == trusting.find_digest("team/x", "1")
        with pytest.raises(RegistryUnavailable, match="does not answer") as caught:
            strict.find_digest("team/x", "1")
        assert "CERTIFICATE_VERIFY_FAILED" in caught.value.detail
    finally:
        trusting.close()
        strict.close()
        running.stop()
