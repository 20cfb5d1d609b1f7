"""``hubdock.configure(c)``: what it adds to a hub's configuration, what it leaves, and what it refuses."""

from __future__ import annotations

import json
import stat
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from traitlets.config import Config

from hubdock.core.errors import ConfigError
from hubdock.engine.config import load_config, make_settings
from hubdock.spawner.client import find_token
from hubdock.spawner.docker import HubDockSpawner
from hubdock.wiring import ACCESS, configure, join

SEES = {"name": "hubdock", "services": ["hubdock"], "scopes": ["list:users", "read:servers"]}


@pytest.fixture
def c(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.setattr("hubdock.drivers.docker._local", threading.local())
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:9")  # no engine: nothing is found, and nothing fails
    config = Config()
    config.HubDock.state_dir = str(tmp_path / "state")
    return config


def test_a_hub_that_starts_before_its_engine(c: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """It listens where it did: servers that outlived both look for it there. Another network is another address."""
    with monkeypatch.context() as patch:
        patch.setattr("hubdock.drivers.docker.find_gateway", lambda network: "172.17.0.1")
        configure(Config({"HubDock": c.HubDock}))
    again, moved = Config({"HubDock": c.HubDock}), Config({"HubDock": c.HubDock, "DockerSpawner": {"network_name": "team"}})
    configure(again)
    configure(moved)
    assert again.JupyterHub.hub_ip == "172.17.0.1" and "hub_ip" not in moved.JupyterHub


def test_a_bare_hub(c: Config, tmp_path: Path) -> None:
    settings = configure(c)
    hub, spawner = c.JupyterHub, c.HubDockMixin
    token = (tmp_path / "state/service_token").read_text()
    assert (hub.spawner_class, hub.allow_named_servers, hub.default_url) == ("hubdock", True, "/services/hubdock/")
    (service,) = hub.services
    assert service | {"environment": {}} == {
        "name": "hubdock", "url": "http://127.0.0.1:9000", "api_token": token, "display": True, "oauth_no_confirm": True,
        "oauth_client_allowed_scopes": [ACCESS, "servers!user", "read:users!user", "custom:hubdock:admin"],
        "command": [sys.executable, "-m", "hubdock.service", "--config", str(tmp_path / "state/config.json")], "environment": {},
    }  # fmt: skip
    assert hub.load_roles == [SEES, {"name": "user", "scopes": ["self", ACCESS]}]
    assert set(hub.custom_scopes) == {"custom:hubdock:admin"}
    assert spawner.service_url == "http://127.0.0.1:9000/services/hubdock/" and spawner.service_token_file == str(tmp_path / "state/service_token")
    assert spawner.offers_gpu is False and spawner.start_timeout > settings.build_timeout
    assert "hub_ip" not in hub


def test_what_others_may_not_read(c: Config, tmp_path: Path) -> None:
    configure(c)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in [tmp_path / "state", *(tmp_path / "state").iterdir()]}
    assert modes == {"state": 0o700, "service_token": 0o600, "config.json": 0o600}


def test_the_service_gets_the_settings_that_were_made(c: Config, tmp_path: Path) -> None:
    c.HubDock.allowed_hosts.append("http://10.0.0.5:3000")
    c.HubDock.cpu_limit = 2
    made = configure(c)
    assert set(json.loads((tmp_path / "state/config.json").read_text())["HubDock"]) == {"state_dir", "allowed_hosts", "cpu_limit"}
    read = make_settings(load_config(str(tmp_path / "state/config.json")))
    assert {name: getattr(read, name) for name in made.class_trait_names(config=True)} == {name: getattr(made, name) for name in made.class_trait_names(config=True)}


def test_the_token_is_made_once(c: Config, tmp_path: Path) -> None:
    configure(c)
    token = (tmp_path / "state/service_token").read_text()
    again = Config()
    again.HubDock.state_dir = str(tmp_path / "state")
    configure(again)
    assert again.JupyterHub.services[0]["api_token"] == token


def test_what_was_set_before_stays(c: Config) -> None:
    c.JupyterHub.update({
        "spawner_class": "simple", "allow_named_servers": False, "default_url": "/hub/home", "hub_ip": "10.1.2.3", "base_url": "/jupyter",
        "services": [{"name": "culler"}], "template_paths": ["/srv/templates"], "custom_scopes": {"custom:x": {"description": "x"}},
        "load_roles": [{"name": "user", "scopes": ["self", "shares!user"]}, {"name": "other", "scopes": []}],
    })  # fmt: skip
    c.HubDockMixin.offers_gpu = True
    configure(c, port=9100)
    hub = c.JupyterHub
    assert (hub.spawner_class, hub.allow_named_servers, hub.default_url, hub.hub_ip) == ("simple", False, "/hub/home", "10.1.2.3")
    assert [service["name"] for service in hub.services] == ["culler", "hubdock"]
    assert hub.template_paths[0] == "/srv/templates" and hub.template_paths[1].endswith("hubdock/spawner/hub_templates")
    assert set(hub.custom_scopes) == {"custom:x", "custom:hubdock:admin"}
    assert hub.load_roles == [{"name": "user", "scopes": ["self", "shares!user", ACCESS]}, {"name": "other", "scopes": []}, SEES]
    assert c.HubDockMixin.service_url == "http://127.0.0.1:9100/jupyter/services/hubdock/" and c.HubDockMixin.offers_gpu is True


def test_what_was_only_added_to_stays_too(c: Config) -> None:
    c.JupyterHub.services.append({"name": "culler"})
    c.JupyterHub.load_roles.append({"name": "other", "scopes": []})
    c.JupyterHub.template_paths.insert(0, "/srv/templates")
    c.JupyterHub.custom_scopes.update({"custom:x": {"description": "x"}})
    configure(c)
    hub = c.JupyterHub
    assert [service["name"] for service in hub.services] == ["culler", "hubdock"]
    assert [role["name"] for role in hub.load_roles] == ["other", "hubdock", "user"]
    assert hub.template_paths[0] == "/srv/templates" and len(hub.template_paths) == 2
    assert set(hub.custom_scopes) == {"custom:x", "custom:hubdock:admin"}


def test_a_service_of_the_admin_s_own_is_left_alone(c: Config) -> None:
    c.JupyterHub.services = [{"name": "hubdock", "url": "http://elsewhere:9000"}]
    configure(c)
    assert c.JupyterHub.services == [{"name": "hubdock", "url": "http://elsewhere:9000"}]


def test_the_admin_s_lists_are_not_changed_behind_their_back(c: Config) -> None:
    roles: list[Any] = [{"name": "user", "scopes": ["self"]}]
    c.JupyterHub.load_roles = roles
    configure(c)
    assert roles == [{"name": "user", "scopes": ["self"]}]


@pytest.mark.parametrize("section", ["Spawner", "DockerSpawner", "HubDockSpawner", "HubDockMixin"])
def test_a_start_outlasts_its_build(c: Config, section: str) -> None:
    c.HubDock.build_timeout = 600
    c[section].start_timeout = 600
    with pytest.raises(ConfigError, match=rf"{section}\.start_timeout \(600 s\) must be longer than HubDock\.build_timeout \(600 s\)"):
        configure(c)
    c[section].start_timeout = 601
    configure(c)
    assert c[section].start_timeout == 601 and ("start_timeout" in c.HubDockMixin) is (section == "HubDockMixin")


def test_without_a_start_timeout_there_is_one_that_is_long_enough(c: Config) -> None:
    c.HubDock.build_timeout = 4 * 3600
    configure(c)
    assert HubDockSpawner(config=c).start_timeout == 8 * 3600 + 300


def test_a_wrong_setting_stops_the_hub(c: Config) -> None:
    c.HubDock.allowed_hots = ["github.com"]
    with pytest.raises(ConfigError, match=r"HubDock\.allowed_hots is not a setting"):
        configure(c)


def test_secrets_do_not_leave_their_files(c: Config, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("t0ken-canary")
    secret.chmod(0o600)
    c.HubDock.git_credentials = [{"origin": "https://git.example.org", "password_file": str(secret)}]
    configure(c)
    assert "t0ken-canary" not in (tmp_path / "state/config.json").read_text() + str(c)


# --- a service that runs by itself ---


def test_a_hub_joins_a_service_of_its_own_deployment() -> None:
    c = Config()
    c.JupyterHub.base_url = "/jupyter/"
    join(c, url="http://hubdock:9000/", token="secret")
    hub = c.JupyterHub
    (service,) = hub.services
    assert service["url"] == "http://hubdock:9000/" and service["api_token"] == "secret" and not {"command", "environment"} & set(service)
    assert (hub.spawner_class, hub.allow_named_servers, hub.default_url) == ("hubdock-kubernetes", True, "/jupyter/services/hubdock/")
    assert hub.load_roles == [SEES, {"name": "user", "scopes": ["self", ACCESS]}]
    assert c.HubDockMixin.service_url == "http://hubdock:9000/jupyter/services/hubdock/" and find_token(c) == "secret"


def test_zero_to_jupyterhub_has_the_service_already() -> None:
    """With the token that its chart made. What its values say of the service stays."""
    c = Config()
    mine = {"name": "hubdock", "url": "http://hubdock:9000", "api_token": "generated", "oauth_no_confirm": True}
    c.JupyterHub.services = [{"name": "culler", "api_token": "x"}, mine]
    c.JupyterHub.spawner_class = "hubdock.spawner.kubernetes.HubDockKubeSpawner"
    join(c, url="http://hubdock:9000")
    assert c.JupyterHub.services[1] == mine and find_token(c) == "generated"
    assert c.JupyterHub.spawner_class == "hubdock.spawner.kubernetes.HubDockKubeSpawner"


def test_a_service_without_a_token_stops_the_hub() -> None:
    with pytest.raises(ConfigError, match="needs the token of the service"):
        join(Config(), url="http://hubdock:9000")
    with pytest.raises(ConfigError, match="does not know hubdock's service"):
        find_token(Config())
