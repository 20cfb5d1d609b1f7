"""The admin's settings: what is refused at startup, so that it is not refused at somebody's first start."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from traitlets.config import Config

from hubdock.core.asker import LOCAL, Asker
from hubdock.core.errors import ConfigError, DataError
from hubdock.core.resources import Limits, Resources
from hubdock.drivers.git import Credential
from hubdock.drivers.secrets import read_secret
from hubdock.engine import step_data
from hubdock.engine.config import HubDock, load_config, make_settings

G = 1024**3


def make(**values: Any) -> HubDock:
    settings: HubDock = make_settings(Config({"HubDock": values}))
    return settings


@pytest.fixture
def secret(tmp_path: Path) -> str:
    path = tmp_path / "secret"
    path.write_text("  t0ken \n")
    path.chmod(0o600)
    return str(path)


def test_the_defaults_are_good(tmp_path: Path) -> None:
    settings = make(state_dir=str(tmp_path / "a/b"))
    assert settings.database_url == f"sqlite:///{tmp_path}/a/b/hubdock.sqlite"
    assert (tmp_path / "a/b").stat().st_mode & 0o777 == 0o700
    assert settings.limits == Limits() and settings.indexes == ()
    assert "github.com" in settings.policy.hosts


def test_limits_and_defaults() -> None:
    settings = make(cpu_limit=4, mem_limit="8G", shm_limit="2G", gpu_limit=1, default_resources={"cpu": 1, "memory": "2G", "shm": "512M"})
    assert settings.limits == Limits(4.0, 8 * G, 2 * G, 1, Resources(1.0, 2 * G, G // 2))


def test_lists_can_be_added_to() -> None:
    config = Config()
    config.HubDock.allowed_hosts.append("http://10.0.0.5:3000")
    assert make_settings(config).allowed_hosts[-2:] == ["codeberg.org", "http://10.0.0.5:3000"]


BAD: list[tuple[dict[str, Any], str]] = [
    ({"allowed_hots": ["github.com"]}, "HubDock.allowed_hots is not a setting. Known: allowed_hosts"),
    ({"allowed_images": "*"}, "HubDock.allowed_images is not a setting"),
    ({"Allowed_hosts": ["github.com"]}, "HubDock.Allowed_hosts is not a setting"),
    ({"_private": 1}, "HubDock._private is not a setting"),
    ({"allowed_hosts": ["https://github.com/team"]}, "neither a host"),
    ({"allowed_hosts": [3]}, "allowed_hosts"),
    ({"allowed_repos": ["https://github.com/team/*"]}, "without scheme"),
    ({"git_timeout": 0}, "git_timeout"),
    ({"git_timeout": "soon"}, "git_timeout"),
    ({"max_parallel_builds": 0}, "max_parallel_builds"),
    ({"max_parallel_builds": 1.5}, "max_parallel_builds"),
    ({"build_timeout": -1}, "build_timeout"),
    ({"data_mode": "copy"}, "data_mode"),
    ({"data_mode": "image"}, "A Docker host has the store"),
    ({"state_dir": "relative"}, "must be an absolute path"),
    ({"base_image": ""}, "HubDock.base_image is empty"),
    ({"mem_limit": "lots"}, "size such as 512M"),
    ({"mem_limit": "1M"}, "at least 64M"),
    ({"gpu_limit": -1}, "gpu_limit"),
    ({"default_resources": {"gpu": 1}}, "unknown entries: gpu"),
    ({"default_resources": {"cpu": "many"}}, "number of cores"),
    ({"default_resources": {"cpu": 8}, "cpu_limit": 4}, "8 CPU cores were asked for; the limit is 4"),
    ({"default_resources": {"shm": "2G"}, "shm_limit": "1G"}, "the limit is 1G"),
    ({"git_credentials": [{"username": "x"}]}, "each entry has an “origin”"),
    ({"git_credentials": [{"origin": "https://a.org", "password": "x"}]}, "each entry has an “origin”"),
    ({"git_credentials": [{"origin": "https://a.org"}]}, "each entry has an “origin”"),
    ({"git_credentials": [{"origin": "https://a.org/", "password_file": "SECRET"}]}, "write 'https://a.org/' as 'https://a.org'"),
    ({"git_credentials": [{"origin": "https://A.org", "password_file": "SECRET"}]}, "write 'https://A.org' as 'https://a.org'"),
    ({"git_credentials": [{"origin": "https://a.org/team", "password_file": "SECRET"}]}, "as 'https://a.org'"),
    ({"git_credentials": [{"origin": "https://a.org:443", "password_file": "SECRET"}]}, "as 'https://a.org'"),
    ({"git_credentials": [{"origin": "a.org", "password_file": "SECRET"}]}, "is no origin such as"),
    ({"git_credentials": [{"origin": "https://a.org", "password_file": "/nowhere"}]}, "/nowhere can't be read"),
    ({"git_credentials": [{"origin": "ssh://a.org", "key_file": "/nowhere"}]}, "/nowhere can't be read"),
    ({"git_credentials": [{"origin": "https://a.org", "password_file": "SECRET", "users": "carol"}]}, "“users” of https://a.org must be a list of names"),
    ({"git_credentials": [{"origin": "https://a.org", "password_file": "SECRET", "groups": [""]}]}, "“groups” of https://a.org must be a list"),
    ({"index_credentials": [{"origin": "https://a.org", "username": "x"}]}, "each entry has an “origin”, “password_file”"),
    ({"index_credentials": [{"origin": "https://a.org", "key_file": "SECRET"}]}, "each entry has an “origin”"),
    ({"index_url": "https://user:pa55@a.org/simple"}, "without credentials"),
    ({"index_url": "ftp://a.org"}, "http(s) addresses"),
    ({"index_url": "/srv/wheels"}, "http(s) addresses"),
    ({"extra_index_urls": ["https://[a.org/simple x"]}, "http(s) addresses"),
    ({"extra_ca_certificates": "/nowhere"}, "/nowhere is not a file"),
    ({"proxies": {"ftp_proxy": "x"}}, "proxies"),
    ({"index_credentials": [{"origin": "https://a.org", "password_file": "SECRET"}]}, "https://a.org needs a “username” (__token__ for many"),
    ({"index_credentials": [{"origin": "https://a.org", "username": "a b", "password_file": "SECRET"}]}, "https://a.org needs a “username”"),
    ({"dvc_remotes": {"team": {}}}, "'team' must be the start of a URL"),
    ({"dvc_remotes": {"https://": {"password": "x"}}}, "'https://' must be the start of a URL with its host or bucket"),
    ({"dvc_remotes": {"s3:///": {"profile": "x"}}}, "'s3:///' must be the start of a URL with its host or bucket"),
    ({"dvc_remotes": {"s3://team/": {"secret_access_key_file": "/nowhere"}}}, "/nowhere can't be read"),
    ({"dvc_remotes": {"s3://team/": {"region": "x", "secret_access_key": "pa55%(x)s"}}}, "'secret_access_key' of 's3://team/' holds “%(”"),
]


@pytest.mark.parametrize(("values", "words"), BAD, ids=[json.dumps(values)[:60] for values, _ in BAD])
def test_refused_at_startup(values: dict[str, Any], words: str, secret: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make(**json.loads(json.dumps(values).replace("SECRET", secret)))
    assert words in caught.value.message
    assert "HubDock" in caught.value.message or "secret" in caught.value.message
    assert "pa55" not in caught.value.message


@pytest.mark.parametrize("value", ["pa55%(user)s", "%(", "a%(b"])
def test_a_secret_that_dvc_would_read_as_another_option(secret: str, value: str) -> None:
    """At startup, and at a fetch if the file has changed by then. What the file holds is told to nobody."""
    remotes = {"s3://team/": {"secret_access_key_file": secret, "region": "100%"}}
    assert make(dvc_remotes=remotes).dvc_remotes == remotes
    Path(secret).write_text(value)
    with pytest.raises(ConfigError) as caught:
        make(dvc_remotes=remotes)
    assert "'secret_access_key_file' of 's3://team/' holds “%(”" in str(caught.value) and value not in str(caught.value).replace("“%(”", "")
    with pytest.raises(ConfigError, match=r"secret_access_key_file of HubDock\.dvc_remotes") as caught:
        step_data._open_remotes({"r0": {"url": "s3://team/x", **remotes["s3://team/"]}})
    assert value not in str(caught.value).replace("“%(”", "") and value not in caught.value.detail


def test_the_data_that_can_t_be_had_is_named_with_the_file_that_tracks_it() -> None:
    outs = [{"path": "a", "source": "a.dvc"}, {"path": "b/c", "source": "b/c.dvc"}]
    spec = {"outs": outs, "remotes": {"r0": {"url": "https://bot:pa55@dvc.example.org/x"}}}
    listener: Any = SimpleNamespace(secrets=["k3y"], lines=["told k3y", ""], answer={"missing": [f"b/c/{n}" for n in range(20)], "count": 42})
    error = step_data._name_failure(spec, listener, "the log")
    assert isinstance(error, DataError) and error.file == "b/c.dvc" and "pa55" not in error.message
    assert "42 files of the data could not be fetched from https://***@dvc.example.org/x: b/c/0, b/c/1, b/c/2, b/c/3, b/c/4 and 37 more." in error.message
    listener.answer = {"missing": ["a"], "count": 1}
    error = step_data._name_failure(spec, listener, "the log")
    assert isinstance(error, DataError) and error.file == "a.dvc" and "1 file of the data could not be fetched from https://***@dvc.example.org/x: a." in error.message


def test_a_password_that_a_netrc_can_t_hold(secret: str) -> None:
    entry = {"origin": "https://a.org", "username": "reader", "password_file": secret}
    assert make(index_credentials=[entry]).index_credentials == [entry]
    Path(secret).write_text("two words")
    with pytest.raises(ConfigError, match="neither it nor the password can hold a space") as caught:
        make(index_credentials=[entry])
    assert "two words" not in str(caught.value)


def test_credentials_are_for_one_origin(secret: str) -> None:
    settings = make(git_credentials=[
        {"origin": "https://git.example.org", "username": "bot", "password_file": secret}, {"origin": "ssh://git.example.org:2222", "key_file": secret},
    ])  # fmt: skip
    assert settings.find_credential("https://git.example.org", LOCAL) == Credential("https://git.example.org", "bot", "t0ken")
    assert settings.find_credential("ssh://git.example.org:2222", LOCAL) == Credential("ssh://git.example.org:2222", key_file=secret)
    for other in ("http://git.example.org", "https://git.example.org:8443", "https://sub.git.example.org", "ssh://git.example.org"):
        assert settings.find_credential(other, LOCAL) is None


def test_credentials_are_for_the_people_whom_they_name(secret: str) -> None:
    def entry(username: str, **people: list[str]) -> dict[str, Any]:
        return {"origin": "https://a.org", "username": username, "password_file": secret, **people}

    closed = make(git_credentials=[entry("one", users=["ada"]), entry("two", users=["bob"], groups=["vision"]), entry("nobody", users=[])])
    askers = [Asker("ada"), Asker("bob"), Asker("eve", frozenset({"vision", "sound"})), Asker("Ada"), Asker("", frozenset({"one"})), LOCAL]
    found = [closed.find_credential("https://a.org", asker) for asker in askers]
    assert [credential and credential.username for credential in found] == ["one", "two", "two", None, None, "one"]
    both = make(git_credentials=[entry("one", users=["ada"]), entry("all")])
    assert [both.find_git_entry("https://a.org", asker)["username"] for asker in askers[:2]] == ["one", "all"]  # type: ignore[index]


@pytest.mark.parametrize(("mode", "good"), [(0o600, True), (0o400, True), (0o640, True), (0o644, False), (0o660, False), (0o601, False), (0o606, False)])
def test_who_may_read_a_secret(secret: str, mode: int, good: bool) -> None:
    Path(secret).chmod(mode)
    if good:
        assert read_secret(secret) == "t0ken"
        return
    with pytest.raises(ConfigError, match=rf"is open to others. Run `chmod 600 {secret}`"):
        read_secret(secret)


@pytest.mark.parametrize(("content", "words"), [(b"", "is empty"), (b" \n", "is empty"), (b"\xff", "can't be read"), (None, "can't be read")])
def test_no_secret(tmp_path: Path, content: bytes | None, words: str) -> None:
    path = tmp_path / "secret"
    if content is not None:
        path.touch(mode=0o600)
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=words):
        read_secret(str(path))


def test_files(tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text(json.dumps({"HubDock": {"cpu_limit": 2}}))
    (tmp_path / "c.py").write_text("c.HubDock.cpu_limit = 3")
    (tmp_path / "bad.py").write_text("1 / 0")
    (tmp_path / "bad.json").write_text("{")
    assert make_settings(load_config(str(tmp_path / "c.json"))).cpu_limit == 2
    assert make_settings(load_config(str(tmp_path / "c.py"))).cpu_limit == 3
    assert load_config(None) == Config()
    for name in ("bad.py", "bad.json", "gone.py", "gone.json"):
        with pytest.raises(ConfigError, match=rf"{name} can't be read"):
            load_config(str(tmp_path / name))


def test_every_setting_can_travel_as_json() -> None:
    """The hub writes the settings for the service, which is a process of its own."""
    settings = HubDock()
    for name in HubDock.class_trait_names(config=True):
        value = getattr(settings, name)
        assert json.loads(json.dumps(value)) == value
