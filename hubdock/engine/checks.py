"""What is wrong with an admin's settings, told before anything starts."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hubdock.core.dvcconfig import is_literal
from hubdock.core.errors import ConfigError, HubDockError
from hubdock.core.repo import parse_repo_url
from hubdock.core.resources import Resources, parse_bytes
from hubdock.drivers.secrets import read_secret

if TYPE_CHECKING:
    from hubdock.engine.config import HubDock


def check_settings(settings: HubDock) -> None:
    """Raise ConfigError for the first setting that would fail later."""
    try:
        _ = settings.policy, settings.entries, settings.limits.apply(Resources())
        parse_bytes(settings.disk_budget, "disk_budget")
    except ConfigError:
        raise
    except HubDockError as error:
        raise ConfigError(f"HubDock limits, default_resources and disk_budget: {error.message}") from error
    if not settings.base_image:
        raise ConfigError("HubDock.base_image is empty. Name an image, such as a dated tag of quay.io/jupyter/tensorflow-notebook.")
    if not settings.free_choice and not settings.catalogue:
        raise ConfigError("HubDock.free_choice is off, and HubDock.catalogue is empty: nothing could be started. List a repository.")
    for entry in settings.git_credentials:
        _check_origin("git_credentials", entry, {"origin", "username", "password_file", "key_file", "users", "groups"}, {"password_file", "key_file"})
        _check_people(entry)
    for entry in settings.index_credentials:
        _check_index_credential(entry)
    _check_data(settings)
    for url in settings.indexes:
        if not re.match(r"https?://[^/\s@]+(/[^\s@]*)?$", url):
            raise ConfigError("HubDock.index_url and extra_index_urls are http(s) addresses without credentials; those go into index_credentials.")


def _check_people(entry: dict[str, Any]) -> None:
    for name in ("users", "groups"):
        people = entry.get(name, [])
        if not isinstance(people, list) or not all(isinstance(person, str) and person for person in people):
            raise ConfigError(f"HubDock.git_credentials: “{name}” of {entry['origin']} must be a list of names.")


def _check_index_credential(entry: dict[str, Any]) -> None:
    _check_origin("index_credentials", entry, {"origin", "username", "password_file"}, {"password_file"})
    if any(not word or re.search(r"\s", word) for word in (str(entry.get("username", "")), read_secret(str(entry["password_file"])))):
        raise ConfigError(
            f"HubDock.index_credentials: {entry['origin']} needs a “username” (__token__ for many indexes), and neither it nor the password can hold a space."
        )


def _check_data(settings: HubDock) -> None:
    if settings.data_mode == "image" and settings.backend == "docker":
        raise ConfigError(
            "HubDock.data_mode is “image”, which is for Kubernetes without storage that all nodes mount. A Docker host has the store in a volume of its own: "
            "set it to “store”."
        )  # fmt: skip
    if settings.extra_ca_certificates and not Path(settings.extra_ca_certificates).is_file():
        raise ConfigError(f"HubDock.extra_ca_certificates: {settings.extra_ca_certificates} is not a file.")
    for prefix, options in settings.dvc_remotes.items():
        if not re.match(r"[a-z][a-z0-9+.-]*://[^/]", prefix):  # a scheme alone would give its options to whatever a repository names
            raise ConfigError(f"HubDock.dvc_remotes: {prefix!r} must be the start of a URL with its host or bucket, such as s3://bucket/.")
        for name, value in options.items():
            if not is_literal(read_secret(str(value)) if name.endswith("_file") else str(value)):
                raise ConfigError(f"HubDock.dvc_remotes: {name!r} of {prefix!r} holds “%(”, which DVC's configuration can't take as it is. Choose another value.")


def _check_origin(trait: str, entry: dict[str, Any], known: set[str], secrets: set[str]) -> None:
    if set(entry) - known or not entry.get("origin") or not any(entry.get(name) for name in secrets):
        raise ConfigError(f"HubDock.{trait}: each entry has an “origin”, “{'” or “'.join(sorted(secrets))}”, and perhaps “username”.")
    try:
        repo = parse_repo_url(f"{entry['origin']}/x")
    except HubDockError as error:
        raise ConfigError(f"HubDock.{trait}: {entry['origin']!r} is no origin such as https://git.example.org. {error.message}") from error
    if repo.origin != entry["origin"]:
        raise ConfigError(f"HubDock.{trait}: write {entry['origin']!r} as {repo.origin!r}.")
    for name in ("password_file", "key_file"):
        if entry.get(name):
            read_secret(str(entry[name]))
