"""What an API server means that refuses to make something, in words for whoever asked for it.

The texts are those of Kubernetes' admission (ResourceQuota, LimitRanger, PodSecurity, RBAC); one that is not known is handed on without headers and without what was sent.
"""

from __future__ import annotations

import json
import re

from hubdock.core.errors import BackendError, CapacityError, ConfigError, GPUUnavailable, HubDockError, LaunchError
from hubdock.core.resources import format_bytes
from hubdock.core.text import make_plain

_QUOTA = re.compile(r"exceeded quota: (?P<name>[^,]+), requested: (?P<asked>.+?), used: (?P<used>.+?), limited: (?P<limit>.+)$")
_MUST = re.compile(r"failed quota: (?P<name>[^:]+): must specify (?P<what>.+)$")
_RANGE = re.compile(r"(?P<which>maximum|minimum) (?P<what>cpu|memory|[\w./-]+) usage per (?:Container|Pod) is (?P<limit>\S+?), but (?:limit|request) is (?P<asked>\S+?)\.?(?:,|\]|$)")
_QUANTITY = re.compile(r"(\d+(?:\.\d+)?)(m|k|M|G|T|Ki|Mi|Gi|Ti)?")
_WORDS = {"cpu": "CPU", "memory": "memory", "pods": "servers", "persistentvolumeclaims": "workspaces", "storage": "storage", "ephemeral-storage": "disk space"}


def read_message(body: str) -> str:
    """Return the message of an API server's answer: that of its Status object, or the text as it is."""
    try:
        found = json.loads(body)
    except ValueError:
        return body
    return str(found.get("message") or body) if isinstance(found, dict) else body


def explain_refusal(status: int, body: str, what: str = "server") -> HubDockError:
    """Return the error for an answer of the API server, given its status and body. ``what`` was to be made: a server or its workspace, or a build."""
    message = read_message(body)
    found = _explain_quota(message, what) or _explain_range(message) or _explain_policy(message, what)
    if found is not None:
        return found
    if status in {401, 403}:
        return ConfigError("The hub may not start servers in this namespace. Tell an administrator: its service account lacks a permission.", message)
    if status == 404:
        return ConfigError("The namespace of the servers does not exist. Tell an administrator.", message)
    if status in {400, 422}:
        return LaunchError(f"Kubernetes does not accept the {what}: {make_plain(message, 300)}", message)
    return BackendError("The cluster's API server does not answer as it should. Try again in a moment.", f"{status} {message}")


def _explain_quota(message: str, what: str) -> HubDockError | None:
    must = _MUST.search(message)
    if must and what == "build":
        return ConfigError(f"The quota {must['name']} wants every build to have limits: set HubDock.kube_build_resources. Tell an administrator.", message)
    if must:
        return ConfigError(f"The quota {must['name']} wants every server to have limits: set HubDock.default_resources. Tell an administrator.", message)
    found = _QUOTA.search(message)
    if found is None:
        return None
    asked, used, limit = (_read_pairs(found[name]) for name in ("asked", "used", "limit"))
    shown = [
        f"{_show(name, limit.get(name, '?'))} in all, {_show(name, used.get(name, '?'))} in use, {_show(name, value)} asked for" for name, value in asked.items()
    ]  # fmt: skip
    if what == "build":
        return CapacityError(f"The quota of the builds' namespace is full ({'; '.join(shown).replace('servers', 'builds')}). The build starts when others end.", message)
    gpu = any("gpu" in name or "/" in name.removeprefix("requests.") for name in asked)
    text = f"The team's quota is full ({'; '.join(shown)}). The server can start when another one stops{' or without a GPU' if gpu else ''}."
    return GPUUnavailable(text, message, field="gpu") if gpu else CapacityError(text, message)


def _read_pairs(text: str) -> dict[str, str]:
    return {name: value for name, _, value in (pair.partition("=") for pair in text.split(","))}


def _show(name: str, value: str) -> str:
    """Return ``2 GPU``, ``1.5 CPU`` or ``4G memory`` of a quota's resource and its quantity."""
    plain = name.removeprefix("requests.").removeprefix("limits.")
    word = _WORDS.get(plain, "GPU" if plain.endswith("/gpu") else plain)
    return f"{_show_quantity(value, word not in {'CPU', 'GPU', 'servers', 'workspaces'})} {word}"


def _show_quantity(value: str, size: bool) -> str:
    found = _QUANTITY.fullmatch(value)
    if found is None:
        return value
    number, unit = float(found[1]), found[2] or ""
    if unit == "m":
        number, unit = number / 1000, ""
    if size:
        factors = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
        return format_bytes(int(number * factors[unit]))
    return f"{number:g}{unit}"


def _explain_range(message: str) -> HubDockError | None:
    found = _RANGE.search(message)
    if found is None:
        return None
    size = found["what"] == "memory"
    limit, asked = (_show_quantity(found[name], size) for name in ("limit", "asked"))
    most = "most" if found["which"] == "maximum" else "least"
    word = _WORDS.get(found["what"], found["what"])
    return CapacityError(f"The cluster lets a server have at {most} {limit} of {word}; {asked} were asked for. Start it again with another amount.", message)


def _explain_policy(message: str, what: str) -> HubDockError | None:
    found = re.search(r'violates PodSecurity "([^"]+)": (.+)$', message, re.S)
    if found:
        return ConfigError(
            f"The namespace's pod security standard ({found[1]}) refuses the {what}: {make_plain(found[2], 300)}. An administrator changed what {what}s are allowed.", message
        )
    if "admission webhook" in message:
        webhook = re.search(r'admission webhook "([^"]+)" denied the request:? ?(.*)', message, re.S)
        if webhook:
            return ConfigError(f"A policy of the cluster ({webhook[1]}) refuses the {what}: {make_plain(webhook[2], 300)} Tell an administrator.", message)
    return None
