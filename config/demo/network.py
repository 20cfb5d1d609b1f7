"""What this machine knows of its network, as settings of hubdock: its package index, proxies and certificates."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

AUTHORITIES = Path("/usr/local/share/ca-certificates")


def find_network(state: Path, base_is_pulled: bool) -> dict[str, Any]:
    """Return settings of HubDock. Passwords of indexes are written to files below ``state`` that only this user can read."""
    settings = find_indexes(state)
    proxies = {name: os.environ.get(name) or os.environ.get(name.upper()) for name in ("http_proxy", "https_proxy", "no_proxy")}
    if any(proxies.values()):
        settings["proxies"] = {name: value for name, value in proxies.items() if value}
    certificates = sorted(AUTHORITIES.glob("*.crt"))
    if base_is_pulled and certificates:  # make-base puts them into the image that it makes
        bundle = state / "certificates.pem"
        bundle.write_text("\n".join(path.read_text() for path in certificates))
        settings["extra_ca_certificates"] = str(bundle)
    return settings


def find_indexes(state: Path) -> dict[str, Any]:
    """Return the package indexes that pip or uv is set to on this machine."""
    program = Path(__file__).parent.parent / "base-image" / "package-index"
    lines = subprocess.run([sys.executable, str(program)], check=True, capture_output=True, text=True).stdout
    values = dict(word.split("=", 1) for word in shlex.split(lines))
    default = values.get("UV_DEFAULT_INDEX") or values.get("UV_INDEX_URL") or ""
    extra = (values.get("UV_INDEX") or values.get("UV_EXTRA_INDEX_URL") or "").split()
    credentials: list[dict[str, str]] = []
    settings: dict[str, Any] = {}
    if default:
        settings["index_url"] = _split(default, state, credentials)
    if extra:
        settings["extra_index_urls"] = [_split(url, state, credentials) for url in extra]
    if credentials:
        settings["index_credentials"] = credentials
    return settings


def _split(url: str, state: Path, credentials: list[dict[str, str]]) -> str:
    """Return an index's address without its user and password; add those to the credentials."""
    url = re.sub(r"^[\w-]+=(?=https?:)", "", url)  # uv's indexes may have a name
    parts = urlsplit(url)
    if not parts.username:
        return url
    bare = parts._replace(netloc=parts.netloc.rpartition("@")[2])
    path = state / f"index-password-{len(credentials)}"
    path.touch(mode=0o600)
    path.write_text(unquote(parts.password or ""))
    credentials.append({"origin": f"{bare.scheme}://{bare.netloc}", "username": unquote(parts.username), "password_file": str(path)})
    return bare.geturl()
