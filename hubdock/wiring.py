"""One call in jupyterhub_config.py that makes a hub a hubdock hub."""

from __future__ import annotations

import json
import os
import secrets
import sys
from pathlib import Path
from typing import Any

from traitlets.config import Config
from traitlets.config.loader import LazyConfigValue

from hubdock.core.errors import ConfigError
from hubdock.drivers import docker
from hubdock.engine.config import HubDock, make_settings

SERVICE = "hubdock"
ACCESS = f"access:services!service={SERVICE}"
SPAWNERS = ("Spawner", "DockerSpawner", "HubDockSpawner", "HubDockMixin")
PASSED = (
    "DOCKER_HOST", "DOCKER_CONFIG", "DOCKER_CERT_PATH", "DOCKER_TLS_VERIFY", "HOME", "SSL_CERT_FILE", "GIT_SSL_CAINFO", "SSH_AUTH_SOCK", "XDG_RUNTIME_DIR",
    "http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "KUBECONFIG", "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT",
)  # fmt: skip


def configure(c: Any, *, port: int = 9000) -> HubDock:
    """Wire spawner, service, roles and landing page into a hub's configuration, and return the checked settings.

    Call it last in jupyterhub_config.py: it reads ``c.HubDock``. What was set before stays; what is set after overrides. The service listens on
    ``port`` of the loopback address. Raises ConfigError, so that a wrong setting stops the hub at its start and not a user at theirs.
    """
    settings: HubDock = make_settings(Config({"HubDock": c.HubDock}))
    token_file = _make_token(settings.state)
    config_file = _write_config(settings)
    service = {
        "url": f"http://127.0.0.1:{port}", "api_token": token_file.read_text(encoding="ascii").strip(),
        "command": [sys.executable, "-m", "hubdock.service", "--config", str(config_file)],
        "environment": {name: os.environ[name] for name in PASSED if name in os.environ},
    }  # fmt: skip
    prefix = _wire(c, service, "hubdock" if settings.backend == "docker" else "hubdock-kubernetes")
    if settings.backend == "docker":
        _reach_hub(c, settings.state)
    spawner = c.HubDockMixin
    spawner.setdefault("service_url", f"http://127.0.0.1:{port}{prefix}services/{SERVICE}/")
    spawner.setdefault("service_token_file", str(token_file))
    spawner.setdefault("offers_gpu", settings.gpu_limit > 0)
    _check_timeouts(c, settings)
    return settings


def join(c: Any, *, url: str, token: str = "") -> None:
    """Wire a service that runs by itself (on Kubernetes, in its own Deployment) into a hub's configuration: spawner, roles and landing page.

    Call it last in jupyterhub_config.py. ``url`` is where the hub reaches the service: ``http://hubdock:9000``. ``token`` is the service's, which it has in
    ``JUPYTERHUB_API_TOKEN``; it is not needed where ``c.JupyterHub.services`` has the service already. What was set before stays. Raises ConfigError.
    """
    known: dict[str, Any] = next((service for service in _read(c.JupyterHub, "services", []) if service.get("name") == SERVICE), {})
    if not (token or known.get("api_token")):
        raise ConfigError("hubdock.join needs the token of the service: the one that the service has in JUPYTERHUB_API_TOKEN.")
    prefix = _wire(c, {"url": url, "api_token": token}, "hubdock-kubernetes")
    c.HubDockMixin.setdefault("service_url", f"{url.rstrip('/')}{prefix}services/{SERVICE}/")


def _wire(c: Any, service: dict[str, Any], spawner: str) -> str:
    """Add what every hub of hubdock's has, and return the prefix of the hub."""
    hub = c.JupyterHub
    _add_service(hub, service)
    _add_roles(hub)
    prefix = "/" + str(hub.get("base_url", "/")).strip("/")
    prefix = prefix if prefix.endswith("/") else f"{prefix}/"
    hub.setdefault("spawner_class", spawner)
    hub.setdefault("allow_named_servers", True)
    hub.setdefault("default_url", f"{prefix}services/{SERVICE}/")
    _append(hub, "template_paths", str(Path(__file__).parent / "spawner" / "hub_templates"))
    return prefix


def _make_token(state: Path) -> Path:
    """Return the file of the service's token, made once."""
    path = state / "service_token"
    if not path.exists():
        work = path.with_name(f".service_token.{os.getpid()}")
        work.touch(mode=0o600)
        work.write_text(secrets.token_hex(32), encoding="ascii")
        work.replace(path)
    return path


def _write_config(settings: HubDock) -> Path:
    """Write the settings that differ from the defaults where the service and the CLI read them. They hold paths of secrets, never secrets."""
    defaults = HubDock(state_dir=settings.state_dir)
    names = sorted(HubDock.class_trait_names(config=True))
    values = {name: getattr(settings, name) for name in names if name == "state_dir" or getattr(settings, name) != getattr(defaults, name)}
    path = settings.state / "config.json"
    work = path.with_name(f".config.json.{os.getpid()}")
    work.touch(mode=0o600)
    work.write_text(json.dumps({"HubDock": values}, indent=2) + "\n", encoding="utf-8")
    work.replace(path)
    return path


def _add_service(hub: Any, service: dict[str, Any]) -> None:
    """Add the service, unless the admin has one of this name: that is left as it is."""
    known = _read(hub, "services", [])
    if any(one.get("name") == SERVICE for one in known):
        return
    shown = {"name": SERVICE, "display": True, "oauth_no_confirm": True, "oauth_client_allowed_scopes": [ACCESS, "servers!user", "read:users!user", "custom:hubdock:admin"]}
    hub.services = [*known, {**shown, **service}]


def _add_roles(hub: Any) -> None:
    """Let every user reach the service, beside what the admin gives the role ``user``; let the service see who runs what; define the admins' scope."""
    known = [dict(role) for role in _read(hub, "load_roles", [])]
    if not any(role.get("name") == SERVICE for role in known):  # who runs what, for those who may read its repository
        known.append({"name": SERVICE, "services": [SERVICE], "scopes": ["list:users", "read:servers"]})
    user = next((role for role in known if role.get("name") == "user"), None)
    if user is None:
        known.append({"name": "user", "scopes": ["self", ACCESS]})
    else:
        user["scopes"] = list(dict.fromkeys([*(user.get("scopes") or ["self"]), ACCESS]))
    hub.load_roles = known
    scopes = _read(hub, "custom_scopes", {})
    scopes.setdefault("custom:hubdock:admin", {"description": "See every build, image and workspace of hubdock"})
    hub.custom_scopes = scopes


def _append(section: Any, name: str, value: str) -> None:
    section[name] = [*_read(section, name, []), value]


def _read(section: Any, name: str, empty: Any) -> Any:
    """Return a copy of a list or dictionary of the configuration, also one that was only added to (``c.JupyterHub.services.append(…)``)."""
    value = section.get(name)
    return type(empty)((value.get_value(empty) if isinstance(value, LazyConfigValue) else value) or empty)


def _reach_hub(c: Any, state: Path) -> None:
    """Make the hub listen where containers of its host can reach it, unless the admin said where.

    A hub that starts before the Docker Engine listens where it did the last time: servers that run still look for it there.
    """
    hub = c.JupyterHub
    if any(name in hub for name in ("hub_ip", "hub_bind_url", "hub_connect_url", "hub_connect_ip")):
        return
    network = str(c.DockerSpawner.get("network_name", c.HubDockSpawner.get("network_name", "bridge")))
    gateway, known = docker.find_gateway(network), state / "hub_address"
    if gateway:
        known.write_text(f"{network} {gateway}", encoding="utf-8")
    elif known.exists():
        name, _, last = known.read_text(encoding="utf-8").rpartition(" ")
        gateway = last if name == network else ""
    if gateway:
        hub.hub_ip = gateway


def _check_timeouts(c: Any, settings: HubDock) -> None:
    """Refuse a start_timeout that would end a start while its build is within its own limit; give one that is long enough where none is set."""
    if not any("start_timeout" in c[name] for name in SPAWNERS):
        c.HubDockMixin.start_timeout = int(2 * settings.build_timeout) + 300  # it may wait for its turn as long as it builds
    for name in SPAWNERS:
        given = c[name].get("start_timeout")
        if given is not None and given <= settings.build_timeout:
            raise ConfigError(
                f"{name}.start_timeout ({given} s) must be longer than HubDock.build_timeout ({settings.build_timeout:g} s): a start waits for its build."
            )
